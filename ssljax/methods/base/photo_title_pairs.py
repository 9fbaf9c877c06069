"""The base of CLIP and SigLIP: methods that compare photos with their titles, alone or beside another method."""

import abc
import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ssljax.losses import embedding_std, view_cosines
from ssljax.methods.base.checks import naming
from ssljax.methods.base.network import Network, variables_of
from ssljax.methods.base.one_network import OneNetwork
from ssljax.models import MLP, Identity, Listing, TextTransformer
from ssljax.schedules import check_schedule, value_at
from ssljax.types import (
    Array,
    Aux,
    Batch,
    CheckedMethod,
    LossAndState,
    Params,
    Progress,
    PyTree,
    Scheduled,
    UserError,
    pytree,
    short,
)


@pytree
class PairState:
    """The state beside the parameters."""

    stats: PyTree
    """batch statistics of both networks, by module"""
    beside: Any = None
    """the state of the method beside, without the statistics of the encoder, which is shared"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoTitlePairs(OneNetwork, abc.ABC):
    """Two networks map photos and titles into one space, where `compare` brings a photo and its title together.

    The photo and the title are those of the first view, a `Listing`. Items whose photo or title is missing or hidden
    are left out of the comparison.

    With a self-supervised method `beside`, the encoder learns from that too (SLIP, Mu et al. 2021, arXiv 2112.12750):
    `CLIP(encoder=ResNet(), title_encoder=..., beside=MoCo(encoder=Identity()))`. It sees the photos of all views, of
    which MoCo needs two, and keeps its own projector, teacher and queue. (In SLIP the title has a third view.)
    """

    projector: Any = MLP(hidden=(), out=512, last_bias=False)
    """Maps embeddings of photos to what is compared, and searched."""
    title_encoder: Any = TextTransformer()
    """Maps token ids i32[B, L] to embeddings of titles."""
    title_projector: Any = MLP(hidden=(), out=512, last_bias=False)
    """Maps embeddings of titles to what is compared with the photos' projections."""
    group: Literal["label", "listing"] | None = None
    """Items that share it, such as photos of one product, are not each other's negatives; None: all others are."""
    beside: Any = None
    """A method of one network, perhaps with a teacher, that trains the encoder at the same time; its own encoder is
    Identity(), which the shared one replaces."""
    beside_weight: Scheduled = 1.0
    """Weight of its loss: a number or a schedule."""

    @abc.abstractmethod
    def initial_scale(self) -> Params:
        """The parameters of `compare`, f32[] each."""

    @abc.abstractmethod
    def compare(
        self, params: Params, photo: Array, title: Array, valid: Array, ids: Array | None
    ) -> tuple[Array, dict[str, Array]]:
        """The loss f32[] between projections f32[B, D] of photos and of titles, and figures to log.

        valid: bool[B], False for items to leave out; ids: i32[B], those with equal ones are not each other's negatives.
        """

    @property
    def title_network(self) -> Network:
        """The modules of titles, in their order."""
        return Network(title_encoder=self.title_encoder, title_projector=self.title_projector)

    @property
    def embedding(self) -> Literal["projector"]:
        """What is searched: the projection, which is in the space of titles."""
        return "projector"

    @property
    def frozen_until(self) -> dict[str, float]:
        """See `FreezingMethod.frozen_until`: what the method beside freezes."""
        frozen = getattr(self.beside, "frozen_until", {})
        return {path if path.startswith("encoder") else f"beside/{path}": share for path, share in frozen.items()}

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`: there must be titles."""
        if not any(title.strip() for title in items.columns.get("title", ())):
            raise UserError(
                f"{type(self).__name__} learns from titles, and all those of the train split are blank: name the "
                "titles' column in data.title"
            )
        if isinstance(self.beside, CheckedMethod):
            with naming("method.beside"):
                self.beside.check(items, batches, views)

    def check_settings(self, batch: Batch) -> None:
        views, beside = batch["views"], self.beside
        if not isinstance(views[0], Listing):
            raise UserError(
                f"{type(self).__name__} reads photos with their titles: choose views=PhotoAndTitle(...) and "
                "titles=Titles()"
            )
        if self.group and self.group not in batch:
            raise UserError(
                f"method.group={self.group}, and the data has none: name its column in data.{self.group}, or set it "
                "to None"
            )
        check_schedule("method.beside_weight", self.beside_weight, least=0)
        if beside is None:
            if len(views) != 1:
                raise UserError(
                    f"views make {len(views)} views of a photo, and the method compares one with its title: choose "
                    "views=PhotoAndTitle(OneCropEach(...)) and one photo of an item"
                )
        elif not isinstance(beside, OneNetwork) or isinstance(beside, PhotoTitlePairs):
            raise UserError(f"method.beside={short(beside)} must be a method of photos, such as MoCo()")
        elif not isinstance(beside.encoder, Identity):
            raise UserError(
                f"method.beside.encoder={short(beside.encoder)} would be a second encoder: set it to Identity(), as "
                "the method beside trains method.encoder"
            )

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`: with `initial_scale` among the parameters."""
        self.check_settings(batch)
        photo_rng, title_rng, beside_rng = jax.random.split(rng, 3)
        photo, title = batch["views"][0].photo, batch["views"][0].title
        params, stats = self.network.init(photo_rng, photo)
        title_params, title_stats = self.title_network.init(title_rng, title)
        width = self.network.width("projector", params, stats, photo)
        title_width = self.title_network.width("title_projector", title_params, title_stats, title)
        if width != title_width:
            raise UserError(
                f"method.projector makes {width} numbers and method.title_projector {title_width}, which are compared: "
                f"set method.title_projector.out={width}"
            )
        params, state = params | title_params | self.initial_scale(), PairState(stats | title_stats)
        if self.beside is None:
            return params, state
        with naming("method.beside"):
            own, aux = self._beside.init(beside_rng, self._photos(batch))
        # The shared encoder begins as the one beside, of which a teacher is a copy.
        params |= {"encoder": own["encoder"], "beside": {name: own[name] for name in own if name != "encoder"}}
        return params, self._with_beside(state.stats, aux)

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """`compare` on the first view, and the loss of the method beside, with its weight."""
        photo_rng, title_rng, beside_rng = jax.random.split(rng, 3)
        view: Listing = batch["views"][0]
        params = {**params, **self.network.cast(params)}
        photo, stats = self.network.train(params, aux.stats, view.photo, photo_rng)
        title, title_stats = self.title_network.train(params, aux.stats, view.title, title_rng)
        z, t, valid = photo["projector"], title["title_projector"], view.has_photo & view.has_title
        loss, figures = self.compare(params, z, t, valid, self._ids(batch))
        positive, negative = view_cosines(*jax.lax.stop_gradient((z, t)), valid)
        figures |= {"embedding_std": embedding_std(photo["encoder"]), "pairs": jnp.mean(valid, dtype=jnp.float32)}
        figures |= {"positive_cosine": positive, "negative_cosine": negative}
        state = PairState(stats | title_stats, aux.beside)
        if self.beside is None:
            return loss, (state, figures)
        beside, (beside_aux, beside_figures) = self._beside.loss(
            *self._of_beside(params, state), self._photos(batch), beside_rng, progress
        )
        figures |= {f"beside/{name}": figure for name, figure in ({"loss": beside} | beside_figures).items()}
        loss += value_at(self.beside_weight, progress) * beside
        return loss, (self._with_beside(state.stats, beside_aux), figures)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """What follows the update in the method beside, if there is one."""
        if self.beside is None:
            return aux
        return self._with_beside(aux.stats, self._beside.after_update(*self._of_beside(params, aux), progress))

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the photo's projection; 0 where the photo is hidden."""
        view: Listing = batch["views"][0]
        made = self.network.evaluate(params, aux.stats, view.photo)
        return jnp.where(view.has_photo[:, None], made["projector"], 0)

    def embed_title(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `TitleMethod.embed_title`: the title's projection; 0 where there is no title."""
        view: Listing = batch["views"][0]
        made = self.title_network.evaluate(params, aux.stats, view.title)
        return jnp.where(view.has_title[:, None], made["title_projector"], 0)

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`: both networks as the student, and the teacher of the method beside."""
        beside = {} if self.beside is None else self._beside.weights(*self._of_beside(params, aux))
        return beside | {"student": variables_of({name: params[name] for name in aux.stats}, aux.stats)}

    @property
    def _beside(self) -> Any:
        """The method beside, of the shared encoder."""
        return dataclasses.replace(self.beside, encoder=self.encoder)

    def _of_beside(self, params: Params, state: PairState) -> tuple[Params, Aux]:
        """Parameters and state of the method beside, with the shared encoder's."""
        stats = {**state.beside.stats, "encoder": state.stats["encoder"]}
        return {**params["beside"], "encoder": params["encoder"]}, dataclasses.replace(state.beside, stats=stats)

    def _with_beside(self, stats: PyTree, beside: Any) -> PairState:
        """The state with that of the method beside, whose encoder's statistics are the shared one's."""
        own = {name: part for name, part in beside.stats.items() if name != "encoder"}
        stats = {**stats, "encoder": beside.stats["encoder"]}
        return PairState(stats, dataclasses.replace(beside, stats=own))

    def _photos(self, batch: Batch) -> Batch:
        """The batch as the method beside sees it: photos without titles."""
        return batch | {"views": tuple(view.photo for view in batch["views"])}

    def _ids(self, batch: Batch) -> Array | None:
        """i32[B], equal where items share the group; of each its own where it has none."""
        if self.group is None:
            return None
        ids = batch[self.group]
        return jnp.where(ids >= 0, ids, -1 - jnp.arange(len(ids)))
