"""VAE (Kingma and Welling 2014, arXiv 1312.6114): an encoder of which a decoder can draw the image again, small."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.losses import embedding_std, vae
from ssljax.methods.base.network import Network, item_by_item
from ssljax.methods.base.one_network import OneNetwork, State
from ssljax.models import MLP, Decoder
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled, UserError


@dataclasses.dataclass(frozen=True)
class VAE(OneNetwork):
    """A variational autoencoder of each view, at a low resolution: what the view shows, and not its texture."""

    projector: Any = MLP(hidden=(), out=128)
    """Maps embeddings to the posterior: a mean and a log variance, half of its numbers each."""
    decoder: Any = Decoder(side=16)
    """Maps a draw from the posterior to a small image."""
    beta: Scheduled = 1.0
    """Weight of the KL divergence: a number or a schedule."""

    @property
    def drawing(self) -> Network:
        """The decoder."""
        return Network(decoder=self.decoder)

    def check_settings(self, batch: Batch) -> None:
        """See `OneNetwork.check_settings`: any number of views will do."""
        check_schedule("method.beta", self.beta, least=0)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        network_rng, decoder_rng = jax.random.split(rng)
        params, aux = super().init(network_rng, batch)
        width = self.network.width("projector", params, aux.stats, batch["views"][0])
        if width % 2:
            raise UserError(
                f"method.projector makes {width} numbers, and half of them are means: choose an even number"
            )
        decoder, decoder_stats = self.drawing.init(decoder_rng, jnp.zeros((1, width // 2)))
        return params | decoder, State(aux.stats | decoder_stats)

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Equation 10, with one draw for each view, in nats an image."""
        network_rng, draw_rng = jax.random.split(rng)
        views, stats = self.network.train_crops(params, aux.stats, batch["views"], network_rng)
        mean, log_variance = jnp.split(item_by_item([view["projector"] for view in views]), 2, axis=1)
        noise = jax.random.normal(draw_rng, mean.shape)
        drawn, decoder_stats = self.drawing.train(params, aux.stats, mean + jnp.exp(log_variance / 2) * noise)
        reconstruction = drawn["decoder"]
        shape = reconstruction.shape[1:]
        images = batch.get("images", batch["views"])
        targets = item_by_item([jax.image.resize(x, (len(x), *shape), "linear") for x in images])
        loss = vae(reconstruction, targets, mean, log_variance, beta=value_at(self.beta, progress))
        error = jnp.mean(jnp.square(reconstruction - targets))
        figures = {"embedding_std": embedding_std(views[0]["encoder"]), "squared_error": error}
        return loss, (State(stats | decoder_stats), figures)
