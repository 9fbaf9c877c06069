"""AttributeClassification: an encoder that tells the attributes of items, as far as they are known."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ssljax.losses import embedding_std, masked_attributes
from ssljax.methods.base.checks import check_alike, check_labelled_views
from ssljax.methods.base.network import Network, item_by_item
from ssljax.methods.base.one_network import OneNetwork, State
from ssljax.models import MLP, Identity
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, UserError

NO_ATTRIBUTES = "AttributeClassification learns from attributes, and the data has none: name columns in data.attributes"


@dataclasses.dataclass(frozen=True)
class AttributeClassification(OneNetwork):
    """One classifier for each attribute, on one projection; what is missing counts for nothing."""

    projector: Any = Identity()
    """Maps embeddings to what the classifiers see."""
    values: tuple[int, ...] = ()
    """How many values each attribute of the data has, in its order."""
    labelled_views: int | None = None
    """How many of the views, from the first, have the item's attributes; None: all. Of mined triplets it is 1."""

    @property
    def network(self) -> Network:
        """Encoder, projector, and the classifiers side by side."""
        return Network(encoder=self.encoder, projector=self.projector, classifiers=MLP(hidden=(), out=sum(self.values)))

    def check(self, items: Any, batches: Any, views: int) -> None:
        check_alike(self.labelled_views, batches)
        if items.attributes is None:
            raise UserError(NO_ATTRIBUTES)
        there = tuple(map(len, items.attribute_values)) or tuple(np.max(items.attributes, axis=0) + 1)
        for name, values in zip(items.attribute_names, items.attributes.T, strict=False):
            known = np.unique(values[values >= 0])
            if len(known) < 2:
                raise UserError(
                    f"attribute {name!r} has {len(known)} value{'s' * (len(known) != 1)} in the {len(values)} photos "
                    f"of the train split ({np.sum(values < 0)} lack it), and nothing can be told: leave it out of "
                    "data.attributes"
                )
        if self.values != there:
            raise UserError(f"method.values={self.values} are not the data's attributes: set it to {there}")

    def check_settings(self, batch: Batch) -> None:
        if "attributes" not in batch:
            raise UserError(NO_ATTRIBUTES)
        if min(self.values, default=0) < 1 or len(self.values) != batch["attributes"].shape[1]:
            raise UserError(
                f"method.values={self.values} must be the numbers of values of the data's "
                f"{batch['attributes'].shape[1]} attributes"
            )
        check_labelled_views(self.labelled_views, batch)

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Mean over the attributes of the cross-entropy over the items that have it."""
        images = batch["views"][: self.labelled_views]
        views, stats = self.network.train_crops(params, aux.stats, images, rng)
        scores = item_by_item([view["classifiers"] for view in views])
        logits = jnp.split(scores, np.cumsum(self.values)[:-1], axis=1)
        attributes = jnp.repeat(batch["attributes"], len(views), axis=0)
        right = jnp.stack([jnp.argmax(x, axis=1) for x in logits], axis=1) == attributes
        accuracy = jnp.sum(right) / jnp.maximum(jnp.sum(attributes >= 0), 1)
        figures = {"embedding_std": embedding_std(views[0]["encoder"]), "accuracy": accuracy}
        return masked_attributes(logits, attributes), (State(stats), figures)
