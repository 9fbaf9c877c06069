"""Embeddings keep everything in a file, and a damaged file is said to be one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.data.items import Items
from ssljax.evaluation import Embeddings, Origin, raw_pixels
from ssljax.types import UserError


def some(n=5):
    return Embeddings(
        ids=text(f"item {i}" for i in range(n)),
        vectors=np.random.default_rng(0).standard_normal((n, 3), np.float32),
        columns={"title": text(["", "é漢", "nul\0", '"quoted"\n', "x" * 500][:n]), "label": text("ab" * n)[:n]},
        label=np.arange(n, dtype=np.int32) % 2,
        listing=None,
        photos=text(f"/data/{i}.jpg" for i in range(n)),
    )


def assert_equal(a, b):
    np.testing.assert_array_equal(a.vectors, b.vectors)
    assert a.columns.keys() == b.columns.keys()
    pairs = [(a.ids, b.ids), (a.label, b.label), (a.listing, b.listing), (a.photos, b.photos)]
    for x, y in pairs + [(a.columns[name], b.columns[name]) for name in a.columns]:
        assert (x is None and y is None) or (x.dtype == y.dtype and x.tolist() == y.tolist())


def test_what_is_saved_is_loaded(tmp_path):
    some().save(tmp_path / "new folder" / "test.npz")
    assert_equal(Embeddings.load(tmp_path / "new folder" / "test.npz"), some())
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["test.npz"]


def test_without_the_optional_fields(tmp_path):
    bare = Embeddings(np.array(["a", "b"]), np.ones((2, 2), np.float32))
    bare.save(tmp_path / "x.npz")
    loaded = Embeddings.load(tmp_path / "x.npz")
    assert loaded.columns == {} and loaded.label is None and loaded.photos is None and len(loaded) == 2


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    some().save(path)

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="space"):
        some(2).save(path)
    assert_equal(Embeddings.load(path), some())
    assert len(list(tmp_path.iterdir())) == 1


def test_truncation_anywhere_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    some().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            Embeddings.load(path)


def test_a_changed_byte_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "x.npz"
    some().save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            loaded = Embeddings.load(path)
        except UserError:
            continue
        assert_equal(loaded, some())


@pytest.mark.parametrize("write", ["pickle", "array", "other"])
def test_foreign_files_are_refused(tmp_path, write):
    path = tmp_path / "x.npz"
    with open(path, "wb") as file:
        if write == "pickle":
            np.savez(file, text=np.array([{}], object), vectors=np.ones((1, 1)))
        elif write == "array":
            np.save(file, np.ones(3))
        else:
            np.savez(file, a=np.ones(3))
    with pytest.raises(UserError, match="damaged or holds no embeddings"):
        Embeddings.load(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(UserError, match="there are no embeddings"):
        Embeddings.load(tmp_path / "x.npz")
    with pytest.raises(UserError, match="holds no embeddings"):
        Embeddings.load(tmp_path)


@pytest.mark.parametrize("field", ["label", "photos", "vectors"])
def test_lengths_must_agree(field):
    three = np.zeros(3, np.int32) if field == "label" else np.ones((3, 2), np.float32)
    values = {"vectors": np.ones((2, 2), np.float32)} | {field: three}
    with pytest.raises(UserError, match=f"{field} has 3 rows and ids have 2"):
        Embeddings(np.array(["a", "b"]), **values)


def test_vectors_must_be_finite():
    with pytest.raises(UserError, match="NaN"):
        Embeddings(np.array(["a"]), np.array([[np.nan]], np.float32))


def test_of_items_takes_their_fields_and_paths():
    items = Items(
        ids=text("ab"),
        photos=[Path("/x/a.jpg"), Path("/x/b.jpg")],
        columns={"title": text(["A", "B"])},
        label=np.array([0, 1], np.int32),
    )
    embeddings = Embeddings.of(items.select(np.array([1])), np.ones((1, 4), np.float32))
    assert embeddings.ids.tolist() == ["b"] and embeddings.columns["title"].tolist() == ["B"]
    assert embeddings.label.tolist() == [1] and Path(embeddings.photos[0]).name == "b.jpg"
    pixels = Items(ids=text("a"), photos=[np.zeros((4, 4, 3), np.uint8)])
    assert Embeddings.of(pixels, np.ones((1, 4), np.float32)).photos is None


def test_raw_pixels_have_the_mean_of_the_data_removed():
    photos = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    x = raw_pixels(photos)
    assert x.shape == (6, 48) and x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x[1] - x[0], (photos[1] / 255 - photos[0] / 255).reshape(-1), atol=1e-6)


def test_parquet_keeps_all_and_is_read_by_others(tmp_path):
    import pyarrow.parquet

    path, clash = tmp_path / "x.parquet", {"id": text("abcde"), "listing": text("vwxyz"), "id_": text("fghij")}
    whole = dataclasses.replace(some(), columns=some().columns | clash, origin=Origin("run", "12ab"))
    whole.save(path)
    loaded = Embeddings.load(path)
    assert_equal(loaded, whole)
    assert loaded.origin == whole.origin
    table = pyarrow.parquet.read_table(path)
    assert table["id"].to_pylist() == whole.ids.tolist() and table["vector"].type.list_size == 3
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), whole.vectors)
    Embeddings(text("a"), np.ones((1, 2), np.float32)).save(path)
    assert Embeddings.load(path).columns == {}


def test_damaged_and_foreign_parquet_is_noticed(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "x.parquet"
    some().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 31):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            Embeddings.load(path)
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    with pytest.raises(UserError, match="holds no embeddings"):
        Embeddings.load(path)
    with pytest.raises(UserError, match="there are no embeddings"):
        Embeddings.load(tmp_path / "none.parquet")


def test_joined_are_all_rows_with_blanks_where_a_column_is_missing():
    first = some(3)
    second = Embeddings(text("xy"), np.ones((2, 3), np.float32), {"colour": text(["red", ""])})
    both = Embeddings.joined([first, second])
    assert both.ids.tolist() == [*first.ids, "x", "y"] and both.columns["colour"].tolist() == ["", "", "", "red", ""]
    assert both.label is None and both.photos is None
    assert_equal(Embeddings.joined([first]), first)
    with pytest.raises(UserError, match="more than once"):
        Embeddings.joined([first, first])
    with pytest.raises(UserError, match="different networks"):
        Embeddings.joined([first, dataclasses.replace(second, origin=Origin("run", "12ab"))])
