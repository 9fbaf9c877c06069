"""Every photo once an epoch, whatever the sizes, and none twice in a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data.samplers import Shuffled
from ssljax.types import UserError

SIZES = st.integers(1, 40).flatmap(lambda b: st.tuples(st.integers(b, 90), st.just(b)))


@given(SIZES, st.integers(0, 2**31), st.integers(0, 5))
def test_an_epoch_has_every_photo_once_but_for_a_remainder(sizes, seed, epoch):
    n, batch_size = sizes
    sampler = Shuffled(n, batch_size=batch_size, seed=seed)
    steps = sampler.batches_per_epoch
    rows = np.concatenate([sampler.rows(epoch * steps + k) for k in range(steps)])
    assert len(rows) == n // batch_size * batch_size == len(set(rows))
    assert set(rows) <= set(range(n))


@given(SIZES, st.integers(0, 200))
def test_spares_are_the_photos_that_are_not_in_the_batch(sizes, batch):
    n, batch_size = sizes
    sampler = Shuffled(n, batch_size=batch_size, seed=0)
    assert sorted([*sampler.rows(batch), *sampler.spares(batch)]) == list(range(n))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 30), st.integers(0, 50))
def test_processes_share_a_batch_and_its_spares(count, part, more, batch):
    n, batch_size = count * part + more, count * part
    alone = Shuffled(n, batch_size=batch_size, seed=0)
    shards = [Shuffled(n, batch_size=batch_size, seed=0, shard=(i, count)) for i in range(count)]
    assert np.array_equal(np.concatenate([s.rows(batch) for s in shards]), alone.rows(batch))
    assert sorted(r for s in shards for r in s.spares(batch)) == sorted(alone.spares(batch))


def test_orders_differ_from_epoch_to_epoch_and_from_seed_to_seed():
    orders = [tuple(Shuffled(50, batch_size=50, seed=s).rows(e)) for s in range(4) for e in range(4)]
    assert len(set(orders)) == 16


def test_places_in_an_epoch_are_uniform():
    counts = np.zeros((6, 6))
    for seed in range(600):
        counts[np.arange(6), Shuffled(6, batch_size=6, seed=seed).rows(3)] += 1
    chi_squared = ((counts - 100) ** 2 / 100).sum()  # of 25 degrees of freedom: 52.6 is exceeded once in a thousand
    assert chi_squared < 52.6


def test_what_does_not_fit():
    with pytest.raises(UserError, match="batch_size=512 is larger than the train split's 300 photos"):
        Shuffled(300, batch_size=512, seed=0)
    with pytest.raises(UserError, match="batch_size=10 is not a multiple of the number of processes, 4"):
        Shuffled(300, batch_size=10, seed=0, shard=(0, 4))
