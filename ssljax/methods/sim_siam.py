"""SimSiam (Chen and He 2021, arXiv 2011.10566): a predictor and a stop-gradient, without negatives or a teacher."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ssljax.losses import l2_normalise, negative_cosine
from ssljax.methods.base.checks import check_predictor
from ssljax.methods.base.network import Network
from ssljax.methods.base.one_network import OneNetwork, State, pair_figures
from ssljax.models import MLP
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress


@dataclasses.dataclass(frozen=True)
class SimSiam(OneNetwork):
    """SimSiam; the defaults are those of the paper's ImageNet, for CIFAR the projector has one hidden layer."""

    projector: Any = MLP(hidden=(2048, 2048), out=2048, batch_norm=True, last_batch_norm=True, last_affine=False)
    """Maps embeddings to what the loss compares."""
    predictor: Any = MLP(hidden=(512,), out=2048, batch_norm=True)
    """Maps one view's projection to the other's."""
    stop_gradient: bool = True
    """Without it the embeddings collapse: the paper's figure 2."""

    @property
    def network(self) -> Network:
        """Encoder, projector and predictor."""
        return Network(encoder=self.encoder, projector=self.projector, predictor=self.predictor)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        check_predictor(self.network, params, aux.stats, batch["views"][0])
        return params, aux

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1."""
        (view1, view2), stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        p1, p2, z1, z2 = view1["predictor"], view2["predictor"], view1["projector"], view2["projector"]
        loss = (self._distance(p1, z2) + self._distance(p2, z1)) / 2
        return loss, (State(stats), pair_figures(view1["encoder"], z1, z2))

    def _distance(self, p: Array, z: Array) -> Array:
        if self.stop_gradient:
            return negative_cosine(p, z)
        return -jnp.mean(jnp.sum(l2_normalise(p) * l2_normalise(z), axis=1))
