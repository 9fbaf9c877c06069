"""The items with a label: what the evaluators that classify learn from and are judged by."""

import numpy as np

from ssljax.evaluation.embeddings import Embeddings
from ssljax.types import UserError


def labelled(evaluator: str, embeddings: Embeddings, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors f32[n, D] and labels i32[n] of the items of `split` that have a label.

    Raises UserError, in the name of `evaluator`, if there is none.
    """
    rows = np.flatnonzero(embeddings.label >= 0) if embeddings.label is not None else []
    if not len(rows):
        raise UserError(f"{evaluator} needs labels, and split {split!r} has none: name the label's column in `data`")
    return embeddings.vectors[rows], embeddings.label[rows]
