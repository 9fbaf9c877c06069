"""Optimizers over optax: SGD, LARS, Adam and AdamW, with their learning-rate schedule.

`optimizer.build(total_steps)` is an optax `GradientTransformation`. Weight decay leaves biases and norms out: in Flax
those are exactly the parameters of one axis or none. `lr` is the value that the optimizer uses, not one to be scaled
by the batch size.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ssljax.fields import check_fields
from ssljax.schedules import Cosine, Warmup, check_schedule, value_at
from ssljax.types import Array, PyTree, UserError


def not_bias_or_norm(params: PyTree) -> PyTree:
    """True for each parameter with two axes or more: weights, but neither biases nor the scales of norms."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def decay(weight_decay: float) -> optax.GradientTransformation:
    """Adds `weight_decay` x the weights to their updates, but for biases, norms, and what does not move.

    An update that is 0 throughout is that of a frozen parameter (DINO's and SwAV's prototypes at first), which decay,
    and LARS after it, would shrink to nothing.
    """

    def update(updates: PyTree, state: Any, params: PyTree) -> tuple[PyTree, Any]:
        def decayed(u: Array, p: Array) -> Array:
            return u + weight_decay * p * jnp.any(u != 0) if p.ndim > 1 else u

        return jax.tree.map(decayed, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What all optimizers share: the learning rate over training, weight decay, and clipping."""

    lr: float
    """Peak learning rate, as it is applied (not per 256 images)."""
    weight_decay: float = 0.0
    """Decay of the weights; biases and norms are left out."""
    schedule: Any = Cosine(1.0, 0.0)
    """Factor on `lr` as a function of progress after the warm-up: a schedule, or a number."""
    warmup: float = 0.0
    """Share of training over which the learning rate rises from 0 in a straight line."""
    clip_norm: float | None = None
    """Global gradient norm above which gradients are scaled down; none by default."""

    def __post_init__(self):
        check_fields(self, "optimizer")
        if self.lr <= 0:
            raise UserError(f"optimizer.lr={self.lr} must be above 0")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay={self.weight_decay} must be 0 or above")
        if not 0 <= self.warmup < 1:
            raise UserError(f"optimizer.warmup={self.warmup} must be a share of training, in [0, 1), such as 0.05")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"optimizer.clip_norm={self.clip_norm} must be above 0, or None not to clip")
        for name in ("momentum", "b1", "b2"):
            if not 0 <= getattr(self, name, 0) < 1:
                raise UserError(f"optimizer.{name}={getattr(self, name)} must be in [0, 1), such as 0.9")

    def learning_rate(self, total_steps: int) -> Callable[[Array], Array]:
        """The learning rate as a function of the step."""
        factor = Warmup(self.warmup, self.schedule) if self.warmup else self.schedule
        return lambda step: self.lr * value_at(factor, jnp.asarray(step, jnp.float32) / total_steps)

    def rule(self, learning_rate: Callable[[Array], Array]) -> optax.GradientTransformation:
        """The update rule alone."""
        raise TypeError("Optimizer is the common part: use SGD, LARS, Adam or AdamW")

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """The optax transformation for a training of `total_steps` steps."""
        check_schedule("optimizer.schedule", self.schedule, least=0)
        rule = self.rule(self.learning_rate(total_steps))
        return rule if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; the decay is added to the gradient, as PyTorch does."""

    momentum: float = 0.9
    """Momentum; 0 is plain SGD."""
    nesterov: bool = False
    """Nesterov's momentum instead of the heavy ball."""

    def rule(self, learning_rate: Callable[[Array], Array]) -> optax.GradientTransformation:
        """Decay, then momentum, then the learning rate."""
        return optax.chain(
            decay(self.weight_decay),
            optax.sgd(learning_rate, momentum=self.momentum or None, nesterov=self.nesterov),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017); biases and norms take the plain momentum step."""

    momentum: float = 0.9
    """Momentum."""
    trust_coefficient: float = 0.001
    """Eta: the ratio of update to weight norm at a learning rate of 1 (solo-learn uses .02)."""

    def __post_init__(self):
        super().__post_init__()
        if self.trust_coefficient <= 0:
            raise UserError(f"optimizer.trust_coefficient={self.trust_coefficient} must be above 0, such as 0.001")

    def rule(self, learning_rate: Callable[[Array], Array]) -> optax.GradientTransformation:
        """Decay and adaptation on the weights alone, then the learning rate, then momentum."""
        return optax.chain(
            decay(self.weight_decay),
            optax.masked(optax.scale_by_trust_ratio(trust_coefficient=self.trust_coefficient), not_bias_or_norm),
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

    def rule(self, learning_rate: Callable[[Array], Array]) -> optax.GradientTransformation:
        """Decay, then Adam."""
        return optax.chain(
            decay(self.weight_decay),
            optax.adam(learning_rate, b1=self.b1, b2=self.b2),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); the decay is multiplied by the learning rate."""

    def rule(self, learning_rate: Callable[[Array], Array]) -> optax.GradientTransformation:
        """Adam, then decay, then the learning rate."""
        return optax.chain(
            optax.scale_by_adam(b1=self.b1, b2=self.b2),
            decay(self.weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
