"""Training on the toy catalogue for some seconds, and what its embeddings then find; shared by the tests."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from tiny import BATCH, OPTIMIZER, VIEWS, Training

from ssljax.data import ToyCatalogue
from ssljax.data.photos import decode_all
from ssljax.evaluation import Embeddings, Retrieval
from ssljax.losses import embedding_std

SIDE = 20


class Learned(NamedTuple):
    """What came of a training."""

    before: float
    """MAP@R among the photos of a listing, by the untrained embeddings"""
    after: float
    """the same by the trained ones"""
    spread: float
    """standard deviation of the trained embeddings, 1 for directions spread evenly"""
    figures: dict[str, float]
    """of the last step"""


def learn(method, *, views=VIEWS, optimizer=OPTIMIZER, steps: int = 120) -> Learned:
    """Trains a method on the photos of the toy catalogue."""
    training = Training(method, views=views, optimizer=optimizer, steps=steps)
    embed = jax.jit(method.embed)
    before, _ = found(embed, training.state)
    figures = training.run(steps, photos)
    after, spread = found(embed, training.state)
    return Learned(before, after, spread, {name: float(value) for name, value in figures.items()})


@functools.cache
def catalogue():
    """All photos of the toy catalogue's train split, decoded, with what is known of them."""
    items = ToyCatalogue(listings=48).load("train")
    decoded = decode_all(items.photos, size=SIDE, threads=1, record=lambda bad: None)
    return items, decoded


def photos(step: int) -> dict[str, np.ndarray]:
    """A batch of the catalogue's photos, another for every step."""
    items, decoded = catalogue()
    rows = np.random.default_rng(step).permutation(len(items))[:BATCH]
    return {
        "image": decoded.image[rows][:, None],
        "aspect": decoded.aspect[rows][:, None],
        "index": rows.astype(np.int32),
        "label": items.label[rows].astype(np.int32),
    }


def found(embed, state) -> tuple[float, float]:
    """MAP@R among the photos of a listing, and the spread of the embeddings."""
    items, decoded = catalogue()
    views = VIEWS.evaluation({"image": decoded.image[:, None], "aspect": decoded.aspect[:, None]})
    vectors = embed(state.params, state.aux, views)
    embeddings = Embeddings.of(items, np.asarray(vectors))
    figures = Retrieval(relevant="listing", split="train")(lambda split: embeddings)
    return figures["train/map@r"], float(embedding_std(vectors))
