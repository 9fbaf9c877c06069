"""A collection: an index, what is known of its items, and which run embeds for it, in a folder that loses nothing.

    save_collection("shop.index", ScaNN(), embeddings)
    shop = Collection.open("shop.index", to_change=True)
    ids, scores = shop.search(queries, k=10)
    shop.put("new", vector, {"title": "Red mug"}, photo); shop.remove("old")
    shop.save(); shop.close()

    manifest.json, data-*/   the index as it was saved last, replaced in one step (`ssljax.data.atomic_files`)
    items-*.db               SQLite: every item, and the vectors of those that the saved index lacks
    photos/                  photos of items that were put; all others stay where the catalogue has them
    lock                     held by the process that may change the folder

The database decides which items there are. A change is one transaction, on the disk before it counts; opening brings
the saved index up to date. The folder may be moved. `open_index` opens only the saved index.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.data.atomic_files import CLAIM, claimed, locked, open_folder, read_as, replace_file, save_folder
from ssljax.evaluation.embeddings import Embeddings, Origin
from ssljax.search.index import KINDS, Builder, Index
from ssljax.types import Array, UserError

Vector = Array | np.ndarray
PHOTOS = "photos"
AT_ONCE = 1000  # items of a query: SQLite has a limit
LONGEST_ID = 4096  # bytes in UTF-8: an id is part of an address, and servers and proxies limit those
DATABASE = re.compile(r"items-[0-9a-f]{16}\.db")
# SQLite's own files beside it; and what the format before SQLite had, which may be overwritten
REPLACED = re.compile(rf"{DATABASE.pattern}(-wal|-shm|-journal)?|changes-\d+\.jsonl")
COPY = re.compile(rb"photos/[0-9a-f]{32}")
COLUMNS = "items (id, columns, photo, vector)"
TABLE = """
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- a new, larger one with every change of the item
    id TEXT NOT NULL UNIQUE,
    columns TEXT NOT NULL CHECK (json_type(columns) = 'object'),
    photo BLOB,  -- its path, from this folder if we hold a copy
    vector BLOB  -- float32, little-endian; NULL once the saved index has it
) STRICT
"""


class Item(NamedTuple):
    """What is known of an item."""

    columns: dict[str, str]
    photo: Path | None
    """where its photo is, or was; None if it has none"""

    def caption(self, id: str) -> str:
        """Its title, or else its id."""
        return self.columns.get("title") or id


def save_collection(folder: Path, builder: Builder, embeddings: Embeddings) -> None:
    """Builds an index of embeddings and saves it as a collection, replacing one that is there.

    Raises UserError if an id or a vector is invalid, the folder holds other files, or another process is changing it.
    """
    for id in embeddings.ids:
        _check_id(id)
    index = builder.build(embeddings.ids, embeddings.vectors)
    folder, name = Path(folder), f"items-{secrets.token_hex(8)}.db"
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        try:
            with _raising_os_errors(folder / name), contextlib.closing(_connect(folder / name, "mode=rwc")) as items:
                items.execute("PRAGMA journal_mode = WAL")
                items.execute(TABLE)
                with items:
                    items.executemany(f"INSERT INTO {COLUMNS} VALUES (?, ?, ?, NULL)", _rows(embeddings))
            _save(folder, index, embeddings.origin, name)
        except BaseException:
            _delete(folder, lambda other: other.startswith(name))
            raise
        _delete(folder, lambda other: not other.startswith(name))
        shutil.rmtree(folder / PHOTOS, ignore_errors=True)  # copies that the collection before had


class Collection:
    """An open collection. Any number of threads may search it while others change it; changes take turns.

    Ids are text. A change that raises has changed nothing.

    `title` may be set to the column that holds the titles of items without a column "title". `index` is to be read.
    """

    title: str | None = None

    def __init__(self, folder: Path, index: Index, items: sqlite3.Connection, origin: Origin | None):
        self.folder, self.origin = Path(folder), origin
        self.index, self._items = index, items
        self._reading = threading.Lock()  # of a statement: threads share the connection
        self._changing, self._saving = threading.Lock(), threading.Lock()
        self._database: sqlite3.Connection | None = None  # to write; None if it may not be changed
        self._name, self._unsaved = "", False
        self._claim = contextlib.ExitStack()

    @classmethod
    def open(cls, folder: Path, *, to_change: bool = False) -> "Collection":
        """The collection in a folder, with all changes.

        With `to_change` this process alone may change it, until `close`. Otherwise it stays as it was when opened.
        Raises UserError if the folder holds no collection, is damaged, or another process is changing it.
        """
        folder = Path(folder)
        with contextlib.ExitStack() as undo:
            if to_change and folder.is_dir():
                undo.enter_context(claimed(folder))
            # A writer waits for readers: with no -wal file they read the database as if it never changed.
            with locked(folder, exclusive=to_change):
                facts, data = open_folder(folder)
                path = _database(folder, facts)
                index = Index.read(facts, data, KINDS)
                with read_as("items", path, "build the index anew"):
                    mode = "mode=rw" if to_change else _reading(path)
                    items = undo.enter_context(contextlib.closing(_connect(path, mode)))
                    unsaved = _bring_up_to_date(index, items)
                    origin = Origin(**facts["origin"]) if facts["origin"] else None
                    collection = cls(folder, index, items if to_change else _in_memory(items), origin)
                if to_change:
                    collection._database = undo.enter_context(contextlib.closing(_connect(path, "mode=rw")))
                    collection._name, collection._unsaved = path.name, unsaved
                    _delete_photos(folder, items)
                    collection._claim = undo.pop_all()
            return collection

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, id: str) -> bool:
        return bool(self._rows([id]))

    @property
    def dimensions(self) -> int:
        """D of the vectors."""
        return self.index.stats["dimensions"]

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that the saved index lacks."""
        return self._unsaved

    def item(self, id: str) -> Item:
        """What is known of an item; nothing if there is no such item."""
        return self.items([id]).get(id, Item({}, None))

    def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """What is known of those of the items that there are."""
        known = {}
        for id, text, photo in self._rows(ids):
            columns = json.loads(text)
            if self.title in columns and not columns.get("title"):
                columns["title"] = columns[self.title]
            known[id] = Item(columns, None if photo is None else self.folder / _text(photo))
        return known

    def search(self, queries: Vector, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Index.search`."""
        if isinstance(k, int) and k > 0:  # asks for the next power of two: XLA compiles for each k
            ids, scores = self.index.search(queries, 1 << (k - 1).bit_length())
            return ids[:, :k], scores[:, :k]
        return self.index.search(queries, k)

    def similar(self, id: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids object[K] and scores f32[K] of the items nearest to an item, without the item itself.

        Raises UserError if there is no such item.
        """
        ids, scores = self.search(self.index.vectors_of([id]), k + 1)
        others = np.array([other != id for other in ids[0]], bool)  # NumPy would take "a" and "a\0" for the same
        return ids[0][others][:k], scores[0][others][:k]

    def put(
        self, id: str, vector: Vector, columns: dict[str, str], photo: bytes | None = None, *, replace: bool = False
    ) -> None:
        """Adds an item, or with `replace` replaces one; it is on the disk when this returns.

        Args:
          id: text, not blank, at most LONGEST_ID bytes.
          vector: [D], finite.
          columns: what is known of it.
          photo: an image file, of which a copy is kept.
          replace: whether there may be such an item.

        Raises:
          UserError: the id is taken or invalid, or the vector is invalid.
          OSError: the disk is full or fails.
        """
        vector = np.asarray(vector)
        _check_id(id)
        with self._changing:
            database = self._changeable()
            self.index.check_addable([id], vector[None], replace=replace)
            old, name = self._rows([id]), None if photo is None else f"{PHOTOS}/{secrets.token_hex(16)}"
            row = id, json.dumps(columns), _bytes(name), vector.astype("<f4").tobytes()
            try:
                if photo is not None and name is not None:
                    replace_file(self.folder / name, lambda file: file.write(photo))
                with _raising_os_errors(self.folder), database:
                    database.execute(f"INSERT OR REPLACE INTO {COLUMNS} VALUES (?, ?, ?, ?)", row)
            except BaseException:
                if name is not None:
                    (self.folder / name).unlink(missing_ok=True)
                raise
            self._unsaved = True
            self.index.add([id], vector[None], replace=replace)  # last: whatever a search finds is known
            self._delete_photos(old)

    def remove(self, id: str) -> None:
        """Removes an item; raises UserError if there is none, OSError if the disk is full or fails."""
        with self._changing:
            database, old = self._changeable(), self._rows([id])
            self.index.vectors_of([id])  # raises if it is not there
            with _raising_os_errors(self.folder), database:
                database.execute("DELETE FROM items WHERE id = ?", (id,))
            self._unsaved = True
            self.index.remove([id])
            self._delete_photos(old)

    def save(self) -> None:
        """Saves the index, if anything changed; searches and changes go on meanwhile.

        Raises OSError if writing fails: then the index saved before stays, and the database has the changes since.
        """
        with self._saving:
            with self._changing:
                database = self._changeable()
                if not self._unsaved:
                    return
                (last,) = database.execute("SELECT max(number) FROM items").fetchone()
                self._unsaved = False
            try:
                _save(self.folder, self.index, self.origin, self._name)
                # The saved index may have later changes too; opening makes those again, which does not matter.
                with self._changing, _raising_os_errors(self.folder), database:
                    database.execute("UPDATE items SET vector = NULL WHERE number <= ? AND vector IS NOT NULL", (last,))
            except BaseException:
                self._unsaved = True
                raise

    def close(self) -> None:
        """Lets others change the collection. It can still be searched, as it is now."""
        with self._saving, self._changing, self._reading:
            if self._database is not None:
                self._items, self._database = _in_memory(self._items), None
                self._claim.close()

    def _changeable(self) -> sqlite3.Connection:
        if self._database is None:
            raise UserError(f"{self.folder} was opened for searching only: open it with to_change=True")
        return self._database

    def _rows(self, ids: Sequence[str]) -> list[tuple[str, str, bytes | None]]:
        """Ids, columns as JSON, and paths of photos of those of the items that there are."""
        rows = []
        ids = [id for id in ids if isinstance(id, str) and _is_valid(id)]  # SQLite would take 1 for "1"
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            query = f"SELECT id, columns, photo FROM items WHERE id IN ({', '.join('?' * len(some))})"
            with _raising_os_errors(self.folder), self._reading:
                rows += self._items.execute(query, some).fetchall()
        return rows

    def _delete_photos(self, rows: list[tuple[str, str, bytes | None]]) -> None:
        """Deletes the photos of items that were, if they are copies of ours."""
        for _, _, photo in rows:
            if photo is not None and COPY.fullmatch(photo):
                (self.folder / _text(photo)).unlink(missing_ok=True)


def _rows(embeddings: Embeddings) -> Iterator[tuple[str, str, bytes | None]]:
    """Id, columns as JSON, and the path of the photo of each item."""
    names, count = list(embeddings.columns), len(embeddings)
    columns = zip(*embeddings.columns.values(), strict=True) if names else [()] * count
    photos = [None] * count if embeddings.photos is None else embeddings.photos
    for id, values, photo in zip(embeddings.ids, columns, photos, strict=True):
        yield str(id), json.dumps(dict(zip(names, values, strict=True))), _bytes(photo)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    items = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=30, check_same_thread=False)
    items.execute("PRAGMA synchronous = FULL")  # a commit is on the disk: not every build has it as the default
    return items


def _reading(path: Path) -> str:
    """How to open a database to read, even in a read-only folder: after a clean end it has no -wal file."""
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists() and not index.exists() and not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} was not closed, and {index.name} is missing: open it once where it can be written")
    return "mode=ro" if log.exists() else "immutable=1"


def _in_memory(items: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    items.backup(copy)
    return copy


@contextlib.contextmanager
def _raising_os_errors(path: Path) -> Iterator[None]:
    """Raises what SQLite says of the disk as OSError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"the database of items cannot be written or read: {error}", str(path)) from error


def _database(folder: Path, facts: dict) -> Path:
    name = facts.get("items")
    if "journal" in facts:
        raise UserError(f"{folder} was written by an older version of ssljax, without SQLite: build the index anew")
    if name is None:
        raise UserError(f"{folder} holds an index but no items: build the index anew")
    if not (isinstance(name, str) and DATABASE.fullmatch(name) and (folder / name).is_file()):
        raise UserError(f"{folder} is damaged: {name}, its database of items, is missing; build the index anew")
    return folder / name


def _bring_up_to_date(index: Index, items: sqlite3.Connection) -> bool:
    """Makes the changes since the index was saved; tells whether there were any."""
    (said,) = items.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise ValueError(said)
    there = {id for (id,) in items.execute("SELECT id FROM items")}
    gone = [id for id in index.ids if id not in there]
    index.remove(gone)
    new = dict(items.execute("SELECT id, vector FROM items WHERE vector IS NOT NULL"))
    if new:
        index.add(list(new), np.stack([np.frombuffer(vector, "<f4") for vector in new.values()]), replace=True)
    if len(index) != len(there):
        raise ValueError(f"{len(there)} items, and vectors of {len(index)}")
    return bool(gone or new)


def _delete(folder: Path, is_one: Callable[[str], bool]) -> None:
    """Deletes databases by their names, with what lies beside them."""
    for path in list(folder.iterdir()):
        if REPLACED.fullmatch(path.name) and is_one(path.name):
            path.unlink(missing_ok=True)


def _delete_photos(folder: Path, items: sqlite3.Connection) -> None:
    """Deletes copies that no item has, left by a process that was killed."""
    if (folder / PHOTOS).is_dir():
        kept = {_text(photo) for (photo,) in items.execute("SELECT photo FROM items WHERE photo IS NOT NULL")}
        for path in (folder / PHOTOS).iterdir():
            if f"{PHOTOS}/{path.name}" not in kept:
                path.unlink(missing_ok=True)


def _check_id(id: str) -> None:
    if not _is_valid(str(id)):
        raise UserError(f"id {id!r} has half of a character, which cannot be written")
    if (size := len(str(id).encode())) > LONGEST_ID:
        raise UserError(f"id {id[:50]!r}... has {size:,} bytes: an id has at most {LONGEST_ID:,}")


def _is_valid(id: str) -> bool:
    """Whether it can be written as UTF-8, as half of a surrogate pair cannot."""
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(path: str | None) -> bytes | None:
    """A path for the database, whose text could not hold what is no UTF-8 in it."""
    return None if path is None else path.encode("utf-8", "surrogatepass")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogatepass")


def _save(folder: Path, index: Index, origin: Origin | None, database: str) -> None:
    facts = index.facts | {"origin": origin and dataclasses.asdict(origin), "items": database}
    save_folder(
        folder, facts, index.write, beside=lambda name: name in (PHOTOS, CLAIM) or bool(REPLACED.fullmatch(name))
    )
