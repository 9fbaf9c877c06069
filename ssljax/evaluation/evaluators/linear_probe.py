"""The linear probe of self-supervised learning: a linear classifier on frozen embeddings."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.evaluation.evaluators.base import check_above_0, check_splits, labelled, named
from ssljax.types import Array, Embed, UserError, check_fields

MANY_CLASSES = 10  # with more classes, top-5 accuracy is reported too
MOMENTUM = 0.9
SCORED_AT_ONCE = 1024  # rows


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on the embeddings of the split `train`, tested on `split`.

    Each dimension is first scaled to mean 0 and variance 1 over the training photos, as a BatchNorm without scale and
    shift does. Then SGD with Nesterov momentum of 0.9 and a cosine learning rate trains one classifier for every pair
    of learning rate and weight decay, all at once and on the same batches. The one with the best accuracy on a held-out
    `validation` share of `train` is tested. Photos without a label are left out.

    Figures: `<split>/<name>/accuracy`, and `accuracy@5` where there are more than 10 classes; `validation_accuracy`;
    `setting`, the chosen pair's place among them (learning rates outermost, counted from 0): at either end, widen the
    grid; `queries` and `queries_left_out`, the photos with and without a label.
    Source: frozen embeddings as in MoCo (He et al. 2020, section 4.1), normalised as in MAE (He et al. 2022, appendix
    A.1), with a grid trained at once as in DINOv2 (Oquab et al. 2023). The training embeddings are kept on the device.
    """

    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """At the start; 0 is reached at the end."""
    weight_decays: tuple[float, ...] = (0.0,)
    """Share of a weight taken off at each step, times the learning rate; biases keep theirs."""
    epochs: int = 100
    """Passes over the training photos."""
    batch_size: int = 256
    """Photos a step."""
    validation: float = 0.1
    """Share of the training photos that is held out to choose the pair."""
    seed: int = 0
    """Of the held-out share, and of the order of the others."""
    train: str = "train"
    """The split that the classifier is trained on."""
    split: str = "test"
    """The split whose labels are predicted."""
    name: str = "linear"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "LinearProbe", epochs=1, batch_size=1, seed=0, weight_decays=0)
        check_above_0(self, "learning_rates")
        for name in ("learning_rates", "weight_decays"):
            if not getattr(self, name):
                raise UserError(f"LinearProbe.{name}=() is empty: name at least one")
        if not 0 < self.validation < 1:
            raise UserError(f"LinearProbe.validation={self.validation} must be between 0 and 1: try 0.1")
        check_splits(self, "train", "split", because="judge on another split")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError as `check`."""
        vectors, labels, chosen = self._examples(embed)
        queries, truth = labelled("LinearProbe", embed(self.split), self.split)
        # Label numbers may be large: those in `train` are renumbered, and others are never right.
        names, labels = np.unique(labels, return_inverse=True)
        classes, place = len(names), np.searchsorted(names, truth).clip(max=len(names) - 1)
        truth = np.where(names[place] == truth, place, -1)
        mean, scale = _moments(vectors[~chosen])
        vectors, queries = ((x - mean[None]) * scale[None] for x in (vectors, queries))

        rates, decays = zip(*itertools.product(self.learning_rates, self.weight_decays), strict=True)
        weights = _fit(
            vectors[~chosen],
            labels[~chosen],
            jnp.array(rates, jnp.float32),
            jnp.array(decays, jnp.float32),
            classes=classes,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        validation, _ = _accuracies(weights, vectors[chosen], labels[chosen])
        best = int(validation.argmax())
        (top1,), (top5,) = _accuracies(jax.tree.map(lambda w: w[best : best + 1], weights), queries, truth)
        figures = {
            "accuracy": float(top1),
            **({"accuracy@5": float(top5)} if classes > MANY_CLASSES else {}),
            "validation_accuracy": float(validation[best]),
            "setting": best,
            "queries": len(truth),
            "queries_left_out": len(embed(self.split)) - len(truth),
        }
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if a split has no labels, or `train` too few for validation or of one class only."""
        self._examples(embed)
        labelled("LinearProbe", embed(self.split), self.split)

    def _examples(self, embed: Embed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors f32[n, D] and labels i32[n] of the training photos, and which of them are held out: bool[n]."""
        vectors, labels = labelled("LinearProbe", embed(self.train), self.train)
        count = round(self.validation * len(labels))
        chosen = np.zeros(len(labels), bool)
        chosen[np.random.default_rng(self.seed).permutation(len(labels))[:count]] = True
        if not count or len(np.unique(labels[~chosen])) < 2:
            raise UserError(
                f"LinearProbe.validation={self.validation}: the {len(labels)} labelled photos of {self.train!r} leave "
                "none to choose by, or fewer than two classes to learn: label more of them"
            )
        return vectors, labels, chosen


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f32[D] each: the mean, and the scale that makes the variance 1; 0 where nothing varies."""
    mean = vectors.mean(0, dtype=np.float64).astype(np.float32)
    std = np.sqrt(np.square(vectors - mean[None]).mean(0, dtype=np.float64))
    varies = std > 1e-6 * std.max()
    return mean, np.where(varies, 1 / np.where(varies, std, 1), 0).astype(np.float32)


Weights = tuple[Array, Array]  # f32[G, D, C] and f32[G, C], a classifier for each of G settings


def _fit(
    vectors: np.ndarray,
    labels: np.ndarray,
    rates: Array,
    decays: Array,
    *,
    classes: int,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Weights:
    """The classifiers of all G settings, rates f32[G] and decays f32[G], trained on vectors f32[n, D]."""
    vectors, labels = jax.device_put((vectors, labels))
    batch_size = min(batch_size, len(vectors))
    steps = len(vectors) // batch_size

    def zeros() -> Weights:
        return jnp.zeros((len(rates), vectors.shape[1], classes)), jnp.zeros((len(rates), classes))

    state = zeros(), zeros()  # weights and momentum
    for epoch in range(epochs):
        scales = 0.5 * (1 + np.cos(np.pi * (epoch * steps + np.arange(steps, dtype=np.float32)) / (epochs * steps)))
        rng = jax.random.fold_in(jax.random.key(seed), epoch)
        state = _epoch(state, rng, vectors, labels, rates, decays, jnp.asarray(scales, jnp.float32), batch_size)
    return state[0]


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnums=0)
def _epoch(
    state: tuple[Weights, Weights],
    rng: Array,
    vectors: Array,
    labels: Array,
    rates: Array,
    decays: Array,
    scales: Array,
    batch_size: int,
) -> tuple[Weights, Weights]:
    """One pass; `state` is (weights, momentum), `scales` f32[steps] multiplies the rates."""
    order = jax.random.permutation(rng, len(vectors))[: len(scales) * batch_size].reshape(-1, batch_size)

    def loss(weights: tuple[Array, Array], x: Array, y: Array) -> Array:
        weight, bias = weights
        logits = jnp.matmul(x, weight, precision="highest") + bias[None]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0])

    def update(weights, momentum, rate, decay, x, y):
        weight, bias = jax.grad(loss)(weights, x, y)
        gradient = weight + decay * weights[0], bias
        momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, gradient)
        return jax.tree.map(lambda w, m, g: w - rate * (MOMENTUM * m + g), weights, momentum, gradient), momentum

    def step(state, batch):
        rows, scale = batch
        every = jax.vmap(update, in_axes=(0, 0, 0, 0, None, None))
        return every(state[0], state[1], scale * rates, decays, vectors[rows], labels[rows]), None

    return jax.lax.scan(step, state, (order, scales))[0]


