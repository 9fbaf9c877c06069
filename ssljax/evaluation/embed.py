"""Photos to embeddings, with the parameters of a training state."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import ordered_batches
from ssljax.evaluation import Embeddings, Origin, raw_pixels
from ssljax.sharding import place_whole_batch, replicated
from ssljax.types import Array, Aux, Batch, Embed, Params, TrainState

RAW_PIXELS_SIDE = 32


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What embeds single photos: the trained network of a run."""

    embed: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """photos u8[B, S, S, 3] and aspect ratios f32[B] → f32[B, D]; compiled for each B"""
    photo_size: int
    """S"""
    origin: Origin


class Embedder:
    """Embeds splits of an experiment's data: decoded, one evaluation view, embedded. Bad photos are left out."""

    def __init__(
        self, experiment: Experiment, mesh: Mesh, load: Callable[[str], Items], bad: Callable[[Items], BadInputs]
    ):
        self._experiment, self._mesh, self._load, self._bad = experiment, mesh, load, bad
        views = experiment.views

        def compiled(embed: Callable[[Params, Aux, Batch], Array]) -> Callable[[Params, Aux, Batch], Array]:
            def apply(params: Params, aux: Aux, batch: Batch) -> Array:
                with jax.default_matmul_precision(experiment.evaluation_precision):
                    return embed(params, aux, views.evaluation(batch))

            return jax.jit(apply, out_shardings=replicated(mesh))

        self._apply = {"student": compiled(experiment.method.embed)}
        if hasattr(experiment.method, "embed_teacher"):
            self._apply["teacher"] = compiled(experiment.method.embed_teacher)

    @property
    def networks(self) -> tuple[str, ...]:
        """What there is to embed with: "student", and "teacher" if the method has one to show."""
        return tuple(self._apply)

    def batch(self, state: TrainState, batch: Batch, network: str = "student") -> np.ndarray:
        """f32[B, D] of one batch of decoded photos."""
        batch = place_whole_batch(self._mesh, {"image": batch["image"], "aspect": batch["aspect"]})
        with jax.set_mesh(self._mesh):
            return np.asarray(jax.device_get(self._apply[network](state.params, state.aux, batch)))

    def by(self, state: TrainState, network: str = "student") -> Embed:
        """Split name → embeddings by one of the `networks` of `state`; each split is computed once."""

        def vectors(batches: Iterator[Batch]) -> Iterator[np.ndarray]:
            return (self.batch(state, batch, network)[batch["valid"]] for batch in batches)

        return self._by_split(vectors, self._experiment.photo_size)

    def raw_pixels(self) -> Embed:
        """Split name → 32x32 RGB pixels less the split's mean: the baseline that needs no training."""

        def vectors(batches: Iterator[Batch]) -> Iterator[np.ndarray]:
            yield raw_pixels(np.concatenate([batch["image"][batch["valid"], 0] for batch in batches]))

        return self._by_split(vectors, RAW_PIXELS_SIDE)

    def _by_split(self, vectors: Callable[[Iterator[Batch]], Iterator[np.ndarray]], size: int) -> Embed:
        @functools.cache
        def embed(split: str) -> Embeddings:
            e, items, rows = self._experiment, self._load(split), []

            def batches() -> Iterator[Batch]:
                bad = self._bad(items)
                for batch in ordered_batches(items, batch_size=e.batch_size, size=size, bad=bad, threads=e.threads):
                    rows.append(batch["index"][batch["valid"]])
                    yield batch

            embedded = np.concatenate(list(vectors(batches())))
            return Embeddings.of(items.select(np.concatenate(rows)), embedded)

        return embed
