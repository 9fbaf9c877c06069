"""Photos to embeddings, with the parameters of a training state."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import ordered_batches
from ssljax.data.titles.tokenized import TokenizedTitles
from ssljax.evaluation import Embeddings, Origin, raw_pixels
from ssljax.evaluation.embeddings import BASELINE
from ssljax.sharding import own_places, place_whole_batch, replicated
from ssljax.types import Array, Aux, Batch, Embed, Params, TeacherMethod, TitleMethod, TrainState

RAW_PIXELS_SIDE = 32
TITLES = "titles"  # what embeds the titles beside a student
By = Literal["both", "photo", "title"]
"""What of an item is embedded, of what the network reads."""


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What embeds single photos, and titles if it reads those: the trained network of a run."""

    embed: Callable[..., np.ndarray]
    """photos u8[B, S, S, 3], aspect ratios f32[B] and, if they are given, titles, B texts → f32[B, D]; compiled for
    each B"""
    photo_size: int
    """S"""
    origin: Origin
    embed_titles: Callable[[Sequence[str]], np.ndarray] | None = None
    """titles alone → f32[n, D], to be compared with photos; None if the network reads none"""


def embedding_functions(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """Network → the jitted function of parameters, state and batch to embeddings f32[B, D], whole on every device.

    The networks are "student", "teacher" if the method has one to show, and `TITLES`, which embeds titles beside the
    student's photos; a batch is decoded photos (`image` and `aspect`) and what there is of titles, of which the
    evaluation view is taken.
    """

    def compiled(embed: Callable[[Params, Aux, Batch], Array]) -> Any:
        def apply(params: Params, aux: Aux, batch: Batch) -> Array:
            with jax.default_matmul_precision(experiment.evaluation_precision):
                return embed(params, aux, experiment.normalised_views.evaluation(batch))

        return jax.jit(apply, out_shardings=replicated(mesh))

    functions = {"student": compiled(experiment.method.embed)}
    if isinstance(experiment.method, TitleMethod):
        functions[TITLES] = compiled(experiment.method.embed_title)
    if isinstance(experiment.method, TeacherMethod):
        functions["teacher"] = compiled(experiment.method.embed_teacher)
    return functions


class Embedder:
    """Embeds splits of an experiment's data: decoded, one evaluation view, embedded.

    Photos that cannot be read are left out, and listed in the file `bad_inputs` if one is given. `titles` makes token
    ids for networks that read titles. `by` hides the photos or the titles from a network that reads both.
    """

    def __init__(
        self,
        experiment: Experiment,
        mesh: Mesh,
        load: Callable[[str], Items],
        bad_inputs: Path | None = None,
        titles: TokenizedTitles | None = None,
        by: By = "both",
    ):
        self._experiment, self._mesh, self._load, self._bad_inputs = experiment, mesh, load, bad_inputs
        self._titles, self._by = titles, by
        self._apply = embedding_functions(experiment, mesh)

    @property
    def networks(self) -> tuple[str, ...]:
        """What there is to embed with: "student", and "teacher" if the method has one to show."""
        return tuple(name for name in self._apply if name != TITLES)

    @property
    def embeds_titles(self) -> bool:
        """Whether titles are embedded by a network of their own, in the space of the photos."""
        return TITLES in self._apply

    def hiding(self, by: By) -> "Embedder":
        """The same, of photos or of titles alone."""
        return Embedder(self._experiment, self._mesh, self._load, self._bad_inputs, self._titles, by)

    def batch(self, state: TrainState, batch: Batch, network: str = "student") -> np.ndarray:
        """f32[B, D] of one batch of decoded photos, with their titles if the network reads them.

        An item with neither has zeros: what the biases of a network make of nothing would be alike for all of them.
        """
        read = {name: batch[name] for name in ("image", "aspect", "title", "has_photo", "vectors") if name in batch}
        if self._titles is not None and "title" not in read:
            read["title"] = np.full((*read["aspect"].shape, self._titles.length), -1, np.int32)
        if self._titles is not None:
            there = read.get("has_photo", np.ones(read["aspect"].shape, bool))
            read["has_photo"] = there & (self._by != "title")
            if self._by == "photo":
                read["title"] = np.full_like(read["title"], -1)
        batch = place_whole_batch(self._mesh, read)
        with jax.set_mesh(self._mesh):
            made = np.asarray(jax.device_get(self._apply[network](state.params, state.aux, batch)))
        if self._titles is None:
            return made
        return np.where(read["has_photo"] | (read["title"] >= 0).any(axis=2), made, 0)

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
            places, vectors, pixels, titles = [], {name: [] for name in rows}, [], {name: [] for name in rows}
            for batch in self._batches(items, side):
                valid = batch["valid"]
                places.append(batch["index"][valid])
                for name, (state, network) in rows.items():
                    vectors[name].append(self.batch(state, batch, network)[valid])
                    if self.embeds_titles and network == "student":
                        titles[name].append(self.batch(state, batch, TITLES)[valid])
                if baseline:
                    pixels.append(batch["small"][valid])
            found = items.select(np.concatenate(places))
            whole = {name: np.concatenate(parts) for name, parts in vectors.items()}
            if baseline:
                whole[BASELINE] = raw_pixels(np.concatenate(pixels))
            beside = {name: np.concatenate(parts) for name, parts in titles.items() if parts}
            return {name: Embeddings.of(found, made, beside.get(name)) for name, made in whole.items()}

        names = [*rows, BASELINE] if baseline else list(rows)
        return {name: lambda split, name=name: embed(split)[name] for name in names}

    def _batches(self, items: Items, small: int | None) -> Iterator[Batch]:
        """All photos in order; of several processes, each decodes those that its own devices embed."""
        e = self._experiment
        bad = BadInputs(self._bad_inputs, total=len(items), limit=e.max_bad_share)
        own = own_places(self._mesh, e.batch_size)
        options = {"size": e.photo_size, "small": small, "threads": e.threads, "titles": self._titles}
        return ordered_batches(items, batch_size=e.batch_size, bad=bad, own=own, **options)
