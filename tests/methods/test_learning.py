"""Methods trained for some seconds on the toy catalogue find other photos better than they did untrained."""

import functools

import jax
import numpy as np
import pytest
from methods import METHODS, views_of
from tiny import BATCH, VIEWS, Training

from ssljax.data import ToyCatalogue
from ssljax.data.photos import decode_all
from ssljax.retrieval import Embeddings, Retrieval
from ssljax.sharding import place_batch

STEPS = 120
SIDE = 20


@functools.cache
def catalogue():
    """All photos of the toy catalogue's train split, decoded, with what is known of them."""
    items = ToyCatalogue(listings=48).load("train")
    decoded = decode_all(items.photos, size=SIDE, threads=1, record=lambda bad: None)
    return items, decoded


def batch(step):
    items, decoded = catalogue()
    rows = np.random.default_rng(step).permutation(len(items))[:BATCH]
    return {
        "image": decoded.image[rows][:, None],
        "aspect": decoded.aspect[rows][:, None],
        "index": rows.astype(np.int32),
        "label": items.label[rows].astype(np.int32),
    }


def found(method, state):
    """MAP@R among the photos of a listing, and the spread of the embeddings."""
    items, decoded = catalogue()
    views = VIEWS.evaluation({"image": decoded.image[:, None], "aspect": decoded.aspect[:, None]})
    vectors = np.asarray(jax.jit(method.embed)(state.params, state.aux, views))
    embeddings = Embeddings.of(items, vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    figures = Retrieval(relevant="listing", split="train")(lambda split: embeddings)
    return figures["train/map@r"], float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


@pytest.mark.slow
# Not iBOT: its ViT, untrained, keeps what the mean colours tell, and so few steps do not make up for losing that.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ibot"])
def test_trained_is_better_than_untrained_and_not_collapsed(name):
    method = METHODS[name]
    training = Training(method, views=views_of(name))
    before, _ = found(method, training.state)
    for step in range(STEPS):
        with jax.set_mesh(training.mesh):
            training.state, _ = training.step(training.state, place_batch(training.mesh, batch(step)))
    after, spread = found(method, training.state)
    assert after > before and spread > 0.1
