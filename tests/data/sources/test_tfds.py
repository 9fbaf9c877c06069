import io
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from ssljax.data.sources.tfds import TFDS
from ssljax.types import UserError

tfds = pytest.importorskip("tensorflow_datasets")
ArrayRecordDataSource = pytest.importorskip("tensorflow_datasets.core.data_sources.array_record").ArrayRecordDataSource


class Swatches(tfds.core.GeneratorBasedBuilder):
    """Images of one colour, and what else a data set may hold. Images come encoded, so that no TensorFlow is needed."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "pixels": tfds.features.Tensor(shape=(2, 2, 3), dtype=np.uint8),
            "label": tfds.features.ClassLabel(names=["dark", "light", "unused"]),
            "title": tfds.features.Text(),
            "year": np.int64,
            "boxes": tfds.features.Sequence({"x": np.int64}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(6), "validation": self._generate_examples(4)}

    def _generate_examples(self, count):
        for k in range(count):
            pixels = np.full((2, 2, 3), 40 * k, np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            file.seek(0)
            yield k, {
                "image": file, "pixels": pixels, "label": int(k > 2), "title": f"été {k}", "year": 2000 + k,
                "boxes": [{"x": 1}],
            }  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Swatches(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return str(folder)


def test_photos_come_encoded_beside_their_columns(prepared):
    items = TFDS("swatches", data_dir=prepared).load("train")
    assert len(items) == 6 and items.ids[2] == "train/2" and items.label_names == ("dark", "light", "unused")
    assert sorted(items.columns) == ["label", "title", "year"]
    for photo, year, label, title in zip(
        items.photos, items.columns["year"], items.label, items.columns["title"], strict=True
    ):
        k = int(year) - 2000
        assert isinstance(photo, bytes)
        assert np.asarray(Image.open(io.BytesIO(photo)))[0, 0, 0] == 40 * k
        assert label == (k > 2) and title == f"été {k}"


def test_items_survive_pickling_and_plain_arrays_are_photos(prepared):
    items = TFDS("swatches", data_dir=prepared, image="pixels", label=None).load("train")
    again = pickle.loads(pickle.dumps(items))
    assert items.label is None
    np.testing.assert_array_equal(again.photos[3], items.photos[3])
    assert again.photos[3].shape == (2, 2, 3) and again.photos[3].dtype == np.uint8


def test_val_is_validation_and_splits_may_be_sliced(prepared):
    assert len(TFDS("swatches", data_dir=prepared).load("val")) == 4
    assert len(TFDS("swatches", data_dir=prepared).load("train[:50%]")) == 3


@pytest.fixture
def reads(monkeypatch):
    """A list that every record that is read adds its row to; no image can be decoded."""
    rows, plain = [], ArrayRecordDataSource.__getitem__
    monkeypatch.setattr(ArrayRecordDataSource, "__getitem__", lambda self, row: rows.append(row) or plain(self, row))
    monkeypatch.delattr(tfds.features.Image, "decode_example_np")
    return rows


@pytest.fixture
def copied(prepared, tmp_path):
    """Without the labels that another test's reading has left there."""
    return Path(shutil.copytree(prepared, tmp_path / "tfds", ignore=shutil.ignore_patterns("ssljax")))


def columns_of(folder, split="train", **fields):
    return {name: list(x) for name, x in TFDS("swatches", data_dir=str(folder), **fields).load(split).columns.items()}


def test_records_are_read_for_their_labels_once(copied, reads):
    first = columns_of(copied)
    assert reads == list(range(6))
    assert columns_of(copied) == columns_of(copied, label=None) == first and len(reads) == 6
    assert sorted(columns_of(copied, "val")["year"]) == [str(2000 + k) for k in range(4)] and len(reads) == 10
    assert columns_of(copied, "train[3:]")["title"] == first["title"][3:] and len(reads) == 13
    assert columns_of(copied.rename(copied.parent / "elsewhere")) == first and len(reads) == 13


def test_of_several_processes_one_reads(copied, reads):
    with ThreadPoolExecutor(3) as together:  # a lock holds between threads as it does between processes
        first, *others = together.map(columns_of, [copied] * 3)
    assert len(reads) == 6 and others == [first] * 2


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"label": ["dark"]}', None])
def test_what_was_kept_and_is_damaged_is_read_anew(copied, reads, damage):
    first = columns_of(copied)
    (file,) = copied.rglob("columns.json")
    file.unlink() if damage is None else file.write_bytes(damage)
    assert columns_of(copied) == first and len(reads) == 12
    assert columns_of(copied) == first and len(reads) == 12


def test_data_that_changed_is_read_anew(copied, reads):
    columns_of(copied)
    for file in copied.rglob("*train*"):
        os.utime(file, (1e9, 1e9))
    columns_of(copied)
    assert len(reads) == 12


def test_beside_data_that_cannot_be_written_labels_are_kept_in_the_cache_folder(copied, reads, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: cache / name)
    (copied / "swatches" / "1.0.0" / "ssljax").write_text("no folder")
    assert columns_of(copied) == columns_of(copied) and len(reads) == 6
    assert list(cache.rglob("columns.json"))
    shutil.rmtree(cache)
    cache.write_text("no folder")  # nowhere to keep them
    assert columns_of(copied) == columns_of(copied) and len(reads) == 18


def test_a_file_that_is_missing_is_one_sentence(copied):
    for file in copied.rglob("*train*"):
        file.unlink()
    with pytest.raises(UserError, match=r"data: split 'train' cannot be read .*train"):
        columns_of(copied)


def test_the_data_root_is_searched(prepared, tmp_path, monkeypatch):
    (tmp_path / "tfds").symlink_to(prepared)
    monkeypatch.setenv("SSLJAX_DATA", str(tmp_path))
    assert len(TFDS("swatches:1.0.0").load("train")) == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "huggingface:mnist"}, "is a community data set, whose code TFDS would run: name another"),
        ({"name": "cifar99"}, r"data.name='cifar99' is neither in TFDS nor in .*: did you mean 'cifar10'\?"),
        ({"name": "not a name!"}, "data.name='not a name!'"),
        ({"name": "cifar10"}, "is not prepared in .*: run `tfds build cifar10 --file_format=array_record --data_dir="),
        (
            {"name": "swatches", "image": "imag"},
            r"data.image='imag' is not a feature of swatches: did you mean 'image'",
        ),
        ({"name": "swatches", "label": "year"}, "data.label='year' of swatches is .*must be a ClassLabel"),
    ],
)
def test_a_wrong_field_is_one_sentence(prepared, fields, message):
    with pytest.raises(UserError, match=message):
        TFDS(**fields, data_dir=prepared).load("train")


@pytest.mark.parametrize("split", ["test", "train[:x]", "train[:0]"])
def test_a_wrong_split_is_one_sentence(prepared, split):
    with pytest.raises(UserError, match="data: split "):
        TFDS("swatches", data_dir=prepared).load(split)


def test_without_the_package_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'ssljax\[tfds\]'"):
        TFDS("cifar10").load("train")


def test_tensorflow_is_not_imported(prepared):
    code = (
        "import sys; from ssljax.data import TFDS\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        f"TFDS('swatches', data_dir={prepared!r}).load('train').photos[0]\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
