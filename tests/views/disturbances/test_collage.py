"""Collages of items that are told apart by their colour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.types import UserError
from ssljax.views import Collage

BATCH = 12


COLOURS = np.random.default_rng(0).uniform(0, 0.9, (BATCH, 3)).astype(np.float32)


def disturbed(collage, strength, seed=0):
    """f[B, B]: of each picture, the share that is in the colour of each item."""
    images = jnp.asarray(COLOURS)[:, :, None, None] * jnp.ones((1, 1, 48, 48))
    result = jax.jit(collage.disturb)(jax.random.key(seed), images, jnp.full(BATCH, strength))
    apart = np.abs(np.asarray(result)[:, None] - COLOURS[None, :, :, None, None]).max(2)
    return (apart < 0.01).mean((2, 3))


@pytest.mark.parametrize("most, strength, items", [(6, 0.2, 2), (6, 0.6, 4), (6, 1.0, 6), (4, 1.0, 4), (2, 0.5, 2)])
def test_as_many_items_as_the_strength_says_the_main_one_among_them(most, strength, items):
    for seed in range(5):
        seen = disturbed(Collage(most=most), strength, seed) > 0.01
        assert seen.diagonal().all() and (seen.sum(axis=1) == items).all()
        for k in range(BATCH):
            assert set(np.flatnonzero(seen[k])) == {(k + n) % BATCH for n in range(items)}


def test_the_main_item_is_never_the_smallest():
    for seed in range(10):
        seen = disturbed(Collage(), 1.0, seed)
        assert (seen.diagonal() > 0.05).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"Collage.most=7: choose from 2 to 6 items"):
        Collage(most=7)
    with pytest.raises(UserError, match=r"Collage.most=6 is more than the batch has, 4"):
        jax.eval_shape(lambda: Collage().disturb(jax.random.key(0), jnp.ones((4, 3, 8, 8)), jnp.ones(4)))
