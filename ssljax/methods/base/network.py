"""Linen modules applied one after the other, with parameters and batch statistics as explicit trees."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.methods.base.accumulate import in_parts
from ssljax.models import cast_kernels, whole
from ssljax.sharding import gather_parameters
from ssljax.types import Array, PyTree, UserError, short


class Network:
    """Modules in their order, `Network(encoder=..., projector=...)`, each called as `module(x, train)`.

    Parameters and statistics are dicts by the modules' names. The network of a teacher that lacks the last modules is
    the same one: only modules whose parameters are given are applied. A `drop_path` rng is for the student alone.
    `option` is the option of the command line that holds the modules, for what is refused.
    """

    def __init__(self, option: str = "method", /, **modules: Any):
        self._option, self._modules = option, modules

    def init(self, rng: Array, images: Array) -> tuple[PyTree, PyTree]:
        """Parameters and batch statistics for images f32[B, H, W, 3].

        Raises UserError if a module refuses its settings or its input.
        """
        params, stats, x = {}, {}, images
        for (name, module), module_rng in zip(
            self._modules.items(), jax.random.split(rng, len(self._modules)), strict=True
        ):
            variables = _variables(f"{self._option}.{name}", module, module_rng, x)
            params[name], stats[name] = variables.get("params", {}), variables.get("batch_stats", {})
            shape = jax.eval_shape(lambda v, x, m=module: m.apply(v, x, train=False), variables, x)
            x = jnp.zeros(shape.shape, shape.dtype)
        return params, stats

    def cast(self, params: PyTree) -> PyTree:
        """Parameters whose kernels have the type that their module multiplies in, for several passes.

        The gradients of the passes are then added in that type, and summed over the devices once. If each pass casts
        for itself, each of its gradients travels.
        """
        return {name: cast_kernels(self._modules[name], own) for name, own in params.items() if name in self._modules}

    def train(
        self, params: PyTree, stats: PyTree, images: Array, rng: Array | None = None
    ) -> tuple[dict[str, Array], PyTree]:
        """What each module makes of a batch of images, in training mode, and the new statistics."""
        params, outputs, new_stats, x = self.cast(params), {}, {}, images
        for i, name in enumerate(name for name in self._modules if name in params):
            module_rng = None if rng is None else jax.random.fold_in(rng, i)
            x, new_stats[name] = self.train_module(name, params, stats, x, module_rng)
            outputs[name] = x
        return outputs, new_stats

    @jax.named_scope("network")
    def train_module(
        self,
        name: str,
        params: PyTree,
        stats: PyTree,
        x: Array,
        rng: Array | None = None,
        method: str | None = None,
        **more: Array | None,
    ) -> tuple[Any, PyTree]:
        """What one module makes of `x` in training mode, and its new statistics.

        `more` are other arguments, which have a row for each of `x`.
        """

        def apply(variables: PyTree, rng: Array | None, rows: tuple[Array, dict[str, Any]]) -> tuple[Any, PyTree]:
            (x, more), rngs = rows, None if rng is None else {"drop_path": rng}
            output, updated = self._modules[name].apply(
                variables, x, train=True, mutable=["batch_stats"], rngs=rngs, method=method, **more
            )
            return output, updated.get("batch_stats", {})

        variables = {"params": gather_parameters(params[name]), "batch_stats": stats[name]}
        return in_parts(apply, variables, rng, (x, more))

    def train_views(
        self, params: PyTree, stats: PyTree, views: Sequence[Array], rng: Array | None = None
    ) -> tuple[list[dict[str, Array]], PyTree]:
        """`train` on one view after the other: each is normalised by its own batch statistics."""
        params, outputs = self.cast(params), []
        for i, images in enumerate(views):
            output, stats = self.train(params, stats, images, None if rng is None else jax.random.fold_in(rng, i))
            outputs.append(output)
        return outputs, stats

    def train_crops(
        self, params: PyTree, stats: PyTree, views: Sequence[Array], rng: Array | None = None
    ) -> tuple[list[dict[str, Array]], PyTree]:
        """As `train_views`, but neighbouring views of one size are one batch, for many small crops (DINO, SwAV)."""
        sizes, stats = self.train_sizes(params, stats, views, rng)
        crops = {name: [x for part in parts for x in jnp.unstack(part, axis=1)] for name, parts in sizes.items()}
        return [dict(zip(crops, outputs, strict=True)) for outputs in zip(*crops.values(), strict=True)], stats

    def train_sizes(
        self, params: PyTree, stats: PyTree, views: Sequence[Array], rng: Array | None = None
    ) -> tuple[dict[str, list[Array]], PyTree]:
        """As `train_crops`, with each module's outputs for the V views of a size together, [B, V, ...].

        The last modules, those without batch statistics, see the views of all sizes at once, and have one output: their
        weights are read once, and their gradients are summed over the devices once.
        """
        params, stats, outputs = self.cast(params), dict(stats), {}
        xs = [
            jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *alike)
            for _, alike in itertools.groupby(views, key=lambda view: jax.tree.map(jnp.shape, view))
        ]
        names = [name for name in self._modules if name in params]
        for i, name in enumerate(names):
            if i and not any(jax.tree.leaves(stats[later]) for later in names[i:]):
                xs = [jnp.concatenate(xs, axis=1)]
            for k, x in enumerate(xs):
                own = None if rng is None else jax.random.fold_in(jax.random.fold_in(rng, k), i)
                rows = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), x)
                y, stats[name] = self.train_module(name, params, stats, rows, own)
                xs[k] = y.reshape(*jax.tree.leaves(x)[0].shape[:2], *y.shape[1:])
            outputs[name] = list(xs)
        return outputs, stats

    @jax.named_scope("network")
    def evaluate(self, params: PyTree, stats: PyTree, images: Array) -> dict[str, Array]:
        """What each module makes of a batch of images, in evaluation mode."""
        outputs, x = {}, images
        for name, module in self._modules.items():
            if name in params:
                variables = {"params": gather_parameters(params[name]), "batch_stats": stats[name]}
                apply = functools.partial(module.apply, train=False)
                x, _ = in_parts(lambda own, _, rows, apply=apply: (apply(own, rows), {}), variables, None, x)
                outputs[name] = x
        return outputs

    def embed(self, params: PyTree, stats: PyTree, images: Array) -> Array:
        """f32[B, F], the first module's output in evaluation mode."""
        first = next(iter(self._modules))
        return self.evaluate({first: params[first]}, stats, images)[first]

    def width(self, name: str, params: PyTree, stats: PyTree, images: Array) -> int:
        """How many numbers a module makes of an image."""
        return jax.eval_shape(self.evaluate, params, stats, images)[name].shape[1]


def item_by_item(views: Sequence[Array]) -> Array:
    """[B V, ...] of V views' [B, ...]: all of the first item, then all of the second.

    Split over devices as each view is, nothing moves; one view after the other, most of it would.
    """
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def variables_of(params: PyTree, stats: PyTree) -> PyTree:
    """Module → its linen variables."""
    return {name: whole({"params": params[name], "batch_stats": stats[name]}) for name in params}


def _variables(option: str, module: Any, rng: Array, x: Array) -> PyTree:
    """A module's initial variables; what it refuses is told under the name of the option."""
    if not hasattr(module, "apply"):
        raise UserError(f"{option}={short(module)} must be a linen module, such as ResNet() or MLP()")
    try:
        return module.init(rng, x, train=False)
    except UserError as error:
        raise UserError(f"{option}.{error}") from None
