"""Optimizers over optax: SGD, LARS, Adam and AdamW, with their learning-rate schedule.

`optimizer.build(total_steps)` is an optax `GradientTransformation`. Weight decay leaves biases and norms out: in Flax
those are exactly the parameters of one axis or none. `lr` is the value that the optimizer uses; it is not scaled by the
batch size. Parameters that a method freezes at first are left alone until then: their moments and decay begin later.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssljax.models import number_layers
from ssljax.schedules import Cosine, Warmup, check_schedule, value_at
from ssljax.types import Array, Progress, PyTree, Scheduled, UserError, check_fields, whole_steps

OfStep = Callable[[jax.typing.ArrayLike], Array]  # i32[], steps that are done → f32[]


def decay(weight_decay: OfStep) -> optax.GradientTransformation:
    """Adds `weight_decay`, a function of the step, x the weights to their updates."""
    return _on_weights(lambda u, p, step: u + weight_decay(step) * p)


def adapt(trust_coefficient: float, limit: OfStep | None) -> optax.GradientTransformation:
    """Scales the updates u of weights p to `trust_coefficient` |p| / |u| x u.

    With `limit`, the learning rate as a function of the step, that ratio is at most the learning rate, and divided by
    it: once the learning rate is multiplied, it is the smaller of the two. Without norm, either way, the factor is 1.
    """

    def adapted(u: Array, p: Array, step: Array) -> Array:
        update_norm, norm = optax.safe_norm(u, 0.0), optax.safe_norm(p, 0.0)
        still = (norm == 0) | (update_norm == 0)
        ratio = trust_coefficient * norm / jnp.where(still, 1.0, update_norm)
        if limit is not None:
            ratio = jnp.minimum(ratio, limit(step)) / jnp.maximum(limit(step), 1e-30)
        return jnp.where(still, 1.0, ratio) * u

    return _on_weights(adapted)


def by_part(layer_decay: float, head: float) -> optax.GradientTransformation:
    """Multiplies the updates of the encoder's blocks by powers of `layer_decay`, and those of all else by `head`.

    The n-th block from the end has the n-th power, parts before the blocks one power more, parts after them 1. Of a
    `Fusion` or `Joined` each encoder has blocks of its own, and what joins them counts as all else. As the last
    transformation it amounts to a learning rate for each part.
    """

    def of_encoder(params: PyTree) -> tuple[PyTree, bool]:
        """Its factors, and whether there are blocks, or nothing that learns."""
        if params and all(re.fullmatch(r"photo|title|joint|encoder\d+", name) for name in params):
            parts = {name: (head, False) if name == "joint" else of_encoder(params[name]) for name in params}
            return {name: part for name, (part, _) in parts.items()}, any(there for _, there in parts.values())
        layer, blocks = number_layers(params)
        scales = {name: layer_decay ** (blocks + 1 - number) for name, number in layer.items()}
        return scales, bool(blocks) or not params

    def factors(params: PyTree) -> PyTree:
        encoder, there = of_encoder(params["encoder"]) if "encoder" in params else ({}, False)
        if layer_decay < 1 and not there:
            raise UserError(
                f"optimizer.layer_decay={layer_decay} needs an encoder made of blocks, such as a ResNet or a ViT: "
                "set it to 1"
            )
        return {name: encoder if name == "encoder" else head for name in params}

    def init(params: PyTree) -> optax.EmptyState:
        factors(params)
        return optax.EmptyState()

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        def scaled(factor: float, part: PyTree) -> PyTree:
            return jax.tree.map(lambda u: factor * u, part)

        return jax.tree.map(scaled, factors(updates), updates), state

    return optax.GradientTransformation(init, update)


def later(
    first: int, rule: Callable[..., optax.GradientTransformation], schedules: Sequence[OfStep]
) -> optax.GradientTransformation:
    """`rule(*schedules)` from step `first` on; until then the updates are 0 and the state does not change.

    The rule starts at `first`, as Adam's bias correction requires, but its schedules count from the first step.
    """

    def init(params: PyTree) -> optax.ConditionallyMaskState:
        return optax.ConditionallyMaskState(jnp.zeros((), jnp.int32), rule(*schedules).init(params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        now = rule(*(functools.partial(lambda f, _: f(state.step), f) for f in schedules))
        updates, inner = jax.lax.cond(
            state.step >= first,
            lambda: now.update(updates, state.inner_state, params),
            lambda: (optax.tree.zeros_like(updates), state.inner_state),
        )
        return updates, optax.ConditionallyMaskState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)


def _labels(frozen_until: Mapping[str, float], params: PyTree) -> PyTree:
    """The share of training until which each parameter is frozen, or "" for those that never are."""
    found = set()

    def label(keys: tuple[Any, ...], _: Array) -> str:
        path = jax.tree_util.keystr(keys, simple=True, separator="/") + "/"
        above = [prefix for prefix in frozen_until if path.startswith(f"{prefix}/")]
        found.update(above)
        return str(frozen_until[above[0]]) if above else ""

    labels = jax.tree_util.tree_map_with_path(label, params)
    if missing := set(frozen_until) - found:
        raise ValueError(f"frozen_until names {', '.join(sorted(missing))}, where there are no parameters")
    return labels


def _on_weights(change: Callable[[Array, Array, Array], Array]) -> optax.GradientTransformation:
    """`change(update, parameter, step)` of each parameter with two axes or more: neither biases nor norms.

    By hand and not by `optax.masked`, so that one function has the step, and the state is a count and nothing else.
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        changed = jax.tree.map(lambda u, p: change(u, p, state.count) if p.ndim > 1 else u, updates, params)
        return changed, optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformation(lambda params: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The base of all optimizers: learning rate, weight decay and clipping."""

    lr: float
    """Peak learning rate, as it is applied (not per 256 images)."""
    weight_decay: Scheduled = 0.0
    """Decay of the weights: a number or a schedule; biases and norms are left out."""
    schedule: Scheduled = Cosine(1.0, 0.0)
    """Factor on `lr` as a function of progress after the warm-up: a schedule, or a number."""
    warmup: float = 0.0
    """Share of training over which the learning rate rises from 0 in a straight line."""
    clip_norm: float | None = None
    """Global gradient norm, of what learns, above which gradients are scaled down; none by default."""
    layer_decay: float = 1.0
    """For fine-tuning: the n-th block of the encoder from its end learns at lr x this^n (BEiT, 2022: .65)."""
    head_lr: float | None = None
    """Peak learning rate of all that is not the encoder: projectors, class vectors; `lr` by default."""

    def __post_init__(self):
        check_fields(self, "optimizer")
        if self.lr <= 0:
            raise UserError(f"optimizer.lr={self.lr} must be above 0")
        if not 0 <= self.warmup < 1:
            raise UserError(f"optimizer.warmup={self.warmup} must be a share of training, in [0, 1), such as 0.05")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"optimizer.clip_norm={self.clip_norm} must be above 0, or None not to clip")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"optimizer.layer_decay={self.layer_decay} must be above 0 and at most 1, such as 0.75")
        if self.head_lr is not None and self.head_lr < 0:
            raise UserError(f"optimizer.head_lr={self.head_lr} must be at least 0, or None for that of the encoder")
        for name in ("momentum", "b1", "b2"):
            if not 0 <= getattr(self, name, 0) < 1:
                raise UserError(f"optimizer.{name}={getattr(self, name)} must be in [0, 1), such as 0.9")

    def learning_rate(self, progress: Progress, /) -> Array:
        """f32[], the learning rate at `progress`."""
        return self.lr * value_at(Warmup(self.warmup, self.schedule) if self.warmup else self.schedule, progress)

    def rule(self, learning_rate: OfStep, weight_decay: OfStep) -> optax.GradientTransformation:
        """The update rule alone; both arguments are functions of the step."""
        raise TypeError("Optimizer is the common part: use SGD, LARS, Adam or AdamW")

    def build(self, total_steps: int, method: Any = None) -> optax.GradientTransformation:
        """The optax transformation for a training of `total_steps` steps.

        method: the method that owns the parameters. Those that it freezes (see `FreezingMethod`) do not change until
        their share of training is reached; the optimizer's state for them begins then, as PyTorch's does for a
        parameter that had no gradient before. The learning rate is that of the whole training.
        """
        check_schedule("optimizer.schedule", self.schedule, least=0)
        check_schedule("optimizer.weight_decay", self.weight_decay, least=0)

        def at(step: jax.typing.ArrayLike) -> Progress:
            return Progress(jnp.asarray(step), total_steps)

        rates = lambda step: self.learning_rate(at(step)), lambda step: value_at(self.weight_decay, at(step))
        rule = self.rule(*rates)
        frozen_until = getattr(method, "frozen_until", {})
        clip = optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm)
        if frozen_until:
            first = {str(share): whole_steps(share, total_steps) for share in frozen_until.values()}
            labels = functools.partial(_labels, frozen_until)
            rules = {share: later(step, self.rule, rates) for share, step in first.items()}
            rule = optax.partition({"": rule, **rules}, labels)
            learns = {share: later(step, optax.identity, ()) for share, step in first.items()}
            clip = optax.chain(optax.partition({"": optax.identity(), **learns}, labels), clip)
        if self.layer_decay < 1 or self.head_lr is not None:
            head = 1.0 if self.head_lr is None else self.head_lr / self.lr
            rule = optax.chain(rule, by_part(self.layer_decay, head))
        return rule if self.clip_norm is None else optax.chain(clip, rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; the decay is added to the gradient, as PyTorch does."""

    momentum: float = 0.9
    """Momentum; 0 is plain SGD."""
    nesterov: bool = False
    """Nesterov's momentum instead of the heavy ball."""

    def rule(self, learning_rate: OfStep, weight_decay: OfStep) -> optax.GradientTransformation:
        """Decay, then momentum, then the learning rate."""
        return optax.chain(
            decay(weight_decay),
            optax.sgd(learning_rate, momentum=self.momentum or None, nesterov=self.nesterov),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017); biases and norms take the plain momentum step."""

    momentum: float = 0.9
    """Momentum."""
    trust_coefficient: float = 0.001
    """Eta: the ratio of update to weight norm at a learning rate of 1 (solo-learn uses .02)."""
    limit: bool = False
    """The ratio alone decides the step's length, as long as it is below the learning rate: `clip_lr` of solo-learn."""

    def __post_init__(self):
        super().__post_init__()
        if self.trust_coefficient <= 0:
            raise UserError(f"optimizer.trust_coefficient={self.trust_coefficient} must be above 0, such as 0.001")

    def rule(self, learning_rate: OfStep, weight_decay: OfStep) -> optax.GradientTransformation:
        """Decay and adaptation on the weights alone, then the learning rate, then momentum."""
        return optax.chain(
            decay(weight_decay),
            adapt(self.trust_coefficient, learning_rate if self.limit else None),
            optax.scale_by_learning_rate(learning_rate),
            optax.trace(self.momentum),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); the decay is added to the gradient, as in the paper's time."""

    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.999
    """Decay of the second moment."""

    def rule(self, learning_rate: OfStep, weight_decay: OfStep) -> optax.GradientTransformation:
        """Decay, then Adam."""
        return optax.chain(
            decay(weight_decay),
            optax.adam(learning_rate, b1=self.b1, b2=self.b2),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); the decay is multiplied by the learning rate."""

    def rule(self, learning_rate: OfStep, weight_decay: OfStep) -> optax.GradientTransformation:
        """Adam, then decay, then the learning rate."""
        return optax.chain(
            optax.scale_by_adam(b1=self.b1, b2=self.b2),
            decay(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
