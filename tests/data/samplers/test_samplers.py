"""Every photo once an epoch, whatever the sizes, and none twice in a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data import Classes, Listings, Photos
from ssljax.data.items import Items
from ssljax.types import UserError


def photos(n, **options):
    """The batches of n photos, each an item of its own."""
    return Photos().over(items(range(n)), **options)


SIZES = st.integers(1, 40).flatmap(lambda b: st.tuples(st.integers(b, 90), st.just(b)))


@given(SIZES, st.integers(0, 2**31), st.integers(0, 5))
def test_an_epoch_has_every_photo_once_but_for_a_remainder(sizes, seed, epoch):
    n, batch_size = sizes
    sampler = photos(n, batch_size=batch_size, seed=seed)
    steps = sampler.batches_per_epoch
    rows = np.concatenate([sampler.rows(epoch * steps + k)[:, 0] for k in range(steps)])
    assert len(rows) == n // batch_size * batch_size == len(set(rows))
    assert set(rows) <= set(range(n))


@given(SIZES, st.integers(0, 200))
def test_spares_are_the_photos_that_are_not_in_the_batch(sizes, batch):
    n, batch_size = sizes
    sampler = photos(n, batch_size=batch_size, seed=0)
    assert sorted([*sampler.rows(batch)[:, 0], *(row for (row,) in sampler.spares(batch))]) == list(range(n))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 30), st.integers(0, 50))
def test_processes_share_a_batch_and_its_spares(count, part, more, batch):
    n, batch_size = count * part + more, count * part
    alone = photos(n, batch_size=batch_size, seed=0)
    shards = [photos(n, batch_size=batch_size, seed=0, shard=(i, count)) for i in range(count)]
    assert np.array_equal(np.concatenate([s.rows(batch) for s in shards]), alone.rows(batch))
    assert sorted(r for s in shards for (r,) in s.spares(batch)) == sorted(r for (r,) in alone.spares(batch))


def test_rows_are_the_callers_to_change():
    sampler = photos(10, batch_size=5, seed=0)
    before = sampler.rows(1).copy()
    sampler.rows(1)[:] = -1
    assert np.array_equal(sampler.rows(1), before)


def test_orders_differ_from_epoch_to_epoch_and_from_seed_to_seed():
    orders = [tuple(photos(50, batch_size=50, seed=s).rows(e)[:, 0]) for s in range(4) for e in range(4)]
    assert len(set(orders)) == 16


def test_places_in_an_epoch_are_uniform():
    counts = np.zeros((6, 6))
    for seed in range(600):
        counts[np.arange(6), photos(6, batch_size=6, seed=seed).rows(3)[:, 0]] += 1
    chi_squared = ((counts - 100) ** 2 / 100).sum()  # of 25 degrees of freedom: 52.6 is exceeded once in a thousand
    assert chi_squared < 52.6


def test_what_does_not_fit():
    with pytest.raises(UserError, match="batch_size=512 is larger than the train split's 300 photos"):
        photos(300, batch_size=512, seed=0).check()
    with pytest.raises(UserError, match="batch_size=10 is not a multiple of the number of processes, 4"):
        photos(300, batch_size=10, seed=0, shard=(0, 4))


def items(listing):
    """Photos with these listings."""
    ids = np.array([str(i) for i in range(len(listing))], dtype=object)
    return Items(ids, list(range(len(listing))), listing=None if listing is None else np.array(listing, np.int32))


LISTINGS = st.lists(st.integers(0, 8), min_size=12, max_size=60).filter(lambda x: len(set(x)) < len(x))


@given(LISTINGS, st.integers(1, 4), st.integers(0, 2**31), st.integers(0, 30))
def test_a_batch_of_listings_has_different_photos_of_each_and_no_listing_twice(listing, photos, seed, batch):
    data, count = items(listing), len(set(listing))
    sampler = Listings(photos=photos).over(data, batch_size=min(4, count), seed=seed)
    rows = sampler.rows(batch)
    assert rows.shape == (min(4, count), photos) and np.array_equal(rows, sampler.rows(batch))
    numbers = data.listing[rows]
    assert (numbers == numbers[:, :1]).all() and len(set(numbers[:, 0])) == len(rows)
    for own, number in zip(rows, numbers[:, 0], strict=True):
        assert len(set(own)) == min(photos, listing.count(number))
    others = [data.listing[spare[0]] for spare in sampler.spares(batch)]
    assert sorted([*numbers[:, 0], *others]) == sorted(set(listing))


def test_listings_are_shared_by_processes_and_their_photos_drawn_anew_each_epoch():
    data = items([i // 5 for i in range(60)])
    alone = Listings().over(data, batch_size=6, seed=1)
    shards = [Listings().over(data, batch_size=6, seed=1, shard=(i, 3)) for i in range(3)]
    assert np.array_equal(np.concatenate([s.rows(3) for s in shards]), alone.rows(3))
    pairs = {tuple(row) for batch in range(40) for row in alone.rows(batch) if row[0] // 5 == 2}
    assert len(pairs) > 10  # of 20


def test_listings_that_do_not_suit():
    with pytest.raises(UserError, match=r"sampler=Listings\(\) needs listings, and the data has none"):
        Listings().over(Items(np.array(["a"], object), [0]), batch_size=1, seed=0)
    with pytest.raises(UserError, match="each of the 5 has one"):
        Listings().over(items(range(5)), batch_size=2, seed=0)
    with pytest.raises(UserError, match="batch_size=4 is larger than the train split's 3 listings"):
        Listings().over(items([0, 0, 1, 1, 2]), batch_size=4, seed=0).check()
    with pytest.raises(UserError, match=r"sampler\.photos=0"):
        Listings(photos=0)


SIZES_OF_CLASSES = st.lists(st.integers(2, 9), min_size=4, max_size=12)


def labelled(sizes, seed=0, blanks=3, **columns):
    """Photos of classes of these sizes, in a random order, some without label; columns give a value for each class."""
    label = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(blanks, -1)]).astype(np.int32)
    label = np.random.default_rng(seed).permutation(label)
    ids = np.array([str(i) for i in range(len(label))], dtype=object)
    table = {name: np.array([*values, ""], object)[label] for name, values in columns.items()}
    return Items(ids, list(range(len(label))), table, label)


@given(SIZES_OF_CLASSES, st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**31), st.integers(0, 60))
def test_every_batch_is_p_classes_times_k_photos(sizes, k, p, seed, batch):
    data, k = labelled(sizes), min(k, max(sizes))
    sampler = Classes(per_class=k).over(data, batch_size=p * k, seed=seed)
    rows = sampler.rows(batch)
    labels = data.label[rows]
    assert rows.shape == (p, k) and sampler.photos == 1 and np.array_equal(rows, sampler.rows(batch))
    assert (labels == labels[:, :1]).all() and (labels >= 0).all() and len(set(labels[:, 0])) == p
    for own, label in zip(rows, labels[:, 0], strict=True):
        assert len(set(own)) == min(k, sizes[label])
    spares = [data.label[spare] for spare in sampler.spares(batch)]
    assert all(len(set(spare)) == 1 for spare in spares)
    assert sorted([*labels[:, 0], *(spare[0] for spare in spares)]) == list(range(len(sizes)))


def test_rare_classes_come_as_often_as_common_ones_and_an_epoch_has_as_many_photos_as_there_are():
    data = labelled([2, 3, 100, 2, 40, 9])
    sampler = Classes(per_class=4).over(data, batch_size=12, seed=0)
    assert sampler.batches_per_epoch == 156 // 12
    drawn = np.concatenate([data.label[sampler.rows(batch)[:, 0]] for batch in range(100)])
    assert (np.bincount(drawn) == 50).all()
    photos = np.concatenate([sampler.rows(batch) for batch in range(200)])
    assert set(photos[data.label[photos[:, 0]] == 4].reshape(-1)) == set(np.flatnonzero(data.label == 4))


def test_classes_of_few_photos_can_be_left_out():
    data = labelled([1, 1, 2, 5, 5, 5])
    sampler = Classes(per_class=2, least=3).over(data, batch_size=4, seed=0)
    assert {label for b in range(30) for label in data.label[sampler.rows(b)].reshape(-1)} == {3, 4, 5}
    with pytest.raises(UserError, match=r"2 of 6 have one: leave them out by sampler\.least=2"):
        Classes(per_class=2).over(data, batch_size=4, seed=0)


@given(st.integers(1, 4), st.integers(2, 3), st.integers(1, 4), st.integers(0, 50))
def test_processes_share_the_classes_of_a_batch(count, part, more, batch):
    data, p = labelled([4] * (count * part + more), group="ab" * (count * part + more)), count * part
    for within in (None, "group"):
        sampler = Classes(per_class=3, within=within)
        alone = sampler.over(data, batch_size=3 * p, seed=0)
        shards = [sampler.over(data, batch_size=3 * p, seed=0, shard=(i, count)) for i in range(count)]
        assert all(s.rows(batch).shape == (part, 3) for s in shards)
        assert np.array_equal(np.concatenate([s.rows(batch) for s in shards]), alone.rows(batch))
        own = sorted(tuple(spare) for s in shards for spare in s.spares(batch))
        assert own == sorted(tuple(spare) for spare in alone.spares(batch))


@given(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=3, max_size=5), st.integers(0, 40))
def test_a_batch_is_of_few_categories_whose_classes_all_come_in_turn(categories, chunks, batch):
    part = 2
    kinds = [str(kind) for kind, n in enumerate(chunks) for _ in range(n * part)]
    data = labelled([3] * len(kinds), kind=kinds)
    sampler = Classes(per_class=2, within="kind", categories=categories)
    batches = sampler.over(data, batch_size=2 * part * categories, seed=3)
    values = data.columns["kind"][batches.rows(batch)]
    assert len(set(values.reshape(-1))) <= categories
    steps = len(kinds) // (part * categories)
    turn = [label for b in range(steps) for label in data.label[batches.rows(batch * steps + b)[:, 0]]]
    assert len(set(turn)) == len(turn)
    orders = {tuple(batches.rows(b * steps).reshape(-1)) for b in range(20)}
    assert len(orders) > 1


def test_the_category_of_a_class_is_that_of_most_of_its_photos():
    label = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3], np.int32)
    column = np.array(["b", "a", "b", "a", "", "", "", "", "b", "a"], object)
    data = Items(np.arange(10), list(range(10)), {"kind": column}, label)
    batches = Classes(per_class=2, within="kind").over(data, batch_size=4, seed=0)
    together = {frozenset(data.label[batches.rows(b)[:, 0]]) for b in range(40)}
    assert batches.order.category.tolist() == [2, 1, 0, 1] and frozenset({1, 3}) in together


def test_classes_that_do_not_suit():
    data = labelled([4, 3, 2, 2], kind="aabb", same="aaaa", none=["", "", "", ""])

    def refused(message, items=data, batch_size=4, shard=(0, 1), **options):
        with pytest.raises(UserError, match=message):
            Classes(**dict(per_class=2) | options).over(items, batch_size=batch_size, seed=0, shard=shard)

    refused(r"sampler=Classes\(\) needs labels, and the data has none", items([0, 1]))
    refused("needs labels, and all 5 of the train split are missing", labelled([], blanks=5))
    refused("sampler.per_class=5 is larger than every class: the largest of 4 has 4 photos", per_class=5, batch_size=10)
    refused("batch_size=7 is not a multiple of sampler.per_class=2: try 6", batch_size=7)
    refused("batch_size=2 is one class of sampler.per_class=2 photos, from which .* choose at least 4", batch_size=2)
    refused("batch_size=2 is not a multiple of sampler.per_class=4: try 8", batch_size=2, per_class=4)
    refused("is 3 classes of sampler.per_class=2 photos, which 2 processes", batch_size=6, shard=(0, 2))
    refused("split has 4 classes of sampler.least=1 photos or more: choose at most 8", batch_size=10)
    refused("split has 2 classes of sampler.least=3 photos or more: choose at most 4", batch_size=6, least=3)
    refused("sampler.within='kin' is not a column of the data: did you mean 'kind'", within="kin")
    refused(r"sampler.within='same' has one value \(a\) in 11 photos", within="same")
    refused("sampler.within='none' has no value in 11 photos", within="none")
    refused("sampler.categories=3 does not divide the 2 classes of a batch", within="kind", categories=3)
    refused("sampler.per_class=1 is too small", per_class=1)
