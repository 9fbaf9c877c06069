"""Disturbs photos as they were decoded, embeds them, and searches among them: what `ssljax robustness` measures."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.decode import original_shape
from ssljax.data.photos import decode_all
from ssljax.data.pipeline import record_bad
from ssljax.evaluation import Embeddings, Retrieval, relevance
from ssljax.evaluation.embed import RAW_PIXELS_SIDE
from ssljax.evaluation.embeddings import BASELINE
from ssljax.evaluation.ranking import Ranking
from ssljax.evaluation.robustness import (
    FIGURES,
    SIDES,
    Curve,
    Lost,
    Robustness,
    Side,
    Vectors,
    figures,
    lost,
    on_side,
)
from ssljax.training.logging import console, counting
from ssljax.types import Array, Batch, UserError
from ssljax.views.boxes import resize
from ssljax.views.disturbances.disturbance import Disturbance
from ssljax.views.resample import Box

BATCH = 64  # photos disturbed together: fixed, as a photo's place among them decides what happens to it
EXAMPLES = 6  # of each disturbance
NOTHING = np.empty((0, 0), np.float32)

Ways = dict[str, Callable[[Batch], np.ndarray]]


class Photos:
    """Photos in a given order, decoded once and kept (u8[n, S, S, 3]), and embedded as often as asked.

    Raw pixels are embedded beside what `ways` names: 32x32 RGB less the mean of the clean photos. Bad photos are left
    out.
    """

    def __init__(self, items: Items, order: np.ndarray, experiment: Experiment, bad: BadInputs, ways: Ways, rng: Array):
        items, size = items.select(order), experiment.photo_size
        with counting("decoding", len(items)) as progress:
            decoded = decode_all(
                items.photos,
                size=size,
                threads=experiment.threads,
                record=lambda photos: record_bad(bad, items, photos),
                progress=progress,
            )
        self.places = np.flatnonzero(decoded.good)
        """i64[n], where the good photos are in the order"""
        self.items = items.select(self.places)
        self._image, self._aspect, self._ways, self._rng = decoded.image, decoded.aspect, ways, rng
        mean = decoded.image.sum(axis=0, dtype=np.float64) / (255 * len(self))  # those of bad photos are zero
        self._mean = np.asarray(_raw_pixels(jnp.asarray(mean[None], jnp.float32)))

    def __len__(self) -> int:
        return len(self.places)

    def vectors(
        self, count: int, disturbance: Disturbance | None = None, strength: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Way → f32[count, D], the first photos, disturbed or clean."""
        parts = [self._embedded(batch) for batch in self._batches(count, disturbance, strength)]
        return {way: np.concatenate([part[way] for part in parts])[:count] for way in parts[0]}

    def photo(self, row: int, disturbance: Disturbance | None = None, strength: float = 0.0) -> np.ndarray:
        """u8[h, w, 3], one of them as it is embedded, in its original shape."""
        batch = self._batch(row // BATCH, disturbance, strength)
        return original_shape(batch["image"][row % BATCH, 0], float(batch["aspect"][row % BATCH, 0]))

    def _embedded(self, batch: Batch) -> dict[str, np.ndarray]:
        pixels = np.asarray(_raw_pixels(batch["image"][:, 0])) - self._mean
        return {way: embed(batch) for way, embed in self._ways.items()} | {BASELINE: pixels}

    def _batches(self, count: int, disturbance: Disturbance | None, strength: float) -> Iterator[Batch]:
        return (self._batch(number, disturbance, strength) for number in range(-(-count // BATCH)))

    def _batch(self, number: int, disturbance: Disturbance | None, strength: float) -> Batch:
        """Always BATCH photos: the last batch is filled up with the first photos."""
        rows = self.places[np.arange(number * BATCH, (number + 1) * BATCH) % len(self)]
        image = self._image[rows]
        if disturbance is not None:
            rng = jax.random.fold_in(jax.random.fold_in(self._rng, _number(type(disturbance).__name__)), number)
            image = np.asarray(_disturbed(disturbance, rng, image, strength))
        return {"image": image[:, None], "aspect": self._aspect[rows][:, None]}


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A query that found a relevant item when it was clean, and does not when it is disturbed; photos u8[h, w, 3]."""

    clean: np.ndarray
    disturbed: np.ndarray
    wrong: np.ndarray
    """the photo that it finds first now"""
    right: np.ndarray
    """the photo that it found first before"""
    captions: tuple[str, str, str]
    """of the query, the wrong and the right one"""
    rank: int
    """of the right one now"""


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """The photos of a search: the first `count` of `queries` are looked for in `gallery`, which may be the same."""

    retrieval: Retrieval
    queries: Photos
    gallery: Photos
    count: int
    query_groups: np.ndarray
    """i32[count]"""
    gallery_groups: np.ndarray
    """i32[n]; items of a query's group are relevant to it, -1 = in no group"""
    positives: int
    """how many queries there would be, were it not for `items` and bad photos"""

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        load: Callable[[str], Items],
        bad: Callable[[Items], BadInputs],
        ways: Ways,
        suite: Robustness,
    ) -> "Pool":
        """Reads what the experiment's first Retrieval compares; raises UserError if it has none, or nothing to find."""
        retrieval = experiment.retrieval
        if retrieval is None:
            raise UserError("evaluate has no Retrieval, by whose figures robustness is measured: add Retrieval()")

        def unseen(split: str) -> Embeddings:
            return Embeddings.unseen(load(split))

        retrieval.check(unseen)
        asked, searched = load(retrieval.split), load(retrieval.searched)
        rng = np.random.default_rng(suite.seed)
        positives = rng.permutation(retrieval.ranking(unseen).asked)
        rows = positives[: suite.items]

        def photos(split: str, items: Items, order: np.ndarray) -> Photos:
            key = jax.random.fold_in(jax.random.PRNGKey(suite.seed), _number(split))
            return Photos(items, order, experiment, bad(items), ways, key)

        if retrieval.split == retrieval.searched:  # one order, in which those that are asked come first
            others = rng.permutation(np.setdiff1d(np.arange(len(asked)), positives))
            queries = gallery = photos(retrieval.split, asked, np.concatenate([positives, others]))
        else:
            queries = photos(retrieval.split, asked, rows)
            gallery = photos(retrieval.searched, searched, rng.permutation(len(searched)))
        count = int(np.searchsorted(queries.places, len(rows)))  # without bad ones
        groups = relevance(retrieval.relevant, Embeddings.unseen(queries.items), Embeddings.unseen(gallery.items))
        return cls(retrieval, queries, gallery, count, groups[0][:count], groups[1], len(positives))

    def ranking(self, vectors: Vectors) -> Ranking:
        """Who is looked for among whom, by these embeddings; a query in the gallery does not find itself."""
        own = np.arange(self.count) if self.queries is self.gallery else None
        return Ranking(vectors.queries, self.query_groups, vectors.gallery, self.gallery_groups, own)

    def vectors(
        self, disturbance: Disturbance | None = None, strength: float = 0.0, sides: Sequence[Side] = SIDES
    ) -> dict[str, Vectors]:
        """Way → embeddings, clean or disturbed, of what `sides` need; the rest may be empty."""
        queries, gallery = {"query", "both"} & set(sides), {"gallery", "both"} & set(sides)
        if self.queries is self.gallery:
            found = self.queries.vectors(len(self.gallery) if gallery else self.count, disturbance, strength)
            return {way: Vectors(vectors[: self.count], vectors) for way, vectors in found.items()}
        asked = self.queries.vectors(self.count, disturbance, strength) if queries else {}
        searched = self.gallery.vectors(len(self.gallery), disturbance, strength) if gallery else {}
        return {way: Vectors(asked.get(way, NOTHING), searched.get(way, NOTHING)) for way in asked or searched}

    def example(self, found: Lost, disturbance: Disturbance, strength: float) -> Example:
        """What the page shows of a lost query."""
        return Example(
            clean=self.queries.photo(found.query),
            disturbed=self.queries.photo(found.query, disturbance, strength),
            wrong=self.gallery.photo(found.wrong),
            right=self.gallery.photo(found.right),
            captions=(
                self.queries.items.caption(found.query),
                self.gallery.items.caption(found.wrong),
                self.gallery.items.caption(found.right),
            ),
            rank=found.rank,
        )


def measure(
    pool: Pool, suite: Robustness, disturbances: Sequence[Disturbance], network: str = "student"
) -> tuple[list[Curve], dict[str, list[Example]]]:
    """The curves, and for each disturbance examples of a network's queries that it loses at medium strength."""
    clean, done = pool.vectors(), 0
    at_zero = {way: figures(pool.ranking(vectors)) for way, vectors in clean.items()}
    curves: list[Curve] = []
    examples: dict[str, list[Example]] = {}
    with counting("disturbing", len(disturbances) * len(suite.strengths)) as progress:
        for disturbance in disturbances:
            name = type(disturbance).__name__
            found: dict[tuple[str, Side], list[dict[str, float]]] = {}
            for strength in suite.strengths:
                for way, vectors in pool.vectors(disturbance, strength, suite.sides).items():
                    for side in suite.sides:
                        ranking = pool.ranking(on_side(side, clean[way], vectors))
                        found.setdefault((way, side), []).append(figures(ranking))
                        if (way, side, strength) == (network, "query", suite.medium):
                            worst = lost(pool.ranking(clean[way]), ranking, EXAMPLES)
                            examples[name] = [pool.example(one, disturbance, strength) for one in worst]
                done += 1
                progress(done)
            new = [
                Curve(name, way, side, figure, at_zero[way][figure], tuple(values[figure] for values in each))
                for (way, side), each in found.items()
                for figure in FIGURES
            ]
            curves += new
            console.print(
                f"{name}, {new[0].side}: {new[0].figure} {new[0].clean:.3f} clean, then "
                + " ".join(f"{value:.3f}" for value in new[0].values)
            )
    return curves, examples


@functools.partial(jax.jit, static_argnums=0)
def _disturbed(disturbance: Disturbance, rng: Array, photos: Array, strength: Array) -> Array:
    """u8[B, S, S, 3] of u8[B, S, S, 3], all disturbed by one strength f32[]."""
    planes = photos.transpose(0, 3, 1, 2).astype(jnp.float32) / 255
    planes = disturbance.disturb(rng, planes, jnp.full(len(photos), strength))
    return jnp.round(255 * jnp.clip(planes, 0, 1)).astype(jnp.uint8).transpose(0, 2, 3, 1)


@jax.jit
def _raw_pixels(photos: Array) -> Array:
    """f32[B, 3 * 32 * 32] in [0, 1] of u8[B, S, S, 3], or of f32 in [0, 1]."""
    one = jnp.ones(len(photos))
    whole = Box(0 * one, 0 * one, one, one)
    return resize(photos, whole, RAW_PIXELS_SIDE).reshape(len(photos), -1)


def _number(name: str) -> int:
    """One for each name: it does not change when others come or go."""
    return zlib.crc32(name.encode())
