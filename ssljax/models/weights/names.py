"""Names to names: which tensor of timm's layout is which variable of ours, and how one becomes the other.

Other layouts (Hugging Face's, big_vision's, ...) are first renamed to timm's: a family's `Layout.dialects`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ssljax.types import UserError

Tensors = Mapping[str, np.ndarray]
"""name → tensor, as in a file"""
Rules = Sequence[tuple[str, str]]
"""Patterns of names, and what replaces them"""
Dialect = Callable[[Tensors], Tensors | None]
"""Tensors under others' names → under timm's, or None if they are not of this dialect"""


class Entry(NamedTuple):
    """One tensor in timm's layout, and the variables of ours that it becomes."""

    theirs: str
    ours: tuple[str, ...]
    """flat names of linen variables, such as params/stem_conv/kernel"""
    to_ours: Callable[[np.ndarray], Sequence[np.ndarray]]
    to_theirs: Callable[[Sequence[np.ndarray]], np.ndarray]


class Layout(NamedTuple):
    """How timm lays out a module's variables."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = (r".*\.num_batches_tracked",)
    """patterns of names that may be left over: classifiers, and buffers that are constant"""
    dialects: tuple[Dialect, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """What of a file's tensors a module takes; all are names in timm's layout."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """that the module needs, and the file lacks"""
    ignored: tuple[str, ...]
    """classifiers, constant buffers, and what else a training checkpoint has beside the encoder"""
    unknown: tuple[str, ...]
    """that the file has, and no module of these settings would"""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, and nothing is unknown."""
        return not (self.missing or self.unknown)


def same(theirs: str, ours: str) -> Entry:
    """A tensor that is the same in both."""
    return Entry(theirs, (ours,), lambda x: (x,), lambda xs: xs[0])


def linear(theirs: str, ours: str) -> tuple[Entry, Entry]:
    """A linear layer with bias: weight [out, in] is our kernel [in, out]."""
    weight = Entry(f"{theirs}.weight", (f"params/{ours}/kernel",), lambda x: (x.T,), lambda xs: xs[0].T)
    return weight, same(f"{theirs}.bias", f"params/{ours}/bias")


def conv(theirs: str, ours: str) -> Entry:
    """A convolution without bias: weight [out, in, rows, columns] is our kernel [rows, columns, in, out]."""
    return Entry(
        f"{theirs}.weight",
        (f"params/{ours}/kernel",),
        lambda x: (x.transpose(2, 3, 1, 0),),
        lambda xs: xs[0].transpose(3, 2, 0, 1),
    )


