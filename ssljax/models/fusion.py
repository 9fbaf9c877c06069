"""Photo and title in one embedding: two encoders, and the ways to join what they make."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.layers import Attention, Dense, FeedForward, LayerNorm, Linear, unit
from ssljax.models.listing import Listing
from ssljax.models.weights.preprocessing import Preprocessing, preprocessing_of
from ssljax.types import Array, PyTree, UserError, check_fields

COLLECTIONS = ("params", "batch_stats")


@dataclasses.dataclass(frozen=True)
class Fusion:
    """`Fusion(photo=ResNet(depth=50), title=TextTransformer.xlm_r())`, an encoder of `Listing`s.

    Where a photo or a title is missing, its part of the embedding is 0, so that the other decides. Each encoder may be
    `Pretrained` or `Frozen`.
    """

    photo: Any
    """Maps photos f32[B, H, W, 3] to embeddings; None leaves photos out."""
    title: Any
    """Maps token ids i32[B, L] to embeddings; None leaves titles out."""
    how: Literal["concat", "normalise_first", "gated", "cross_attention"] = "normalise_first"
    """How the two are joined. "concat": concatenated as they are. "normalise_first": each scaled to unit length, then
    concatenated, so that both count alike (the first place of Shopee's Price Match Guarantee, Kaggle 2021: .724 →
    .753). "gated": `width` numbers, a projection of each, weighed by a gate for each number that sees both (Arevalo et
    al. 2017). "cross_attention": `width` numbers, the mean of the title's tokens after they have attended to the cells
    of the photo's last map, plus the mean of these cells (early fusion)."""
    title_weight: float = 1.0
    """With "normalise_first", the length of the title's part; the photo's has length 1."""
    width: int = 512
    """D of "gated" and "cross_attention"; "concat" and "normalise_first" give the sum of both encoders' D."""
    heads: int = 8
    """Attention heads of "cross_attention"; must divide `width`."""

    def init(self, rng: Array, x: Listing, train: bool) -> PyTree:
        """The variables of both encoders and of the module that joins them, if there is one.

        Raises UserError if a setting does not suit, or `x` is not a `Listing`.
        """
        self._check(x)
        joint_rng, *rngs = jax.random.split(rng, 3)
        variables, made = {}, {}
        for own, (name, part) in zip(rngs, self._inputs(x).items(), strict=False):
            encoder = getattr(self, name)
            variables[name] = encoder.init(own, part, train=train)
            shapes = jax.eval_shape(lambda v, p, n=name: self._encode(n, v, p, False, None)[0], variables[name], part)
            made[name] = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        if joint := self._joint:
            variables["joint"] = joint.init(joint_rng, made, x.has_photo, x.has_title)
        return {c: {name: own.get(c, {}) for name, own in variables.items()} for c in COLLECTIONS}

    def apply(
        self, variables: PyTree, x: Listing, train: bool, mutable: Any = False, rngs: Any = None, method: None = None
    ) -> Any:
        """f32[B, D] and, where they are `mutable`, the new batch statistics, as a linen module's `apply`."""
        made, stats = {}, {name: {} for name in variables["batch_stats"]}  # a file keeps no encoder that has none
        for name, part in self._inputs(x).items():
            own = {c: variables[c].get(name, {}) for c in COLLECTIONS}
            made[name], new = self._encode(name, own, part, train, rngs)
            if name in stats:
                stats[name] = new
        if joint := self._joint:
            embedding = joint.apply({"params": variables["params"]["joint"]}, made, x.has_photo, x.has_title)
        else:
            embedding = self._concatenated(made, x)
        return (embedding, {"batch_stats": stats}) if mutable else embedding

    @property
    def preprocessing(self) -> Preprocessing:
        """How the photo's encoder wants its photos."""
        return preprocessing_of(self.photo)

    @property
    def _joint(self) -> nn.Module | None:
        """The module that joins the two; None if they are concatenated."""
        if self.how == "gated":
            return Gate(self.width)
        return CrossAttention(self.width, self.heads) if self.how == "cross_attention" else None

    def _check(self, x: object) -> None:
        check_fields(self, "", width=1, heads=1, title_weight=0)
        if not isinstance(x, Listing):
            raise UserError(
                "Fusion reads photos with their titles: choose views=PhotoAndTitle(...) and titles=Titles()"
            )
        if self.photo is None and self.title is None:
            raise UserError("photo=None and title=None leave nothing to embed: give one of them an encoder")
        if hasattr(self.photo, "vocabulary"):
            raise UserError("photo has a vocabulary, and so encodes titles: give it as title, and another one as photo")
        if self._joint and (self.photo is None or self.title is None):
            raise UserError(f"how={self.how} joins a photo and a title: choose concat where one of them is None")
        if self.width % self.heads:
            raise UserError(f"heads={self.heads} must divide width={self.width}")

    def _inputs(self, x: Listing) -> dict[str, Array]:
        """Encoder → its input, without an encoder that is None."""
        inputs = {"photo": x.photo, "title": x.title}
        return {name: part for name, part in inputs.items() if getattr(self, name) is not None}

    def _encode(self, name: str, variables: PyTree, part: Array, train: bool, rngs: Any) -> tuple[Any, PyTree]:
        """An encoder's output f32[B, C], and its new batch statistics.

        For cross-attention the output is the photo's cells f32[B, M, C], or the title's tokens f32[B, L, C] and which
        of them are there, bool[B, L].
        """
        encoder = getattr(self, name)
        method = "tokens" if self.how == "cross_attention" and hasattr(encoder, "tokens") else None
        made, updated = encoder.apply(variables, part, train=train, mutable=["batch_stats"], rngs=rngs, method=method)
        if self.how == "cross_attention" and name == "photo":
            # a ViT's patches, or the cells that a convolutional encoder averages over
            cells = 1 if getattr(encoder, "levels", ()) else getattr(encoder, "pool", 1) ** 2
            made = made.reshape(len(made), cells, -1) if method is None else made[1]
        return made, updated.get("batch_stats", {})

    def _concatenated(self, made: dict[str, Array], x: Listing) -> Array:
        """f32[B, sum of C], of encoders' outputs f32[B, C]."""
        there, weights = {"photo": x.has_photo, "title": x.has_title}, {"photo": 1.0, "title": self.title_weight}
        if self.how == "normalise_first":
            made = {name: weights[name] * unit(part) for name, part in made.items()}
        return jnp.concatenate([jnp.where(there[name][:, None], part, 0) for name, part in made.items()], axis=1)


