"""Encoders of which a part, or all, stays as it is: for fine-tuning."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax

from ssljax.models.listing import Listing
from ssljax.models.norm import BatchNorm
from ssljax.models.pretrained import Wrapped
from ssljax.types import Array, PyTree, UserError

FROZEN = "frozen"  # where the frozen parts are, among the batch statistics
_BLOCK = re.compile(r"(?:stage(\d+)_)?block(\d+)")
_BETWEEN = re.compile(r"stage(\d+)_(?!block)\w+")  # Swin's, before a stage
_AFTER = ("norm", "last_conv", "last_norm", "pool", "projection")


def whole(variables: PyTree) -> PyTree:
    """The variables of a module that may be `Frozen`, as those of the module inside it."""
    params, stats = dict(variables["params"]), dict(variables["batch_stats"])
    if FROZEN in stats:
        return {**variables, "params": {**stats.pop(FROZEN), **params}, "batch_stats": stats}
    for name in [name for name, part in stats.items() if _holds_frozen(part)]:  # of a `Fusion` or `Joined`
        part = whole({"params": params.get(name, {}), "batch_stats": stats[name]})
        params[name], stats[name] = part["params"], part["batch_stats"]
    return {**variables, "params": params, "batch_stats": stats}


def _holds_frozen(stats: Any) -> bool:
    return isinstance(stats, Mapping) and (FROZEN in stats or any(map(_holds_frozen, stats.values())))


@dataclasses.dataclass(frozen=True)
class Frozen(Wrapped):
    """A linen module that does not learn, or only with its last blocks. Use it wherever the module could be.

    `Frozen(Pretrained(ResNet(depth=18), "runs/shop/weights/student.safetensors"), but_last=2)`

    Frozen parts are kept with the batch statistics, not with the parameters, so that no optimizer sees them. They work
    as in evaluation: BatchNorm uses its running statistics, which stay, and there is no drop path. The backward pass
    ends where the frozen parts begin.
    """

    module: Any
    """The encoder, as a rule `Pretrained`."""
    but_last: int = 0
    """Number of blocks that learn, counted from the last, along with what follows them; 0: nothing learns."""
    statistics: bool = False
    """BatchNorm keeps its running statistics in the blocks that learn, too: for small batches, and for batches of
    photos that are alike. Its scales and biases learn."""

    def init(self, rng: Array, x: Array, train: bool) -> PyTree:
        """As the module's; raises UserError if it has fewer blocks than are to learn."""
        if isinstance(x, Listing):
            raise UserError("Frozen is for the encoders of a Fusion, one by one: write Fusion(photo=Frozen(...), ...)")
        if hasattr(self, "encoders"):
            raise UserError("Frozen is for the encoders of a Joined, one by one: write Joined((Frozen(...), ...))")
        variables = self.module.init(rng, x, train=train)
        params = variables.get("params", {})  # an encoder may have none
        layer, blocks = number_layers(params)
        if not 0 <= self.but_last <= blocks:
            raise UserError(f"but_last={self.but_last} must be from 0 to {blocks}, the number of the encoder's blocks")
        learns = {name for name in layer if self.but_last and layer[name] > blocks - self.but_last}
        return {
            "params": {name: part for name, part in params.items() if name in learns},
            "batch_stats": variables.get("batch_stats", {})
            | {FROZEN: {name: part for name, part in params.items() if name not in learns}},
        }

    def apply(self, variables: PyTree, *args: Any, **kwargs: Any) -> Any:
        """As the module's."""
        frozen = jax.lax.stop_gradient(variables["batch_stats"][FROZEN])

        def in_evaluation(call: Callable, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
            """What has a place for `train`, called with False."""
            path = context.module.path
            stays = len(path) == 1 and path[0] in frozen
            stays = stays or (self.statistics and isinstance(context.module, BatchNorm))
            if context.method_name == "__call__" and stays and len(args) > 1:
                args = args[0], False
            return call(*args, **kwargs)

        with nn.intercept_methods(in_evaluation):
            output = _unrolled(self.module).apply(whole(variables), *args, **kwargs)
        if not kwargs.get("mutable"):
            return output
        output, updated = output
        return output, {**updated, "batch_stats": updated.get("batch_stats", {}) | {FROZEN: frozen}}


def _unrolled(module: Any) -> Any:
    """The module, its blocks one by one: in a loop they would all learn, or none."""
    if isinstance(module, Wrapped):
        return dataclasses.replace(cast(Any, module), module=_unrolled(module.module))
    return module.clone(scan=False) if getattr(module, "scan", False) else module


def number_layers(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """The layer of each part of an encoder, such as stage1_block0, and the number N of blocks.

    Everything before the blocks is layer 0, the blocks are 1 to N, and what follows them is N + 1. Parts between two
    stages belong to the layer of the next block. N is 0 if no part is named like a block.
    """
    names = list(names)
    places = {name: _place(match) for name in names if (match := _BLOCK.fullmatch(name))}
    order = sorted(places.values())

    def layer(name: str) -> int:
        if name in places:
            return 1 + order.index(places[name])
        if match := _BETWEEN.fullmatch(name):
            return 1 + sum(stage < int(match[1]) for stage, _ in order)
        return len(order) + 1 if name in _AFTER else 0

    return {name: layer(name) for name in names}, len(order)


def _place(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1] or 0), int(match[2])
