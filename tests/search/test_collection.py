"""A collection keeps index, items and changes together, over saves, crashes, full disks and second writers."""

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import threading

import numpy as np
import pytest
from search.serve.serving import full_disk

from ssljax.data.atomic_files import save_folder
from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Origin
from ssljax.search import Collection, Exact, open_index, save_collection
from ssljax.types import UserError

DIM = 4
RNG = np.random.default_rng(0)


def vector() -> np.ndarray:
    return RNG.standard_normal(DIM, np.float32)


def some(n: int = 6) -> Embeddings:
    ids = text(f"item {i}" for i in range(n))
    columns = {"title": text(f"Mug {i}" if i else "" for i in range(n)), "id": ids}
    photos = text(f"/shop/{i}.jpg" for i in range(n))
    return Embeddings(
        ids, RNG.standard_normal((n, DIM), np.float32), columns, photos=photos, origin=Origin("run", "ab")
    )


@pytest.fixture
def folder(tmp_path):
    save_collection(tmp_path / "shop", Exact(), some())
    return tmp_path / "shop"


def test_items_are_what_the_embeddings_say(folder):
    shop = Collection.open(folder)
    assert (len(shop), shop.dimensions, shop.origin) == (6, DIM, Origin("run", "ab"))
    assert shop.item("item 1").columns == {"title": "Mug 1", "id": "item 1"}
    assert str(shop.item("item 1").photo) == "/shop/1.jpg"
    assert [shop.item(i).caption(i) for i in ("item 0", "item 1", "none")] == ["item 0", "Mug 1", "none"]
    assert len(open_index(folder)) == 6
    with pytest.raises(UserError, match="opened for searching only"):
        shop.remove("item 1")


def test_similar_items_are_without_the_item_itself(folder):
    shop = Collection.open(folder)
    ids, scores = shop.similar("item 2", 3)
    assert len(ids) == 3 and "item 2" not in ids and (np.diff(scores) <= 0).all()
    assert len(shop.similar("item 2", 100)[0]) == 5
    with pytest.raises(UserError, match="'none'"):
        shop.similar("none", 3)


def test_changes_are_there_again_without_a_save(folder):
    shop, new = Collection.open(folder, to_change=True), vector()
    shop.put("new", new, {"title": "New é漢"}, b"a photo")
    shop.put("item 0", new, {"title": "Replaced"}, replace=True)
    shop.remove("item 3")
    copy = shutil.copytree(folder, folder.parent / "copy")  # as a crash would leave it
    again = Collection.open(copy)
    assert len(again) == 6 and "item 3" not in again
    ids, scores = again.search(new[None], 2)
    assert set(ids[0]) == {"new", "item 0"} and np.allclose(scores, 1)
    assert again.item("new").columns == {"title": "New é漢"} and again.item("new").photo.read_bytes() == b"a photo"
    assert again.item("item 3") == ({}, None)


def test_a_save_takes_the_vectors_from_the_database_and_removed_photos_go(folder):
    shop = Collection.open(folder, to_change=True)
    assert not shop.unsaved
    for i in range(3):
        shop.put(f"new {i}", vector(), {}, b"photo")
    shop.remove("new 1")
    shop.put("new 2", vector(), {}, replace=True)
    assert shop.unsaved and len(list((folder / "photos").iterdir())) == 1
    shop.save()
    assert not shop.unsaved
    shop.close()
    (database,) = folder.glob("items-*")
    with contextlib.closing(sqlite3.connect(database)) as items:
        assert items.execute("SELECT count(*), count(vector) FROM items").fetchone() == (8, 0)
    again = Collection.open(folder, to_change=True)
    assert len(again) == 8 and not again.unsaved
    again.close()
    assert len(list(folder.glob("items-*"))) == 1


def test_what_is_refused_changes_nothing(folder):
    shop = Collection.open(folder, to_change=True)
    bad = np.full(DIM, np.nan, np.float32)
    for id, x, replace in (("item 1", vector(), False), ("new", bad, False), ("item 1", bad, True), ("", bad, False)):
        with pytest.raises(UserError):
            shop.put(id, x, {}, b"photo", replace=replace)
    with pytest.raises(UserError):
        shop.put("new", np.ones(DIM + 1, np.float32), {})
    with pytest.raises(UserError):
        shop.remove("none")
    assert not shop.unsaved and len(shop) == 6 and not list(folder.glob("photos/*"))
    shop.close()


def test_a_full_disk_changes_nothing_and_the_next_change_is_kept(folder):
    shop, before = Collection.open(folder, to_change=True), vector()
    shop.put("mine", before, {"title": "before"})
    for act in (
        lambda: shop.put("new", vector(), {}),
        lambda: shop.put("new", vector(), {}, b"photo" * 1000),
        lambda: shop.put("mine", vector(), {"title": "after"}, replace=True),
        lambda: shop.remove("item 0"),
    ):
        with full_disk(), pytest.raises(OSError, match=r"cannot be written|File too large"):
            act()
    assert len(shop) == 7 and shop.item("mine").columns == {"title": "before"} and not list(folder.glob("photos/*"))
    assert shop.search(before[None], 1)[1][0, 0] == pytest.approx(1)
    shop.put("later", vector(), {})
    shop.close()
    again = Collection.open(folder)
    assert len(again) == 8 and {"later", "mine", "item 0"} <= {i for i in again.search(before[None], 8)[0][0]}