def _accuracies(weights: Weights, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares f64[G] of the rows of vectors f32[n, D] whose label is the best guess, and among the best five."""
    right = np.zeros((2, len(weights[1])), np.int64)
    for start in range(0, len(vectors), SCORED_AT_ONCE):
        x, y = vectors[start : start + SCORED_AT_ONCE], labels[start : start + SCORED_AT_ONCE]
        missing = SCORED_AT_ONCE - len(x)  # padded with label -1, which is never right: one program serves all
        x, y = np.pad(x, ((0, missing), (0, 0))), np.pad(y, (0, missing), constant_values=-1)
        right += np.asarray(jax.device_get(_right(weights, *jax.device_put((x, y)))))
    top1, top5 = right / len(vectors)
    return top1, top5


@jax.jit
def _right(weights: Weights, x: Array, y: Array) -> Array:
    """i32[2, G]: for how many rows of x f32[n, D] the label is the best guess, and among the best five."""
    weight, bias = weights
    logits = jnp.einsum("nd,gdc->gnc", x, weight, precision="highest") + bias[:, None]
    best = jax.lax.top_k(logits, min(5, bias.shape[1]))[1] == y[None, :, None]
    best &= jnp.isfinite(logits).all(2)[..., None]  # a classifier that diverged is never right
    return jnp.stack([best[..., 0].sum(1), best.any(2).sum(1)])