def patches(theirs: str, ours: str, side: int) -> tuple[Entry, Entry]:
    """A convolution with bias whose stride is its size: our kernel is that of a layer, [side * side * in, out]."""

    def to_ours(x: np.ndarray) -> tuple[np.ndarray]:
        return (x.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def to_theirs(xs: Sequence[np.ndarray]) -> np.ndarray:
        return xs[0].reshape(side, side, -1, xs[0].shape[1]).transpose(3, 2, 0, 1)

    kernel = Entry(f"{theirs}.weight", (f"params/{ours}/kernel",), to_ours, to_theirs)
    return kernel, same(f"{theirs}.bias", f"params/{ours}/bias")


def fused(theirs: str, ours: str, parts: Sequence[str]) -> tuple[Entry, Entry]:
    """One linear layer with bias, [out * parts, in], that is several of ours, one after the other."""

    def split(x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, len(parts))

    weight = Entry(
        f"{theirs}.weight",
        tuple(f"params/{ours}/{part}/kernel" for part in parts),
        lambda x: [part.T for part in split(x)],
        lambda xs: np.concatenate([x.T for x in xs]),
    )
    bias = Entry(f"{theirs}.bias", tuple(f"params/{ours}/{part}/bias" for part in parts), split, np.concatenate)
    return weight, bias


def norm(theirs: str, ours: str) -> tuple[Entry, Entry]:
    """A LayerNorm."""
    return same(f"{theirs}.weight", f"params/{ours}/scale"), same(f"{theirs}.bias", f"params/{ours}/bias")


def batch_norm(theirs: str, ours: str) -> tuple[Entry, ...]:
    """A BatchNorm, with its running statistics."""
    return (
        *norm(theirs, ours),
        same(f"{theirs}.running_mean", f"batch_stats/{ours}/mean"),
        same(f"{theirs}.running_var", f"batch_stats/{ours}/var"),
    )


def move_modules(tensors: Tensors, modules: Mapping[str, str]) -> Tensors:
    """Tensors such as a.b.weight, their modules (a.b) called something else."""
    parts = {name: name.rpartition(".") for name in tensors}
    return renamed(tensors, {n: f"{modules.get(module, module)}.{last}" for n, (module, _, last) in parts.items()})


def rename(tensors: Tensors, rules: Rules) -> Tensors:
    """Each name after all of the rules, patterns and what replaces them, in their order."""
    names = {}
    for old in tensors:
        names[old] = old
        for pattern, replacement in rules:
            names[old] = re.sub(pattern, replacement, names[old])
    return renamed(tensors, names)


def renamed(tensors: Tensors, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors that `names` has, under other names; raises UserError if two of them would have the same."""
    found: dict[str, str] = {}
    for old, new in names.items():
        if (first := found.setdefault(new, old)) != old:
            raise UserError(f"{first} and {old} are both the tensor {new}: remove one of them from the file")
    return {new: tensors[old] for old, new in names.items()}


def join(tensors: Tensors, where: str, parts: Sequence[str], whole: str) -> Tensors:
    """Joins the linear layers `parts`, where there are all of them, to the one that timm has."""
    joined = dict(tensors)
    for name in tensors:
        if match := re.fullmatch(rf"({where}\.){parts[0]}(\.\w+)", name):
            names = [f"{match[1]}{part}{match[2]}" for part in parts]
            if all(name in tensors for name in names):
                joined[f"{match[1]}{whole}{match[2]}"] = np.concatenate([joined.pop(name) for name in names])
    return joined


def to_ours(layout: Layout, tensors: Tensors) -> tuple[dict[str, np.ndarray], Report]:
    """Our variables by flat name, in float32, and what was and was not found.

    Raises UserError if a tensor is not of floating-point numbers, or its shape cannot be that of such a module.
    """
    try:
        tensors = next((timm for dialect in layout.dialects if (timm := dialect(tensors)) is not None), tensors)
    except (ValueError, IndexError) as error:  # of NumPy, about what no published file has
        raise UserError(f"the tensors' shapes do not go with their names ({error})") from None
    wanted = {entry.theirs: entry for entry in layout.entries}
    found = {name: entry for name, entry in wanted.items() if name in tensors}
    variables: dict[str, np.ndarray] = {}
    for name, entry in found.items():
        tensor = tensors[name]
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise UserError(f"{name} holds {tensor.dtype}, but an encoder's weights are floating-point numbers")
        try:
            parts = [np.asarray(part, np.float32) for part in entry.to_ours(tensor)]
            variables |= dict(zip(entry.ours, parts, strict=True))
        except (ValueError, IndexError):
            raise UserError(f"{name} is of shape {tensor.shape}, which no such module has there") from None
    left = [name for name in tensors if name not in wanted]
    ignored = tuple(name for name in left if _matches(name, layout.ignored))
    unknown = tuple(name for name in left if name not in ignored)
    return variables, Report(tuple(found), tuple(name for name in wanted if name not in found), ignored, unknown)


def to_timm(layout: Layout, variables: Tensors) -> dict[str, np.ndarray]:
    """The inverse of `to_ours`: tensors under timm's names, contiguous; raises KeyError if a variable is not there."""
    return {
        entry.theirs: np.ascontiguousarray(entry.to_theirs([variables[name] for name in entry.ours]))
        for entry in layout.entries
    }


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
