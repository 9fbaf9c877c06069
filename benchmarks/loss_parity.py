"""Losses here beside those of other libraries, on the same random arrays: what a comparison is, and its inputs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BATCH, FEATURES, CLASSES, KEYS, PROTOTYPES, PATCHES = 32, 16, 8, 64, 12, 9
SIZES = (7, 5)  # numbers of values of two attributes
RADIANS = 0.5
DEGREES = float(np.degrees(RADIANS))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One loss here beside one elsewhere: both take the dict that `inputs` makes, of their own kind of arrays."""

    loss: str
    peer: str
    gradients: tuple[str, ...]
    ours: Callable[[dict[str, Any]], Any]
    theirs: Callable[[dict[str, Any]], Any]
    factor: float = 1.0
    note: str = ""


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Random arrays for all losses; the labels are items of 8 classes, 4 of each, in random order."""
    rng = np.random.default_rng(seed)
    shapes = {
        "z1": (BATCH, FEATURES),
        "z2": (BATCH, FEATURES),
        "p1": (BATCH, FEATURES),
        "p2": (BATCH, FEATURES),
        "queue": (KEYS, FEATURES),
        "weights": (CLASSES, FEATURES),
        "centers": (CLASSES, 3, FEATURES),
        "views": (4, BATCH, PROTOTYPES),
        "teacher": (2, BATCH, PROTOTYPES),
        "center": (PROTOTYPES,),
        "patches": (BATCH, PATCHES, PROTOTYPES),
        "teacher_patches": (BATCH, PATCHES, PROTOTYPES),
        "attribute0": (BATCH, SIZES[0]),
        "attribute1": (BATCH, SIZES[1]),
    }
    x = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    attributes = np.stack([rng.integers(-1, size, BATCH) for size in SIZES], axis=1)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), BATCH // CLASSES))
    mask = rng.random((BATCH, PATCHES)) < 0.4
    return x | {
        "attributes": attributes,
        "labels": labels,
        "mask": mask,
        "memory_labels": rng.integers(0, CLASSES, KEYS),
        "triplets": np.stack([rng.permutation(BATCH)[:3] for _ in range(40)]),
    }


def compare(row: Comparison, draws: int) -> dict[str, Any]:
    """The row of the table: the largest relative differences in value and in gradient over the draws."""
    import torch

    value_difference = gradient_difference = 0.0
    for seed in range(draws):
        x = inputs(seed)
        ours = {name: jnp.asarray(array) for name, array in x.items()}
        wanted = {name: ours[name] for name in row.gradients}
        value, grads = jax.value_and_grad(lambda some, ours=ours: row.ours(ours | some))(wanted)
        theirs = {name: torch.tensor(array) for name, array in x.items()}
        for name in row.gradients:
            theirs[name].requires_grad_()
        their_value = row.theirs(theirs)
        their_value.backward()
        value_difference = max(value_difference, relative(row.factor * value, their_value.detach()))
        for name in row.gradients:
            difference = relative(row.factor * grads[name], theirs[name].grad)
            gradient_difference = max(gradient_difference, difference)
    return {
        "convention_factor": row.factor,
        "difference_in_value": value_difference,
        "difference_in_gradient": gradient_difference,
        "convention": row.note,
    }


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference over the largest number of theirs."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
