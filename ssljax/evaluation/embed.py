"""Photos to embeddings, with the parameters of a training state."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import ordered_batches
from ssljax.evaluation import Embeddings, Origin, raw_pixels
from ssljax.evaluation.embeddings import BASELINE
from ssljax.sharding import own_places, place_whole_batch, replicated
from ssljax.types import Array, Aux, Batch, Embed, Params, TeacherMethod, TrainState

RAW_PIXELS_SIDE = 32


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What embeds single photos: the trained network of a run."""

    embed: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """photos u8[B, S, S, 3] and aspect ratios f32[B] → f32[B, D]; compiled for each B"""
    photo_size: int
    """S"""
    origin: Origin


def embedding_functions(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """Network → the jitted function of parameters, state and batch to embeddings f32[B, D], whole on every device.

    The networks are "student", and "teacher" if the method has one to show; a batch is decoded photos (`image` and
    `aspect`), of which the evaluation view is taken.
    """

    def compiled(embed: Callable[[Params, Aux, Batch], Array]) -> Any:
        def apply(params: Params, aux: Aux, batch: Batch) -> Array:
            with jax.default_matmul_precision(experiment.evaluation_precision):
                return embed(params, aux, experiment.normalised_views.evaluation(batch))

        return jax.jit(apply, out_shardings=replicated(mesh))

    functions = {"student": compiled(experiment.method.embed)}
    if isinstance(experiment.method, TeacherMethod):
        functions["teacher"] = compiled(experiment.method.embed_teacher)
    return functions


class Embedder:
    """Embeds splits of an experiment's data: decoded, one evaluation view, embedded.

    Photos that cannot be read are left out, and listed in the file `bad_inputs` if one is given.
    """

    def __init__(
        self, experiment: Experiment, mesh: Mesh, load: Callable[[str], Items], bad_inputs: Path | None = None
    ):
        self._experiment, self._mesh, self._load, self._bad_inputs = experiment, mesh, load, bad_inputs
        self._apply = embedding_functions(experiment, mesh)

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
        """Split → its embeddings by one of the `networks` of `state`; each split is embedded once."""
        return self.together({network: (state, network)})[network]

    def by_networks(self, state: TrainState) -> dict[str, Embed]:
        """Network → split → its embeddings, for all `networks` of `state`; each split is decoded once."""
        return self.together({network: (state, network) for network in self.networks})

    def together(self, rows: Mapping[str, tuple[TrainState, str]], *, baseline: bool = False) -> dict[str, Embed]:
        """Row → split → its embeddings by a network of a state; each split is decoded once for all rows.

        With `baseline` there is a last row of raw pixels: 32x32 RGB less the split's mean, which needs no training.
        """

        @functools.cache
        def embed(split: str) -> dict[str, Embeddings]:
            items, side = self._load(split), RAW_PIXELS_SIDE if baseline else None
            places, vectors, pixels = [], {name: [] for name in rows}, []
            for batch in self._batches(items, side):
                valid = batch["valid"]
                places.append(batch["index"][valid])
                for name, (state, network) in rows.items():
                    vectors[name].append(self.batch(state, batch, network)[valid])
                if baseline:
                    pixels.append(batch["small"][valid])
            found = items.select(np.concatenate(places))
            whole = {name: np.concatenate(parts) for name, parts in vectors.items()}
            if baseline:
                whole[BASELINE] = raw_pixels(np.concatenate(pixels))
            return {name: Embeddings.of(found, made) for name, made in whole.items()}

        names = [*rows, BASELINE] if baseline else list(rows)
        return {name: lambda split, name=name: embed(split)[name] for name in names}

    def _batches(self, items: Items, small: int | None) -> Iterator[Batch]:
        """All photos in order; of several processes, each decodes those that its own devices embed."""
        e = self._experiment
        bad = BadInputs(self._bad_inputs, total=len(items), limit=e.max_bad_share)
        own = own_places(self._mesh, e.batch_size)
        options = {"size": e.photo_size, "small": small, "threads": e.threads}
        return ordered_batches(items, batch_size=e.batch_size, bad=bad, own=own, **options)
