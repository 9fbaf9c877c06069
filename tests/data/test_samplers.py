"""Every photo once an epoch, whatever the sizes, and none twice in a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data.items import Items
from ssljax.data.samplers import Listings, Shuffled
from ssljax.types import UserError


def photos(n, **options):
    """A sampler of n photos, each an item of its own."""
    return Shuffled(np.arange(n), np.ones(n, np.int64), **options)


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
        photos(300, batch_size=512, seed=0)
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
        Listings().over(items([0, 0, 1, 1, 2]), batch_size=4, seed=0)
    with pytest.raises(UserError, match=r"sampler\.photos=0"):
        Listings(photos=0)
