"""One sequence of batches, whatever makes it; bad photos left out; nothing lost at a stop; nothing left running."""

import csv
import dataclasses
import itertools
import json
import multiprocessing
import threading
import time

import jax
import numpy as np
import pytest
from PIL import Image

from ssljax.data import Classes, Listings, Photos
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.decode import FORMATS, decode
from ssljax.data.items import Items
from ssljax.data.photos import Decoder
from ssljax.data.pipeline import TrainBatches, batch_shapes, ordered_batches
from ssljax.sharding import make_mesh
from ssljax.types import UserError

SIZE = 8
PHOTOS = Photos()
CACHES = (None, "host", "device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """50 PNG files of several shapes; 3, 4 and 11 are bad, as is 12, which is missing."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(50):
        shape = (rng.integers(4, 20), rng.integers(4, 20), 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes(b"")
    (folder / "4.png").write_text("not a photo")
    (folder / "11.png").write_bytes((folder / "11.png").read_bytes()[:60])
    (folder / "12.png").unlink()
    return folder


NO_IMAGE = f"not an image in a format that can be read ({', '.join(FORMATS)})"
BAD = {3: "empty file", 4: NO_IMAGE, 11: "truncated", 12: "missing file"}


def items_of(folder, rows):
    paths = [folder / f"{i}.png" for i in rows]
    ids = np.array([f"photo {i}" for i in rows], dtype=object)
    rows = np.array(rows, dtype=np.int32)
    return Items(ids, paths, label=rows % 3, listing=rows // 2, attributes=np.stack([rows, rows + 7], axis=1))


@pytest.fixture(scope="module")
def good(folder):
    return items_of(folder, range(13, 50))


@pytest.fixture(scope="module")
def mixed(folder):
    return items_of(folder, range(40))


def train_batches(items, *, sampler=PHOTOS, batch_size=8, seed=3, shard=(0, 1), bad=None, limit=1.0, **options):
    bad = bad or BadInputs(None, total=len(items), limit=limit)
    batches = sampler.over(items, batch_size=batch_size, seed=seed, shard=shard)
    return TrainBatches(items, batches, **{"size": SIZE, "bad": bad, "threads": 2} | options)


def first(n, items, **options):
    """The first n batches, as host arrays."""
    with train_batches(items, **options) as batches:
        return [jax.device_get(next(batches)) for _ in range(n)]


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype, name
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("cache", CACHES)
def test_rows_of_a_batch_belong_together(good, cache):
    for batch in first(5, good, cache=cache):
        for place, row in enumerate(batch["index"]):
            pixels, aspect = decode(good.photos[row], SIZE)
            np.testing.assert_array_equal(batch["image"][place, 0], pixels)
            assert batch["aspect"][place, 0] == np.float32(aspect)
        for name in ("label", "listing", "attributes"):
            np.testing.assert_array_equal(batch[name], getattr(good, name)[batch["index"]])


@pytest.mark.parametrize("cache", CACHES)
def test_two_photos_of_a_listing_belong_together_and_bad_ones_give_way(mixed, cache):
    for batch in first(6, mixed, cache=cache, sampler=Listings()):
        assert batch["image"].shape == (8, 2, SIZE, SIZE, 3) and batch["aspect"].shape == (8, 2)
        assert len(set(batch["listing"])) == 8
        for place, row in enumerate(batch["index"]):
            assert row not in BAD and batch["listing"][place] == row // 2
            for n, aspect in enumerate(batch["aspect"][place]):
                pair = [decode(mixed.photos[r], SIZE) for r in (row, row ^ 1) if r not in BAD]
                assert any(np.array_equal(batch["image"][place, n], p) and aspect == np.float32(a) for p, a in pair)
                assert n == 0 or len(pair) == 1 or not np.array_equal(*batch["image"][place])


@pytest.mark.parametrize("cache", CACHES)
def test_classes_come_as_one_photo_an_item_and_bad_ones_give_way_to_their_own_class(mixed, cache):
    for batch in first(6, mixed, cache=cache, sampler=Classes(per_class=4)):
        assert batch["image"].shape == (8, 1, SIZE, SIZE, 3) and batch["aspect"].shape == (8, 1)
        labels = batch["label"].reshape(2, 4)
        assert (labels == labels[:, :1]).all() and labels[0, 0] != labels[1, 0]
        for place, row in enumerate(batch["index"]):
            assert row not in BAD and batch["label"][place] == row % 3
            np.testing.assert_array_equal(batch["image"][place, 0], decode(mixed.photos[row], SIZE)[0])


def test_no_photo_of_a_batch_is_read_twice(good):
    read = []

    class Counted(list):
        def __getitem__(self, row):
            read.append(row)
            return super().__getitem__(row)

    rows = Listings(photos=3).over(good, batch_size=19, seed=0).rows(0)  # the first and the last photo are alone
    decoded, bad = Decoder(Counted(good.photos), size=SIZE, threads=2).read_items(rows)
    assert decoded.image.shape == (19, 3, SIZE, SIZE, 3) and decoded.good.all() and not bad
    assert sorted(read) == list(range(37))


def test_items_without_labels(folder):
    items = Items(np.arange(8), [folder / f"{i}.png" for i in range(20, 28)])
    assert set(first(1, items)[0]) == {"image", "aspect", "index"}
    assert set(batch_shapes(items, batch_size=8, size=SIZE)) == {"image", "aspect", "index"}


@pytest.mark.parametrize("cache", CACHES)
def test_shapes_are_known_beforehand(good, cache):
    batch = first(1, good, cache=cache)[0]
    shapes = batch_shapes(good, batch_size=8, size=SIZE)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in shapes.items()}


def test_an_epoch_is_every_photo_once(good):
    with train_batches(good) as batches:
        epochs = [np.concatenate([next(batches)["index"] for _ in range(4)]) for _ in range(2)]
    for rows in epochs:
        assert len(set(rows)) == 32
    assert list(epochs[0]) != list(epochs[1])


@pytest.mark.parametrize("data", ["good", "mixed"])
@pytest.mark.parametrize(
    "options",
    [{"threads": 1}, {"threads": 5}, {"cache": "host"}, {"cache": "device"}, {"cache": "host", "workers": 2}],
    ids=str,
)
def test_whatever_makes_them_batches_are_the_same(data, options, request):
    items = request.getfixturevalue(data)
    assert_equal(first(9, items, **options), first(9, items))


@pytest.mark.parametrize("cache", CACHES)
def test_on_a_mesh_batches_are_split_and_the_same(mixed, cache):
    mesh = make_mesh(shards=2)
    with train_batches(mixed, cache=cache, mesh=mesh) as batches:
        placed = list(itertools.islice(batches, 3))
    for name, array in placed[0].items():
        assert len(array.sharding.device_set) == 8, name
        assert array.addressable_shards[0].data.shape == (1, *array.shape[1:]), name
    assert_equal(jax.device_get(placed), first(3, mixed))


def test_batches_need_no_implicit_transfer(good):
    mesh = make_mesh()
    with train_batches(good, cache="device", mesh=mesh) as batches, jax.transfer_guard("disallow"):
        for _ in range(3):
            next(batches)


@pytest.mark.parametrize("cache", CACHES)
def test_processes_share_the_batches_of_one(mixed, cache):
    shards = [first(6, mixed, cache=cache, shard=(i, 4)) for i in range(4)]
    whole = first(6, mixed)
    for step in range(6):
        joint = {name: np.concatenate([s[step][name] for s in shards]) for name in whole[step]}
        assert len(set(joint["index"])) == 8
        if not set(whole[step]["index"]) - set(joint["index"]):  # bad photos may be replaced by others
            assert_equal([joint], [whole[step]])


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("position", [0, 1, 6])
def test_a_restored_position_goes_on_as_if_never_stopped(mixed, cache, position):
    whole = first(10, mixed)
    with train_batches(mixed) as batches:
        for _ in range(position):
            next(batches)
        time.sleep(0.05)  # what is read ahead must not count
        state = batches.position
    assert json.loads(json.dumps(state)) == state
    with train_batches(mixed, cache=cache, threads=3) as batches:
        next(batches)
        batches.seek(state)
        assert batches.position == state
        assert_equal(jax.device_get([next(batches) for _ in range(10 - position)]), whole[position:])


def test_the_position_is_restored_on_another_number_of_processes(good):
    with train_batches(good, shard=(1, 2)) as batches:
        next(batches)
        state = batches.position
    with train_batches(good) as batches:
        batches.seek(state)
        assert_equal([next(batches)], first(2, good)[1:])


@pytest.mark.parametrize("change", [{"seed": 4}, {"batch_size": 4}])
def test_a_position_in_other_batches_is_refused(good, change):
    state = train_batches(good).position
    with pytest.raises(UserError, match=f"{next(iter(change))}=.* differs from the checkpoint's"):
        train_batches(good, **change).seek(state)


def test_a_position_in_other_data_is_refused(good, mixed):
    state = train_batches(good).position
    with pytest.raises(UserError, match="photos=40 differs from the checkpoint's 37"):
        train_batches(mixed).seek(state)


def listed(path):
    with path.open(newline="") as file:
        return [(line["id"], line["photo"], line["reason"]) for line in csv.DictReader(file)]


def expected_list(folder):
    return {(f"photo {i}", str(folder / f"{i}.png"), reason) for i, reason in BAD.items()}


@pytest.mark.parametrize("cache", CACHES)
def test_bad_photos_are_left_out_and_listed_once(mixed, folder, cache, tmp_path):
    path = tmp_path / "bad_inputs.csv"
    for _ in range(2):  # as a run and one that resumes it
        bad = BadInputs(path, total=40, limit=0.1)
        batches = first(15, mixed, cache=cache, bad=bad)
        assert bad.count == 4
    for batch in batches:
        assert len(set(batch["index"])) == 8
        assert not set(batch["index"]) & set(BAD)
    lines = listed(path)
    assert len(lines) == 4 and set(lines) == expected_list(folder)


@pytest.mark.parametrize("cache", CACHES)
def test_where_hardly_a_photo_is_there_that_is_what_is_said(mixed, cache, tmp_path):
    gone = dataclasses.replace(mixed, photos=[tmp_path / f"{row}.png" for row in range(40)])
    bad = BadInputs(tmp_path / "bad.csv", total=40, limit=0.5)
    with pytest.raises(UserError, match=r" of 40 photos cannot be read, more than max_bad_share=0.5 .*missing file"):
        first(1, gone, cache=cache, bad=bad)
    assert len(listed(tmp_path / "bad.csv")) > 20


@pytest.mark.parametrize("cache", CACHES)
def test_too_many_bad_photos_stop_the_run(mixed, cache, tmp_path):
    bad = BadInputs(tmp_path / "bad.csv", total=40, limit=0.05)
    with pytest.raises(UserError, match=r"[34] of 40 photos cannot be read.*photos.*png: .*bad\.csv"):
        first(15, mixed, cache=cache, bad=bad)
    assert len(listed(tmp_path / "bad.csv")) >= 3


@pytest.mark.parametrize("cache", CACHES)
def test_too_few_good_photos_for_a_batch(folder, cache):
    with pytest.raises(UserError, match="batch_size=8 is too large"):
        first(3, items_of(folder, range(3, 12)), cache=cache)
    assert len(first(3, items_of(folder, range(3, 12)), cache=cache, batch_size=6)) == 3


def test_photos_may_be_bytes_or_arrays_and_errors_of_the_source_are_not_hidden():
    photos = [np.full((8, 8, 3), i, np.uint8) for i in range(7)] + [b""]
    bad = BadInputs(None, total=8, limit=0.2)
    batch = first(1, Items(np.arange(8), photos), batch_size=7, bad=bad)[0]
    assert bad.count == 1
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0, 0], batch["index"])
    with pytest.raises(TypeError):
        first(1, Items(np.arange(8), [3.5] * 8))


