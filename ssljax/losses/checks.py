"""What the losses refuse: shapes that do not fit each other."""

from ssljax.types import Array


def check_same(name: str, x: Array, other: str, y: Array, axes: str = "[B, D]") -> None:
    """Raises ValueError unless both have the same shape, with the axes that `axes` names."""
    if x.shape != y.shape or x.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} of shape {x.shape} and {other} of shape {y.shape} should both be {axes}")


def check_fits(name: str, x: Array, shape: tuple[int, ...], other: str, y: Array) -> None:
    """Raises ValueError unless `x` has the `shape` that `y` asks of it."""
    if x.shape != shape:
        raise ValueError(f"{name} of shape {x.shape} does not fit {other} of shape {y.shape}: {shape} would")


def check_labelled(name: str, z: Array, labels: Array) -> None:
    """Raises ValueError unless z is [B, D] and labels [B]."""
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise ValueError(f"{name} of shape {z.shape} and labels of shape {labels.shape} should be [B, D] and [B]")


def check_features(name: str, x: Array, other: str, y: Array) -> None:
    """Raises ValueError unless `x` is [N, D] with the D of `y`."""
    if x.ndim != 2 or x.shape[1] != y.shape[-1]:
        raise ValueError(f"{name} of shape {x.shape} and {other} of shape {y.shape} should have the same last axis")
