"""A source of photos that a network has embedded already."""

import dataclasses
from pathlib import Path

import numpy as np

from ssljax.data import Items
from ssljax.data.paths import find
from ssljax.evaluation.embeddings import Embeddings
from ssljax.types import Source, UserError, short


@dataclasses.dataclass(frozen=True)
class SavedEmbeddings:
    """`SavedEmbeddings(Catalogue(path="shop.csv"), "runs/imported")`: items with a run's embeddings of their photos.

    With `views=SavedVectors()` a network after a frozen one (a projection, or a `Fusion` with titles) trains on them in
    minutes.
    """

    data: Source
    """Where the items come from."""
    path: str
    """A file that `ssljax embed RUN ... -o FILE` wrote, .npz or .parquet; or a run folder, which keeps those of the
    splits in its `gallery`. A relative path is looked up from here, then under SSLJAX_DATA."""

    def __post_init__(self):
        if not hasattr(self.data, "load"):
            raise UserError(f"data.data={short(self.data)} must be a source, such as Catalogue(path='shop.csv')")

    def load(self, split: str) -> Items:
        """The items of a split that have a vector; raises UserError if none has, or the file cannot be read."""
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
        return dataclasses.replace(items.select(known), vectors=embeddings.vectors[rows[known]])
