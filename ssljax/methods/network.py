"""Encoder and projector as one pair of pure functions, with parameters and batch statistics as explicit trees."""

import dataclasses
from typing import Any

import jax

from ssljax.fields import short
from ssljax.types import Array, PyTree, UserError


@dataclasses.dataclass(frozen=True)
class Network:
    """encoder → projector, linen modules called as `module(x, train)`."""

    encoder: Any
    projector: Any

    def init(self, rng: Array, images: Array) -> tuple[PyTree, PyTree]:
        """Parameters and batch statistics, each {"encoder", "projector"}, for images f32[B, H, W, 3].

        Raises UserError if a module refuses its settings or the images.
        """
        encoder_rng, projector_rng = jax.random.split(rng)
        encoder = _variables("encoder", self.encoder, encoder_rng, images)
        features = jax.eval_shape(lambda v: self.encoder.apply(v, images, train=False), encoder)
        zeros = jax.numpy.zeros(features.shape, features.dtype)
        projector = _variables("projector", self.projector, projector_rng, zeros)
        variables = {"encoder": encoder, "projector": projector}
        params = {name: v["params"] for name, v in variables.items()}
        return params, {name: v.get("batch_stats", {}) for name, v in variables.items()}

    def project(self, params: PyTree, stats: PyTree, images: Array) -> tuple[Array, Array, PyTree]:
        """The embeddings f32[B, F] and projections f32[B, D] of images, in training mode, and the new statistics."""
        embedding, encoder = self._train(self.encoder, "encoder", params, stats, images)
        projection, projector = self._train(self.projector, "projector", params, stats, embedding)
        return embedding, projection, {"encoder": encoder, "projector": projector}

    def embed(self, params: PyTree, stats: PyTree, images: Array) -> Array:
        """f32[B, F], the encoder's output in evaluation mode."""
        variables = {"params": params["encoder"], "batch_stats": stats["encoder"]}
        return self.encoder.apply(variables, images, train=False)

    @staticmethod
    def _train(module: Any, name: str, params: PyTree, stats: PyTree, x: Array) -> tuple[Array, PyTree]:
        variables = {"params": params[name], "batch_stats": stats[name]}
        y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return y, updated.get("batch_stats", {})


def _variables(name: str, module: Any, rng: Array, x: Array) -> PyTree:
    """A module's initial variables; what it refuses is told under the name of the option."""
    if not hasattr(module, "apply"):
        raise UserError(f"method.{name}={short(module)} must be a linen module, such as ResNet() or MLP()")
    try:
        return module.init(rng, x, train=False)
    except UserError as error:
        raise UserError(f"method.{name}.{error}") from None
