"""Several encoders of one photo, side by side in one embedding."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.models.layers import unit
from ssljax.models.norm import norm_groups
from ssljax.models.weights.preprocessing import Preprocessing, preprocessing_of
from ssljax.types import Array, PyTree, UserError, short

COLLECTIONS = ("params", "batch_stats")


@dataclasses.dataclass(frozen=True)
class Joined:
    """Encoders of one photo, side by side: `Joined((Pretrained(ResNet(depth=50), "r50.pth"), ColourHistogram()))`.

    Each encoder may be `Pretrained` or `Frozen`. Each of `parts` has unit length, so that all count alike. All see the
    same view, and so must want the same mean and standard deviation.
    """

    encoders: tuple[Any, ...]
    """Map photos f32[B, H, W, 3] to embeddings."""

    @property
    def features(self) -> int:
        """Length of the result."""
        return sum(self.parts)

    @property
    def parts(self) -> tuple[int, ...]:
        """Lengths of the parts that the result is joined from: of each encoder, or of what that one is joined from."""
        return tuple(length for encoder in self.encoders for length in _parts(encoder))

    @property
    def norm_groups(self) -> int | None:
        """Parts of the batch that the first encoder with BatchNorm normalises apart; None if none has it."""
        return next((groups for groups in map(norm_groups, self.encoders) if groups is not None), None)

    @property
    def preprocessing(self) -> Preprocessing:
        """How all encoders want their photos; raises UserError if they do not agree."""
        first, *others = map(preprocessing_of, self.encoders)
        for other, encoder in zip(others, self.encoders[1:], strict=True):
            if not np.allclose([first.mean, first.std], [other.mean, other.std], atol=1e-3):
                raise UserError(
                    f"encoders: {short(encoder)} wants photos with mean={other.mean} and std={other.std}, and the "
                    f"first encoder {first.mean} and {first.std}: give it preprocessing=Preprocessing(...) with those"
                )
        return first

    def init(self, rng: Array, x: Array, train: bool) -> PyTree:
        """The variables of all encoders; raises UserError if they are not encoders of photos, or do not agree."""
        if not self.encoders:
            raise UserError("encoders=() leaves nothing to embed with: give one encoder or more")
        for encoder in self.encoders:
            if not hasattr(encoder, "features") or hasattr(encoder, "vocabulary"):
                raise UserError(f"encoders: {short(encoder)} must be an encoder of photos, such as ResNet(depth=18)")
        _ = self.preprocessing
        made = [
            encoder.init(own, x, train=train)
            for encoder, own in zip(self.encoders, jax.random.split(rng, len(self.encoders)), strict=True)
        ]
        return {c: {f"encoder{i}": own.get(c, {}) for i, own in enumerate(made)} for c in COLLECTIONS}

    def apply(
        self, variables: PyTree, x: Array, train: bool, mutable: Any = False, rngs: Any = None, method: None = None
    ) -> Any:
        """f32[B, features] and, where they are `mutable`, the new batch statistics, as a linen module's `apply`."""
        made, stats = [], dict(variables["batch_stats"])  # a file keeps no encoder that has none
        for i, encoder in enumerate(self.encoders):
            own = {c: variables[c].get(f"encoder{i}", {}) for c in COLLECTIONS}
            output, updated = encoder.apply(own, x, train=train, mutable=["batch_stats"], rngs=rngs)
            made += [unit(part) for part in jnp.split(output, np.cumsum(_parts(encoder))[:-1], axis=1)]
            if f"encoder{i}" in stats:
                stats[f"encoder{i}"] = updated.get("batch_stats", {})
        embedding = jnp.concatenate(made, axis=1)
        return (embedding, {"batch_stats": stats}) if mutable else embedding


def _parts(encoder: Any) -> tuple[int, ...]:
    return getattr(encoder, "parts", (encoder.features,))
