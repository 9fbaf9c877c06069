"""What evaluators share: items with a label, columns, names of figures, and checks of settings."""

from typing import Any

import numpy as np

from ssljax.data.text import did_you_mean
from ssljax.evaluation.embeddings import Embeddings
from ssljax.types import Embed, UserError


def named(figures: dict[str, float], split: str, name: str) -> dict[str, float]:
    """The figures of an evaluator as tables have them, called `<split>/[<name>/]<figure>`."""
    prefix = f"{split}/{name}/" if name else f"{split}/"
    return {prefix + figure: value for figure, value in figures.items()}


def labelled(evaluator: str, embeddings: Embeddings, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors f32[n, D] and labels i32[n] of the items of `split` that have a label.

    Raises UserError, in the name of `evaluator`, if there is none.
    """
    label = embeddings.label
    if label is None or not (label >= 0).any():
        raise UserError(f"{evaluator} needs labels, and split {split!r} has none: name the label's column in `data`")
    return embeddings.vectors[label >= 0], label[label >= 0]


def text_column(embed: Embed, split: str, name: str, field: str) -> np.ndarray:
    """object[n] of str, a column of a split; raises UserError if it has none of that `name`, the value of `field`."""
    columns = embed(split).columns
    if name not in columns:
        raise UserError(f"{field}: {name!r} is not a column of the data{did_you_mean(name, list(columns))}")
    return columns[name]


def check_above_0(evaluator: Any, *fields: str) -> None:
    """Raises UserError if a field, or one of the numbers in it, is not above 0."""
    for field in fields:
        value = getattr(evaluator, field)
        if min(value if isinstance(value, tuple) else (value,), default=1) <= 0:
            raise UserError(f"{type(evaluator).__name__}.{field}={value} must be above 0")


def check_splits(evaluator: Any, *fields: str, because: str) -> None:
    """Raises UserError if two of the `fields` name one split, which `because` says why not."""
    name, field_of = type(evaluator).__name__, {}
    for field in fields:
        split = getattr(evaluator, field)
        if split is not None and field_of.setdefault(split, field) != field:
            raise UserError(f"{name}.{field_of[split]} and {name}.{field} are both {split!r}: {because}")