class Gate(nn.Module):
    """A gated multimodal unit (Arevalo et al. 2017, eq. 1): each number is weighed between photo and title."""

    width: int

    @nn.compact
    def __call__(self, made: dict[str, Array], has_photo: Array, has_title: Array) -> Array:
        """made: photo f32[B, P] and title f32[B, T]; has_photo, has_title: bool[B]; returns f32[B, width]."""
        photo, title = (
            jnp.where(there[:, None], unit(made[name]), 0)
            for name, there in (("photo", has_photo), ("title", has_title))
        )
        gate = nn.sigmoid(Linear(self.width, name="gate")(jnp.concatenate([photo, title], axis=1)))
        gate = jnp.where(has_title[:, None], jnp.where(has_photo[:, None], gate, 0.0), 1.0)
        photo = jnp.tanh(Linear(self.width, name="photo")(photo))
        title = jnp.tanh(Linear(self.width, name="title")(title))
        return gate * photo + (1 - gate) * title


class CrossAttention(nn.Module):
    """The title's tokens attend to the photo's cells (early fusion); the means of both are added."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, made: dict[str, Any], has_photo: Array, has_title: Array) -> Array:
        """Joins the cells of photos and the tokens of titles; returns f32[B, width].

        made: photo f32[B, M, P], the cells; title f32[B, L, T] and bool[B, L], the tokens and which are there.
        has_photo, has_title: bool[B].
        """
        cells, (tokens, there) = made["photo"], made["title"]
        cells = LayerNorm(1e-6, name="photo_norm")(Dense(self.width, name="photo")(cells))
        tokens = Dense(self.width, name="title")(tokens)
        attended = Attention(self.heads, name="attention")(cells, query=LayerNorm(1e-6, name="title_norm")(tokens))
        tokens = tokens + jnp.where(has_photo[:, None, None], attended, 0)
        tokens = tokens + FeedForward(4 * self.width, name="feed_forward")(LayerNorm(1e-6, name="norm")(tokens))
        words = jnp.sum(jnp.where(there[:, :, None], tokens, 0), axis=1) / jnp.maximum(there.sum(axis=1), 1)[:, None]
        photo = jnp.where(has_photo[:, None], cells.mean(axis=1), 0)
        return (jnp.where(has_title[:, None], words, 0) + photo).astype(jnp.float32)
