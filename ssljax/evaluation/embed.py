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
TITLES = "titles"  # what embeds titles apart from photos, beside the student
By = Literal["both", "photo", "title"]
"""What the network sees of an item."""


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The trained network of a run: embeds single photos, and titles if it reads them."""

    embed: Callable[..., np.ndarray]
    """photos u8[B, S, S, 3], aspect ratios f32[B] and, optionally, B titles → f32[B, D]; compiled for powers of two"""
    photo_size: int
    """S"""
    origin: Origin
    embed_titles: Callable[[Sequence[str]], np.ndarray] | None = None
    """n titles without photos → f32[n, D], to compare with photos; None if the network reads no titles"""


def embedding_functions(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """Network → the jitted function of parameters, state and batch to embeddings f32[B, D], whole on every device.

    The networks are "student", "teacher" if the method shows one, and `TITLES` if it is a `TitleMethod`. A batch holds
    what `Embedder.batch` takes; its evaluation view is embedded.
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
    ids for networks that read titles. `by` "photo" hides the titles from a network that reads both, "title" the photos.
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

    def only(self, by: By) -> "Embedder":
        """The same, of photos alone or of titles alone."""
        return Embedder(self._experiment, self._mesh, self._load, self._bad_inputs, self._titles, by)

    def batch(self, state: TrainState, batch: Batch, network: str = "student") -> np.ndarray:
        """f32[B, D], the embeddings of a batch, whose other columns are ignored.

        An item with neither photo nor title has zeros: a network's biases would make all of these alike.

        batch: `image` u8[B, 1, S, S, 3] and `aspect` f32[B, 1]; with titles perhaps `title` i32[B, 1, L], blank by
            default, and `has_photo` bool[B, 1], True by default; with a source of vectors `vectors` f32[B, 1, D].
        """
        read = {name: batch[name] for name in ("image", "aspect", "title", "has_photo", "vectors") if name in batch}
        if self._titles is not None:
            shape = read["aspect"].shape
            if self._by == "photo" or "title" not in read:
                read["title"] = np.full((*shape, self._titles.length), -1, np.int32)
            if self._by == "title" or "has_photo" not in read:
                read["has_photo"] = np.full(shape, self._by != "title")
        placed = place_whole_batch(self._mesh, read)
        with jax.set_mesh(self._mesh):
            made = np.asarray(jax.device_get(self._apply[network](state.params, state.aux, placed)))
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
