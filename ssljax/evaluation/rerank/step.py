"""What may be done to vectors between the encoder and the search."""

from typing import Protocol

import numpy as np

from ssljax.types import Embed, UserError


class PostProcessing(Protocol):
    """A step from vectors to vectors of unit length, which are then compared by cosine as before."""

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """The new queries f32[Q, d] and gallery f32[n, d]; raises UserError as `check`.

        Args:
          queries: f32[Q, D], of unit length.
          gallery: f32[n, D], of unit length.
          own: i32[Q], the gallery row that each query is itself; None if the queries are not in the gallery.
          embed: split name → embeddings, for what has to be fitted.
        """
        ...

    def check(self, items: int, embed: Embed) -> None:
        """Raises UserError if this cannot be done with a gallery of so many items: to be known before training."""
        ...


def check_neighbours(field: str, k: int, items: int) -> None:
    """Raises UserError unless each of the items has k others."""
    if k >= items:
        raise UserError(f"{field}={k} is too large for a gallery of {items} items: it must be below that number")