def test_a_save_that_fails_keeps_the_changes(folder, monkeypatch):
    shop = Collection.open(folder, to_change=True)
    shop.put("new", vector(), {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            shop.save()
    assert shop.unsaved
    shop.put("after", vector(), {})
    assert {"new", "after"} <= set(Collection.open(folder).search(np.ones((1, DIM)), 9)[0][0])
    shop.save()
    shop.close()
    assert len(Collection.open(folder)) == 8


def test_a_change_that_was_cut_off_is_no_change_and_those_before_it_are_kept(folder):
    shop = Collection.open(folder, to_change=True)
    log = next(folder.glob("items-*.db-wal"))
    sizes = [log.stat().st_size]
    for i in range(4):
        shop.put(f"new {i}", vector(), {"title": str(i)})
        sizes.append(log.stat().st_size)
    for n, end in enumerate(sizes):
        for cut in {end, *(end + 1 + RNG.integers(0, sizes[n + 1] - end - 1, 5) if n < 4 else [])}:
            copy = shutil.copytree(folder, folder.parent / f"cut {cut}")
            with open(copy / log.name, "rb+") as file:
                file.truncate(cut)
            for to_change in (False, True):
                with contextlib.closing(Collection.open(copy, to_change=to_change)) as again:
                    assert len(again) == 6 + n and all(f"new {i}" in again for i in range(n)), (n, cut)
    shop.close()


def test_a_damaged_database_is_refused_in_a_sentence(folder):
    (path,) = folder.glob("items-*.db")
    whole = path.read_bytes()
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.execute("CREATE TABLE other (id TEXT)")
        foreign = other.serialize()
    fewer = database_of_other_items(folder)
    for damaged in (b"", b"no database", whole[:5000], whole[:4096] + b"x" * 4096 + whole[8192:], foreign, fewer):
        path.write_bytes(damaged)
        for to_change in (False, True):
            with pytest.raises(UserError, match="build the index anew"):
                Collection.open(folder, to_change=to_change)
    path.unlink()
    with pytest.raises(UserError, match="its database of items, is missing"):
        Collection.open(folder)


def database_of_other_items(folder) -> bytes:
    """A database that has an item more than the index."""
    save_collection(folder.parent / "other", Exact(), some(7))
    (path,) = (folder.parent / "other").glob("items-*.db")
    return path.read_bytes()


def test_a_folder_of_the_format_before_sqlite_is_refused_and_replaced(folder):
    index, old = open_index(folder), folder.parent / "old"
    save_folder(old, index.facts | {"origin": None, "journal": 1}, index.write)
    (old / "changes-1.jsonl").write_text("")
    with pytest.raises(UserError, match=r"older version of ssljax.*build the index anew"):
        Collection.open(old)
    save_collection(old, Exact(), some(3))
    assert len(Collection.open(old)) == 3 and not list(old.glob("changes-*"))


def test_what_is_found_is_known_while_items_come_and_go(folder):
    shop, wrong, done = Collection.open(folder, to_change=True), [], threading.Event()

    def search():
        while not done.is_set():
            for id in shop.search(np.ones((1, DIM)), 50)[0][0]:
                title = shop.item(id).columns.get("title")
                if title not in (f"title of {id}", None) or (title is None and id in shop):
                    wrong.append((id, title))

    for i in range(6):
        shop.remove(f"item {i}")
    searchers = [threading.Thread(target=search) for _ in range(2)]
    for thread in searchers:
        thread.start()
    for i in range(150):
        shop.put(f"new {i}", vector(), {"title": f"title of new {i}"})
        if i % 3 == 2:
            shop.put(f"new {i - 1}", vector(), {"title": f"title of new {i - 1}"}, replace=True)
            shop.remove(f"new {i - 2}")
        if i % 40 == 39:
            shop.save()
    done.set()
    for thread in searchers:
        thread.join()
    shop.close()
    assert not wrong


def test_one_may_change_it_at_a_time_and_all_may_search(folder):
    shop = Collection.open(folder, to_change=True)
    for act in (lambda: Collection.open(folder, to_change=True), lambda: save_collection(folder, Exact(), some())):
        with pytest.raises(UserError, match="being changed by another process"):
            act()
    shop.put("new", vector(), {})
    assert "new" in Collection.open(folder)
    shop.close()
    save_collection(folder, Exact(), some(3))
    assert len(Collection.open(folder)) == 3


def test_what_is_no_collection_is_said(tmp_path):
    for to_change in (False, True):
        with pytest.raises(UserError, match="is not there"):
            Collection.open(tmp_path / "none", to_change=to_change)
    Exact().build(["a"], np.ones((1, DIM))).save(tmp_path / "index")
    with pytest.raises(UserError, match="an index but no items"):
        Collection.open(tmp_path / "index")


def test_whatever_happens_it_is_what_a_dictionary_would_be(folder):
    choose, there = (
        random.Random(1),
        {f"item {i}": ({"title": f"Mug {i}" if i else "", "id": f"item {i}"}) for i in range(6)},
    )
    shop = Collection.open(folder, to_change=True)
    for step in range(300):
        id, act = (
            f"item {choose.randrange(12)}",
            choose.choice(["put", "put", "replace", "remove", "remove", "save", "open"]),
        )
        if act == "save":
            shop.save()
        elif act == "open":
            if choose.random() < 0.5:
                shop.save()
            shop.close()
            shop = Collection.open(folder, to_change=True)
        elif act == "remove" and id in there:
            shop.remove(id)
            del there[id]
        elif act != "remove" and (id not in there or act == "replace"):
            shop.put(
                id, vector(), {"step": str(step)}, b"x" if choose.random() < 0.5 else None, replace=act == "replace"
            )
            there[id] = {"step": str(step)}
        assert len(shop) == len(there)
    shop.close()
    again = Collection.open(folder)
    assert {id: again.item(id).columns for id in again.search(np.ones((1, DIM)), 20)[0][0]} == there
