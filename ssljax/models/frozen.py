"""Encoders of which a part, or all, stays as it is: for fine-tuning."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from ssljax.models.layers import layers
from ssljax.types import Array, PyTree, UserError


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A linen module that does not learn, or of which only the last blocks do; it stands wherever the module could.

    `Frozen(Pretrained(ResNet(depth=18), "runs/shop/weights/student.safetensors"), but_last=2)`

    What is frozen gets no gradient, so that optimizers leave it as it is, and works as in evaluation: BatchNorm by its
    running statistics, which stay, and without drop path. The backward pass ends where it begins.
    """

    module: Any
    """The encoder, as a rule `Pretrained`."""
    but_last: int = 0
    """How many of its blocks, from the last, learn, along with what follows them; 0: nothing learns."""

    def init(self, rng: Array, x: Array, train: bool) -> PyTree:
        """As the module's; raises UserError if it has fewer blocks than are to learn."""
        variables = self.module.init(rng, x, train=train)
        _, blocks = layers(variables["params"])
        if not 0 <= self.but_last <= blocks:
            raise UserError(f"but_last={self.but_last} must be from 0 to {blocks}, the number of the encoder's blocks")
        return variables

    def apply(self, variables: PyTree, *args: Any, **kwargs: Any) -> Any:
        """As the module's."""
        frozen = self._frozen(variables["params"])
        params = {n: jax.lax.stop_gradient(p) if n in frozen else p for n, p in variables["params"].items()}

        def in_evaluation(call: Callable, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
            """What has a place for `train`, called with False."""
            path = context.module.path
            if context.method_name == "__call__" and len(path) == 1 and path[0] in frozen and len(args) == 2:
                args = args[0], False
            return call(*args, **kwargs)

        with nn.intercept_methods(in_evaluation):
            return self.module.apply({**variables, "params": params}, *args, **kwargs)

    def _frozen(self, params: PyTree) -> set[str]:
        """Names of the parts that do not learn."""
        layer, blocks = layers(params)
        return {name for name in layer if not self.but_last or layer[name] <= blocks - self.but_last}

    def __getattr__(self, name: str) -> Any:
        """The module's settings."""
        if name.startswith("__") or name == "module":  # asked for while a copy is made
            raise AttributeError(name)
        return getattr(self.module, name)
