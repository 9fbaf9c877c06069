"""A source of photos that a network has embedded already."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssljax.data import Items
from ssljax.data.paths import find
from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.rerank import Whitening
from ssljax.evaluation.vectors import normalise
from ssljax.types import Source, UserError, short


@dataclasses.dataclass(frozen=True)
class SavedEmbeddings:
    """`SavedEmbeddings(Catalogue(path="shop.csv"), "runs/imported")`: items with a run's embeddings of their photos.

    With `views=SavedVectors()` a network after a frozen one (a projection, or a `Fusion` with titles) trains on them in
    minutes.
    """

    data: Source
    """Where the items come from. If it is a `SavedEmbeddings`, too, each item has both vectors side by side, as they
    are; `Joined` is one network that does so."""
    path: str
    """A file that `ssljax embed RUN ... -o FILE` wrote, .npz or .parquet; or a run folder, which keeps those of the
    splits in its `gallery`. A relative path is looked up from here, then under SSLJAX_DATA."""
    whitening: Whitening | None = None
    """Whitens the vectors, by a split of them, for a projection that then learns; None leaves them as they are."""

    def __post_init__(self):
        if not hasattr(self.data, "load"):
            raise UserError(f"data.data={short(self.data)} must be a source, such as Catalogue(path='shop.csv')")
        if not isinstance(self.whitening, Whitening | None):
            raise UserError(f"data.whitening={short(self.whitening)} must be a Whitening(dim=...), or None")

    def load(self, split: str) -> Items:
        """The items of a split that have a vector; raises UserError if none has, or the file cannot be read."""
        items, vectors = self._load(split)
        if self.whitening is not None:
            vectors = self._whiten(normalise(vectors))
        return dataclasses.replace(items, vectors=vectors)

    @functools.cached_property
    def _whiten(self) -> Callable[[np.ndarray], np.ndarray]:
        """`whitening`, fitted once."""
        assert self.whitening is not None
        return self.whitening.fitted(lambda split: Embeddings.of(*self._load(split)))

    def _load(self, split: str) -> tuple[Items, np.ndarray]:
        """The items of a split that have a vector, and their vectors f32[n, D]."""
        path = Path(find(self.path))
        embeddings = Embeddings.load(path / "embeddings" / f"{split}.npz" if path.is_dir() else path)
        items = self.data.load(split)
        place = {id: row for row, id in enumerate(embeddings.ids.tolist())}
        rows = np.array([place.get(id, -1) for id in items.ids.tolist()])
        known = rows >= 0
        if not known.any():
            raise UserError(
                f"data.path={self.path} has no vector of split {split!r}: its ids are of other items, such as "
                f"{embeddings.ids[0]!r} instead of {items.ids[0]!r}; embed this data with the run"
            )
        items, vectors = items.select(known), embeddings.vectors[rows[known]]
        if items.vectors is not None:
            vectors = np.concatenate([items.vectors, vectors], axis=1)
        return items, vectors
