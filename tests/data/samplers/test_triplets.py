"""Every triplet obeys its levels, a few lines of loops agree on which there are, and training gets them whole."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ssljax.data import AttributeTriplets, Classes, Items, Triplets
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import TrainBatches
from ssljax.types import UserError

NAMES = ("kind", "colour", "season", "use")
MINING = AttributeTriplets()


def items(table, photos=None):
    """Photos with these values of attributes, -1 = missing."""
    table = np.asarray(table, np.int32)
    values = tuple(tuple(map(str, range(table.max() + 1))) for _ in table.T)
    photos = list(range(len(table))) if photos is None else photos
    ids = np.array([f"photo {i}" for i in range(len(table))], object)
    return Items(ids, photos, attributes=table, attribute_names=NAMES[: table.shape[1]], attribute_values=values)


def skewed(n, values=(3, 12, 9, 5), seed=0):
    """A table in which some values are common and some are missing."""
    rng = np.random.default_rng(seed)
    table = np.stack([np.minimum(rng.zipf(1.6, n) - 1, v - 1) for v in values], axis=1)
    return items(np.where(rng.random(table.shape) < 0.1, -1, table))


def level_by_hand(mining, one, other):
    """The level of two rows of values, in plain words; None if in none."""
    weights = mining.weights or [1] * len(one)
    match = compared = 0
    for x, y, weight in zip(one, other, weights, strict=True):
        match += weight * (x >= 0 and x == y)
        if mining.likeness == "share":
            compared += weight * (x >= 0 and y >= 0)
        else:
            compared += weight * len({("x", x), ("x", y)} - {("x", -1)})
    if not compared:
        return None
    return next((k for k, cut in enumerate(mining.cuts) if match / compared >= cut - 1e-6), None)


MININGS = st.builds(
    lambda likeness, weights, cuts, counts, seed: AttributeTriplets(
        likeness=likeness,
        weights=weights,
        cuts=cuts,
        draws=(*counts, *[1] * 6)[: len(cuts) * (len(cuts) - 1) // 2],
        seed=seed,
    ),
    st.sampled_from(["share", "iou"]),
    st.sampled_from([(), (1.0, 2.0, 0.5)]),
    st.sampled_from([(1.0, 0.5, 0.01, 0.0), (0.6, 0.0), (1.0, 0.3), (0.5, 0.2, 0.0)]),
    st.tuples(st.integers(1, 2)),
    st.integers(0, 2**31),
)
TABLES = st.lists(st.tuples(*[st.integers(-1, 2)] * 3), min_size=3, max_size=25)


@settings(deadline=None)
@example([(0, 0, -1), (1, -1, 0), (-1, 1, 1)], MINING)  # attributes that no photo has both of
@given(TABLES, MININGS)
def test_every_triplet_obeys_its_levels_and_is_there_if_they_have_candidates(table, mining):
    assume(all(len({row[a] for row in table} - {-1}) > 1 for a in range(3)))
    levels = [[level_by_hand(mining, one, other) for other in table] for one in table]
    there = [{level for b, level in enumerate(row) if b != a} for a, row in enumerate(levels)]
    expected = [[near in own and far in own for near, far in mining.pairs] for own in there]
    try:
        mined = mining.mine(items(table))
    except UserError:
        assert not np.all(np.any(expected, axis=0))
        return
    assert mined.shape == (len(table), sum(mining.draws), 2) and mined.dtype == np.int32
    assert np.array_equal(mined[..., 0] >= 0, expected) and np.array_equal(mined[..., 1] >= 0, expected)
    for anchor, t in np.argwhere(expected):
        positive, negative = mined[anchor, t]
        assert len({anchor, positive, negative}) == 3
        assert (levels[anchor][positive], levels[anchor][negative]) == mining.pairs[t]


@pytest.mark.parametrize("likeness", ["share", "iou"])
@pytest.mark.parametrize("blanks", [False, True])
def test_levels_are_obeyed_when_pools_do_not_have_all_tuples_and_few_are_missed(likeness, blanks):
    data = skewed(3000, values=(6, 60, 30, 8))
    data = data if blanks else items(np.maximum(data.attributes, 0))
    small, large = (AttributeTriplets(likeness=likeness, pool=pool) for pool in (256, 2**13))
    mined, exact = small.mine(data), large.mine(data)
    for t, pair in enumerate(small.pairs):
        anchors = np.flatnonzero(mined[:, t, 0] >= 0)
        for side in (0, 1):
            rows = mined[anchors, t, side]
            assert (small.levels_of(small.likeness_of(data, anchors, rows)) == pair[side]).all()
            assert (rows != anchors).all()
    found, possible = (x[..., 0] >= 0 for x in (mined, exact))
    assert not (found & ~possible).any() and found.sum() > 0.97 * possible.sum()
    assert blanks or np.array_equal(found, possible)


def test_the_seed_decides_and_chunks_and_files_do_not(tmp_path):
    data, mining = skewed(500), AttributeTriplets()
    mined = mining.mine(data)
    z = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    hard = mining.mine(data, embeddings=z)
    for chunk in (1, 7, 499, 10**6):
        assert np.array_equal(mining.mine(data, chunk=chunk), mined)
    assert np.array_equal(mining.mine(data, embeddings=z, chunk=33), hard)
    on_disk = mining.mine(data, path=tmp_path / "mined.npy", chunk=100)
    assert isinstance(on_disk, np.memmap) and np.array_equal(on_disk, mined)
    assert [p.name for p in tmp_path.iterdir()] == ["mined.npy"]
    assert (dataclasses.replace(mining, seed=1).mine(data) != mined).mean() > 0.5


def test_candidates_of_a_level_are_equally_likely():
    table = [(0, 0)] * 400 + [(0, 1)] * 3 + [(0, 2)] * 7 + [(1, 1)] * 10
    mined = AttributeTriplets(cuts=(1.0, 0.5, 0.0), draws=(20, 0, 20)).mine(items(table))
    for t, rows in ((slice(0, 20), range(400, 410)), (slice(20, 40), range(410, 420))):
        counts = np.bincount(mined[:400, t, 1].reshape(-1), minlength=420)[rows.start : rows.stop]
        assert counts.sum() == 8000
        assert ((counts - 800) ** 2 / 800).sum() < 27.9  # of 9 degrees of freedom: exceeded once in a thousand
    others = np.bincount(mined[5, :20, 0], minlength=420)
    assert others[5] == 0 and others[400:].sum() == 0 and (others > 0).sum() > 15


def test_with_embeddings_negatives_are_the_nearest_of_those_drawn():
    data, mining = skewed(300), AttributeTriplets(("kind", "colour"), cuts=(1.0, 0.0), draws=(1,))
    z = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    plain, some, most = (mining.mine(data, embeddings=z, among=among) for among in (1, 8, 3000))
    assert np.array_equal(plain, mining.mine(data))
    filled = plain[:, 0, 0] >= 0
    assert np.array_equal(some[..., 0], plain[..., 0]) and np.array_equal(most[..., 0] >= 0, plain[..., 0] >= 0)

    def cosines(mined):
        return (unit[filled] * unit[mined[filled, 0, 1]]).sum(axis=1)

    assert (cosines(some) >= cosines(plain) - 1e-6).all() and cosines(some).mean() > cosines(plain).mean() + 0.3
    rows = np.arange(300)
    level = mining.levels_of(mining.likeness_of(data, rows[:, None], rows[None]))
    best = np.where(level == 1, unit @ unit.T, -2).max(axis=1)[filled]
    assert (np.abs(cosines(most) - best) < 1e-6).mean() > 0.98


def test_a_photo_that_cannot_be_read_is_a_hard_negative_only_if_there_is_no_other():
    data = items([(0,)] * 6 + [(1,)] * 3)
    z = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    z[6:8] = 0
    mined = AttributeTriplets(cuts=(1.0, 0.0), draws=(1,)).mine(data, embeddings=z, among=50)
    assert (mined[:6, 0, 1] == 8).all()
    z[8] = 0
    assert (AttributeTriplets(cuts=(1.0, 0.0), draws=(1,)).mine(data, embeddings=z, among=50)[:6] >= 0).all()


def test_what_cannot_be_mined_is_told_with_counts():
    data = items([(0, 0, -1), (0, 1, -1), (1, -1, -1), (1, 1, 2), (-1, 0, 2)])

    def refused(message, data=data, embeddings=None, **options):
        with pytest.raises(UserError, match=message):
            AttributeTriplets(**dict(attributes=("kind",), cuts=(1.0, 0.0), draws=(1,)) | options).mine(
                data, embeddings=embeddings
            )

    refused("triplets need attributes, and the data has none", Items(np.array(["a"], object), [0]))
    refused("'colours' is not among data.attributes: did you mean 'colour'", attributes=("colours",))
    refused("'season' has one value, '2', in the 2 of 5 photos that have any", attributes=("kind", "season"))
    refused("'kind' is missing in all of the 2 photos", items([(-1, 0), (-1, 1)]))
    refused(r"weights=\(1.0, 2.0\) must be 1 numbers", weights=(1.0, 2.0))
    refused(r"weights=\(0.0,\) must be above 0", weights=(0.0,))
    refused("pool=10 is too small for 3 attributes: it must be at least 14", attributes=NAMES[:3], pool=10)
    refused("draws=.* must be 3 numbers, one for each pair of the 3 levels", cuts=(1.0, 0.5, 0.0))
    refused("cuts=.* must be two shares or more, from 1 to 0, each below the one before", cuts=(0.0, 1.0))
    refused(r"embeddings of shape \(3, 2\) must be f32\[5, D\], one a photo", embeddings=np.zeros((3, 2)))
    message = r"positive in level 1 and its negative in level 2 of cuts=\(1.0, 0.0\), in which 0 and 3 of 3 photos"
    refused(message, items([(0,), (1,), (2,)]))


def batches(data, mining=MINING, **options):
    return Triplets(mining=mining).over(data, **dict(batch_size=8, seed=0) | options)


def test_a_batch_has_a_mined_triplet_of_each_anchor_and_an_epoch_every_anchor():
    data, mining = skewed(200), AttributeTriplets()
    mined, sampled = mining.mine(data), batches(data)
    anchors = set(np.flatnonzero((mined[..., 0] >= 0).any(axis=1)))
    steps = [sampled.rows(b) for b in range(2 * sampled.batches_per_epoch)]
    assert sampled.photos == 3 and all(rows.shape == (8, 3) for rows in steps)
    for anchor, *pair in np.concatenate(steps):
        assert pair in mined[anchor].tolist()
    epoch = np.concatenate(steps[: sampled.batches_per_epoch])[:, 0]
    assert len(set(epoch)) == len(epoch) == len(anchors) // 8 * 8 and set(epoch) <= anchors
    pairs = {tuple(row) for b in range(600) for row in sampled.rows(b) if row[0] == epoch[0]}
    assert len(pairs) > 2  # not always the same of its triplets
    parts = [batches(data, shard=(i, 2)).rows(3) for i in range(2)]
    assert np.array_equal(np.concatenate(parts), sampled.rows(3))


@pytest.mark.parametrize("cache", [None, "host", "device"])
def test_a_triplet_with_a_bad_photo_gives_way_to_another(cache):
    rng = np.random.default_rng(0)
    photos = list(rng.integers(0, 256, (60, 8, 8, 3), np.uint8))
    bad = {3, 17, 40}
    for row in bad:
        photos[row] = b"not a photo"
    data = items(skewed(60).attributes, photos)
    mined = AttributeTriplets().mine(data)
    bad_inputs = BadInputs(None, total=60, limit=0.1)
    with TrainBatches(data, batches(data), size=8, cache=cache, bad=bad_inputs) as delivered:
        for batch in itertools.islice(delivered, 12):
            assert batch["image"].shape == (8, 3, 8, 8, 3)
            for place, anchor in enumerate(batch["index"]):
                triplets = [[anchor, *pair] for pair in mined[anchor] if not {anchor, *pair} & bad and min(pair) >= 0]
                assert any(
                    all(np.array_equal(photos[r], p) for r, p in zip(t, batch["image"][place], strict=True))
                    for t in triplets
                )


def test_triplets_of_a_file_are_those_mined_and_others_are_refused(tmp_path):
    data, path = skewed(200), tmp_path / "mined.npy"
    AttributeTriplets().mine(data, path=path)
    from_file = Triplets(path=str(path)).over(data, batch_size=8, seed=0)
    assert np.array_equal(from_file.rows(5), batches(data).rows(5)) and from_file.identity == batches(data).identity
    for sampled in (from_file, batches(data)):
        sent = pickle.dumps(sampled.draw)
        assert np.array_equal(pickle.loads(sent)(np.arange(9), 5), sampled.draw(np.arange(9), 5))
        assert (len(sent) > path.stat().st_size) == (sampled is not from_file)

    def refused(message, data=data, mining=MINING):
        with pytest.raises(UserError, match=message):
            Triplets(mining=mining, path=str(path)).over(data, batch_size=8, seed=0)

    refused("triplets of other photos, or of another sampler.mining", skewed(200, seed=1))
    refused("triplets of other photos, or of another", mining=AttributeTriplets(cuts=(1.0, 0.7, 0.01, 0.0)))
    refused(r"holds int32\[200, 6, 2\], and sampler.mining makes i32\[201, 6, 2\]", skewed(201))
    path.write_bytes(b"no array")
    refused("holds no triplets")


def test_mined_again_draws_others_from_the_same_candidates():
    data = skewed(300)
    first, second = MINING.mine(data), MINING.mine(data, again=1)
    assert np.array_equal(first < 0, second < 0) and 0.2 < (first != second).mean() < 1
    level = MINING.levels_of(MINING.likeness_of(data, np.arange(300)[:, None, None], np.maximum(second, 0)))
    assert (level == np.array(MINING.pairs))[second >= 0].all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"refresh_every": 0}, "sampler.refresh_every=0 is too small: it must be at least 1"),
        (
            {"refresh_every": 1, "path": "mined.npy"},
            "sampler.path='mined.npy' would not be used with sampler.refresh_every=1",
        ),
        ({"among": 0}, "sampler.among=0 is too small: it must be at least 1"),
    ],
)
def test_a_refresh_that_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Triplets(**options)


def test_more_triplets_a_batch_than_anchors():
    data = items([(0,), (0,), (1,), (2,)])
    mining = AttributeTriplets(cuts=(1.0, 0.0), draws=(1,))
    with pytest.raises(UserError, match="batch_size=3 is larger than the train split's 2 photos that have a triplet"):
        batches(data, mining, batch_size=3).check()


@pytest.mark.parametrize("sampler", [Triplets(), Classes(per_class=4, within="kind")])
def test_batches_go_on_where_they_were_stopped(sampler):
    rng = np.random.default_rng(0)
    data = skewed(64)
    data = dataclasses.replace(
        items(data.attributes, list(rng.integers(0, 256, (64, 8, 8, 3), np.uint8))),
        label=np.arange(64, dtype=np.int32) % 8,
        columns={"kind": np.array(["a", "b"], object)[np.arange(64) % 2]},
    )
    sampled, options = sampler.over(data, batch_size=8, seed=0), dict(size=8, bad=BadInputs(None, total=64))
    with TrainBatches(data, sampled, **options) as one, TrainBatches(data, sampled, **options) as other:
        whole = list(itertools.islice(one, 12))
        other.seek(one.position | {"delivered": 7})
        for batch, expected in zip(itertools.islice(other, 5), whole[7:], strict=True):
            assert all(np.array_equal(batch[name], expected[name]) for name in expected)


@pytest.mark.parametrize("cache, workers", [(None, 0), (None, 1), ("host", 0), ("device", 0)])
def test_goes_on_with_other_batches_from_the_next_on(cache, workers):
    rng = np.random.default_rng(0)
    data = items(skewed(64).attributes, list(rng.integers(0, 256, (64, 8, 8, 3), np.uint8)))
    options = dict(size=8, cache=cache, workers=workers, bad=BadInputs(None, total=64))
    first, second = batches(data), batches(data, AttributeTriplets(seed=1))
    with TrainBatches(data, second, **options) as expected:
        expected = list(itertools.islice(expected, 5))
    with TrainBatches(data, first, **options) as delivered:
        before = list(itertools.islice(delivered, 3))
        delivered.go_on_with(second)
        for batch, same in zip(itertools.islice(delivered, 2), expected[3:], strict=True):
            assert all(np.array_equal(batch[name], same[name]) for name in same)
    assert not np.array_equal(before[2]["image"], expected[2]["image"])
