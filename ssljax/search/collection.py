"""A collection: an index, what is known of its items, and the run that embeds for it; in a folder that loses nothing.

    save_collection("shop.index", ScaNN(), embeddings)
    shop = Collection.open("shop.index", to_change=True)
    ids, scores = shop.search(queries, k=10)
    shop.put("new", vector, {"title": "Red mug"}, photo); shop.remove("old")
    shop.save(); shop.close()

manifest.json, data-*/   the index and items.jsonl, saved together in one step (`ssljax.data.atomic_files`)
changes-<n>.jsonl        changes since: each is on the disk before it counts, so that a crash loses none of them
photos/                  those of items that were put; all others stay where the catalogue has them
lock                     held by who may change it

The folder may be moved, and `open_index` opens it too, as it was saved last.
"""

import base64
import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.atomic_files import (
    CLAIM,
    claimed,
    locked,
    open_folder,
    open_regular,
    read_as,
    replace_file,
    save_folder,
)
from ssljax.evaluation.embeddings import Embeddings, Origin
from ssljax.search.index import KINDS, Builder, Index
from ssljax.types import Array, UserError

ITEMS, PHOTOS = "items.jsonl", "photos"
LONGEST_ID = 4096  # bytes in UTF-8: an id is part of an address, which servers and proxies do not take at any length
CHANGES = re.compile(r"changes-(\d+)\.jsonl")


class Item(NamedTuple):
    """What is known of an item."""

    columns: dict[str, str]
    photo: Path | None
    """where its photo lies, or lay; None if it has none"""

    def caption(self, id: str) -> str:
        """Its title, or else its id."""
        return self.columns.get("title") or id


