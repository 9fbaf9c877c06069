import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssljax.data.sources.tfds import TFDS
from ssljax.types import UserError

tfds = pytest.importorskip("tensorflow_datasets")


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