@pytest.mark.parametrize("cache", CACHES)
def test_a_batch_larger_than_the_data(good, cache):
    with pytest.raises(UserError, match="batch_size=512 is larger than the train split's 37 photos"):
        train_batches(good, cache=cache, batch_size=512)


def test_a_cache_larger_than_the_device(good, monkeypatch):
    def full(array):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(jax, "device_put", full)
    with pytest.raises(UserError, match=r'cache="device" needs 0\.0 GiB on each device'):
        train_batches(good, cache="device")


def test_progress_of_a_cache(good):
    seen = []
    first(1, good, cache="host", threads=1, progress=seen.append)
    assert seen[-1] == 37


@pytest.mark.parametrize("batch_size", [1, 7, 40, 64])
def test_in_order_every_good_photo_comes_once(mixed, folder, batch_size, tmp_path):
    bad = BadInputs(tmp_path / "bad.csv", total=40, limit=0.1)
    batches = list(ordered_batches(mixed, batch_size=batch_size, size=SIZE, bad=bad, threads=2))
    assert len(batches) == -(-40 // batch_size)
    for batch in batches:
        assert {len(x) for x in batch.values()} == {batch_size}
        assert batch["image"].shape == (batch_size, 1, SIZE, SIZE, 3) and batch["aspect"].shape == (batch_size, 1)
    rows = np.concatenate([b["index"][b["valid"]] for b in batches])
    assert list(rows) == [i for i in range(40) if i not in BAD]
    images = np.concatenate([b["image"][b["valid"]] for b in batches])
    for row, image in zip(rows, images, strict=True):
        np.testing.assert_array_equal(image[0], decode(mixed.photos[row], SIZE)[0])
    labels = np.concatenate([b["label"][b["valid"]] for b in batches])
    np.testing.assert_array_equal(labels, mixed.label[rows])
    assert set(listed(tmp_path / "bad.csv")) == expected_list(folder)


def test_in_order_too_many_bad_photos_stop(mixed):
    with pytest.raises(UserError, match="4 of 40 photos cannot be read"):
        list(ordered_batches(mixed, batch_size=20, size=SIZE, bad=BadInputs(None, total=40, limit=0.05)))


def wait_for(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", ["closed", "closed early", "in order", "in order, left early", "failed"])
def test_no_thread_is_left(good, mixed, how):
    before = set(threading.enumerate())
    if how == "closed":
        first(6, good)
    elif how == "closed early":
        with train_batches(good):
            pass
    elif how == "failed":
        with pytest.raises(UserError):
            first(15, mixed, limit=0.0)
    else:
        batches = ordered_batches(good, batch_size=8, size=SIZE, bad=BadInputs(None, total=37))
        list(itertools.islice(batches, 1 if "early" in how else None))
        batches.close()
    assert wait_for(lambda: set(threading.enumerate()) <= before)


def test_worker_processes(mixed, folder, tmp_path):
    """The same batches, the same list of bad photos, a position for any number of workers, and a clean end."""
    whole, path = first(12, mixed), tmp_path / "bad.csv"
    with train_batches(mixed, workers=2, bad=BadInputs(path, total=40, limit=0.1), mesh=make_mesh()) as batches:
        assert_equal(jax.device_get([next(batches) for _ in range(8)]), whole[:8])
        state = batches.position
        assert state["delivered"] == 8
    assert wait_for(lambda: not multiprocessing.active_children())
    lines = listed(path)
    assert len(lines) == 4 and set(lines) == expected_list(folder)
    with train_batches(mixed, workers=1, bad=BadInputs(path, total=40, limit=0.05)) as batches:
        batches.seek(state)
        with pytest.raises(UserError, match="3 of 40"):
            for expected in whole[8:]:
                assert_equal([next(batches)], [expected])
            list(itertools.islice(batches, 20))
    assert wait_for(lambda: not multiprocessing.active_children())