def save_collection(folder: Path, builder: Builder, embeddings: Embeddings) -> None:
    """Builds an index of embeddings and saves it as a collection, in place of one that is there.

    Raises UserError if the ids or vectors are no good, other files are there, or another process is changing it.
    """
    for id in embeddings.ids:
        _check_id(id)
    index = builder.build(embeddings.ids, embeddings.vectors)
    photos = [None] * len(embeddings) if embeddings.photos is None else embeddings.photos
    names, values = list(embeddings.columns), list(embeddings.columns.values())
    columns = zip(*values, strict=True) if names else [()] * len(embeddings)
    records = {
        id: _record(id, photo, dict(zip(names, row, strict=True)))
        for id, photo, row in zip(embeddings.ids, photos, columns, strict=True)
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        number = max(_journals(folder), default=0) + 1
        _save(folder, index, records, embeddings.origin, number)
        _forget_journals(folder, before=number)
        _forget_photos(folder, records)


class Collection:
    """An open collection. Any number of threads may search it while others change it; changes take turns.

    Ids are texts. A change that raises has changed nothing.

    `title` may be set to the column that holds the titles of items without a column "title".
    """

    title: str | None = None

    def __init__(self, folder: Path, index: Index, records: dict[str, str], origin: Origin | None):
        self.folder, self.origin = Path(folder), origin
        self._index, self._records = index, records
        self._changing, self._saving = threading.Lock(), threading.Lock()
        self._journal: _Journal | None = None
        self._unsaved = False

    @classmethod
    def open(cls, folder: Path, *, to_change: bool = False) -> "Collection":
        """What is in a folder, with all changes; raises UserError if it is no collection, or damaged.

        `to_change` claims it, until `close`: UserError if another process has it.
        """
        folder, claim = Path(folder), contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            if to_change and folder.is_dir():
                claim.enter_context(claimed(folder))
                undo.push(claim)
            with locked(folder, exclusive=False):
                facts, data = open_folder(folder)
                if "journal" not in facts:
                    raise UserError(f"{folder} holds an index without what is known of its items; build the index anew")
                index = Index.read(facts, data, KINDS)
                with read_as("index", folder, "build the index anew"):
                    with open(data / ITEMS, encoding="ascii") as lines:
                        records = {_read_record(line)[0]: line for line in lines}
                    collection = cls(folder, index, records, _origin(facts))
                    journals = {n: path for n, path in sorted(_journals(folder).items()) if n >= facts["journal"]}
                changes = [change for path in journals.values() for change in _read_journal(path)]
            with read_as("changes", folder, "put it back from a backup"):
                collection._replay(changes)
            if to_change:
                number = max(_journals(folder), default=facts["journal"]) + 1
                if not changes:
                    with locked(folder, exclusive=True):  # nobody is reading them
                        _forget_journals(folder, before=number)
                collection._unsaved = bool(changes)
                collection._journal = _Journal(folder, number, claim)
                _forget_photos(folder, collection._records)
            undo.pop_all()
            return collection

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, id: str) -> bool:
        return id in self._index

    @property
    def dimensions(self) -> int:
        """D of the vectors."""
        return self._index.stats["dimensions"]

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that only the journal holds."""
        return self._unsaved

    def item(self, id: str) -> Item:
        """What is known of an item; nothing, if there is no such item (any more)."""
        record = self._records.get(id)
        if record is None:
            return Item({}, None)
        _, photo, columns = _read_record(record)
        if self.title in columns and not columns.get("title"):
            columns["title"] = columns[self.title]
        return Item(columns, None if photo is None else self.folder / photo)  # an absolute path stays what it is

    def search(self, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Index.search`."""
        if isinstance(k, int) and k > 0:  # the next power of two is asked for: XLA compiles for each k
            ids, scores = self._index.search(queries, 1 << (k - 1).bit_length())
            return ids[:, :k], scores[:, :k]
        return self._index.search(queries, k)

    def similar(self, id: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids object[K] and scores f32[K] of the items that are nearest to one of them, itself left out.

        Raises UserError if there is no such item.
        """
        ids, scores = self.search(self._index.vectors_of([id]), k + 1)
        others = np.array([other != id for other in ids[0]], bool)  # NumPy would take "a" and "a\0" for the same
        return ids[0][others][:k], scores[0][others][:k]

    def put(
        self,
        id: str,
        vector: Array,
        columns: dict[str, str],
        photo: bytes | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Adds an item, or with `replace` puts it in the place of one; it is on the disk when this returns.

        Args:
          id: text that is not blank, of at most LONGEST_ID bytes.
          vector: [D], finite.
          columns: what is to be known of it.
          photo: an image file, of which a copy is kept.
          replace: whether there may be such an item.

        Raises:
          UserError: the id is taken or no good, or the vector is no good.
          OSError: the disk takes no more.
        """
        vector = np.asarray(vector)
        _check_id(id)
        with self._changing:
            journal = self._changeable()
            before = self._index.vectors_of([id]) if replace and id in self._index else None
            name, old = None if photo is None else f"{PHOTOS}/{secrets.token_hex(16)}", self._records.get(id)
            try:
                if photo is not None:
                    replace_file(self.folder / name, lambda file: file.write(photo))
                self._records[id] = _record(id, name, columns)  # before a search can find it
                self._index.add([id], vector[None], replace=replace)
                try:
                    bits = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
                    journal.append({"put": id, "vector": bits, "photo": name, "columns": columns})
                except BaseException:
                    if before is None:
                        self._index.remove([id])
                    else:
                        self._index.add([id], before, replace=True)
                    raise
            except BaseException:
                if name is not None:
                    (self.folder / name).unlink(missing_ok=True)
                if old is None:
                    self._records.pop(id, None)
                else:
                    self._records[id] = old
                raise
            self._unsaved = True
            self._forget_photo(old)

    def remove(self, id: str) -> None:
        """Removes an item; raises UserError if there is none, OSError if the disk takes no more."""
        with self._changing:
            journal = self._changeable()
            self._index.vectors_of([id])  # raises if it is not there
            journal.append({"remove": id})
            self._unsaved = True
            self._index.remove([id])
            self._forget_photo(self._records.pop(id, None))

    def save(self) -> None:
        """Saves what there is, if anything changed; searches and changes go on meanwhile.

        Raises OSError if writing fails: what was saved before is whole then, and the journal has the rest.
        """
        with self._saving:
            with self._changing:
                journal = self._changeable()
                if not self._unsaved:
                    return
                # Changes from now on go to the next journal. The index that is saved may have some of them already:
                # to make them again does not matter.
                records, number = dict(self._records), journal.next()
                self._unsaved = False
            try:
                _save(self.folder, self._index, records, self.origin, number)
            except BaseException:
                self._unsaved = True
                raise
            _forget_journals(self.folder, before=number)

    def close(self) -> None:
        """Lets others change it; what is not saved is in the journal. It can still be searched."""
        with self._changing:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _changeable(self) -> "_Journal":
        if self._journal is None:
            raise UserError(f"{self.folder} was opened to be searched only: open it with to_change=True")
        return self._journal

    def _forget_photo(self, record: str | None) -> None:
        """Deletes the copy of the photo of an item that was, if we made one."""
        if record is not None:
            photo = json.loads(record)[1]
            if photo is not None and _is_copy(photo):
                (self.folder / photo).unlink(missing_ok=True)

    def _replay(self, changes: list[dict[str, Any]]) -> None:
        """Makes changes of a journal (again): of each item only the last one counts."""
        last = {change.get("put", change.get("remove")): change for change in changes}
        gone = [id for id, change in last.items() if "remove" in change]
        there = {id: change for id, change in last.items() if "put" in change}
        self._index.remove([id for id in gone if id in self._index])
        for id in gone:
            self._records.pop(id, None)
        if there:
            vectors = np.stack([np.frombuffer(base64.b64decode(c["vector"]), "<f4") for c in there.values()])
            self._index.add(list(there), vectors, replace=True)
            self._records |= {id: _record(id, c["photo"], c["columns"]) for id, c in there.items()}


class _Journal:
    """Changes, a line of JSON each; it holds the claim to the folder."""

    def __init__(self, folder: Path, number: int, claim: contextlib.ExitStack):
        self._folder, self._claim = folder, claim
        self._open(number)

    def _open(self, number: int) -> None:
        path = self._folder / f"changes-{number}.jsonl"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        self._number, self._broken = number, False
        if os.name == "posix":  # the name of the file has to be on the disk as well
            handle = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def append(self, change: dict[str, Any]) -> None:
        """Returns once it is on the disk; raises OSError if it is not."""
        if self._broken:
            raise OSError(errno.EIO, "the journal of changes cannot be written")
        end = os.lseek(self._handle, 0, os.SEEK_END)
        line = json.dumps(change).encode() + b"\n"
        try:
            if os.write(self._handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._handle)
        except BaseException:
            self._broken = True  # until the half of a line is gone, which the next one would make unreadable
            os.ftruncate(self._handle, end)
            self._broken = False
            raise

    def next(self) -> int:
        """Begins another file, and gives its number."""
        before = self._handle
        self._open(self._number + 1)
        os.close(before)
        return self._number

    def close(self) -> None:
        """Ends the claim."""
        os.close(self._handle)
        self._claim.close()


def _read_journal(path: Path) -> list[dict[str, Any]]:
    """Its changes, without one that was cut off: that was never answered."""
    with open_regular(path) as file:
        *lines, _ = file.read().split(b"\n")
    try:
        return [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: put it back from a backup, or delete it to lose its changes") from None


def _journals(folder: Path) -> dict[int, Path]:
    found = {path: CHANGES.fullmatch(path.name) for path in Path(folder).iterdir()}
    return {int(match[1]): path for path, match in found.items() if match}


def _forget_journals(folder: Path, *, before: int) -> None:
    for number, path in _journals(folder).items():
        if number < before:
            path.unlink(missing_ok=True)


def _forget_photos(folder: Path, records: dict[str, str]) -> None:
    """Deletes copies that no item has: left by what was not finished, or of a collection that was replaced."""
    if (Path(folder) / PHOTOS).is_dir():
        kept = {json.loads(record)[1] for record in records.values()}
        for path in (Path(folder) / PHOTOS).iterdir():
            if f"{PHOTOS}/{path.name}" not in kept:
                path.unlink(missing_ok=True)


def _check_id(id: str) -> None:
    try:
        size = len(str(id).encode())
    except UnicodeEncodeError:
        raise UserError(f"id {id!r} has half of a character, which cannot be written") from None
    if size > LONGEST_ID:
        raise UserError(f"id {id[:50]!r}... has {size:,} bytes: an id has at most {LONGEST_ID:,}")


def _is_copy(photo: str) -> bool:
    return re.fullmatch(rf"{PHOTOS}/[0-9a-f]{{32}}", photo) is not None


def _read_record(record: str) -> tuple[str, str | None, dict[str, str]]:
    id, photo, columns = json.loads(record)
    if not isinstance(id, str) or not isinstance(photo, str | None) or not isinstance(columns, dict):
        raise ValueError(f"{ITEMS} has a line that is no item")
    return id, photo, columns


def _record(id: str, photo: str | None, columns: dict[str, str]) -> str:
    """A line of items.jsonl. Kept as text, a million of them take a third of the memory that they would as objects."""
    return json.dumps([id, photo, columns]) + "\n"


def _origin(facts: dict[str, Any]) -> Origin | None:
    return Origin(**facts["origin"]) if facts["origin"] else None


def _save(folder: Path, index: Index, records: dict[str, str], origin: Origin | None, journal: int) -> None:
    """Changes in journals from this number on are not in what is saved, or can be made again."""

    def write(data: Path) -> None:
        index.write(data)
        with open(data / ITEMS, "w", encoding="ascii") as file:
            file.writelines(records.values())

    facts = index.facts | {"origin": origin and dataclasses.asdict(origin), "journal": journal}
    save_folder(folder, facts, write, beside=_beside)


def _beside(name: str) -> bool:
    return name in (PHOTOS, CLAIM) or CHANGES.fullmatch(name) is not None
