"""Encoders of titles, which are token ids i32[B, L]: transformers, and bags of static token embeddings.

Ids are at least 0 and below `vocabulary`; -1 stands for padding, which comes last. An empty title, all -1, gives zeros.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.blocks import Remat, drop_path_factors, in_a_loop, rematerialized
from ssljax.models.layers import Dense, LayerNorm, TextFeedForwardKind, check_sizes, truncated_normal
from ssljax.models.vit import Block
from ssljax.types import Array, UserError


class TextTransformer(nn.Module):
    """A transformer over tokens. The defaults are for training from scratch; published networks have their names.

    BERT (Devlin et al. 2019), MiniLM and multilingual E5, RoBERTa and XLM-R (Conneau et al. 2020), and the text towers
    of CLIP and SigLIP: `Pretrained(TextTransformer.xlm_r(), "hf://FacebookAI/xlm-roberta-base")`.
    """

    vocabulary: int = 8192
    """number of tokens, at least the tokenizer's"""
    width: int = 384
    """channels"""
    depth: int = 6
    """blocks"""
    heads: int = 6
    """attention heads; must divide the width"""
    hidden: int | None = None
    """channels within the feed-forward layers; None for 4 x the width"""
    length: int = 512
    """most tokens of a title"""
    position_offset: int = 0
    """rows of the table of positions before the first token's, which are not used (RoBERTa and XLM-R: 2)"""
    post_norm: bool = False
    """norms come after each sum, and after the embeddings (BERT, XLM-R), not before each branch and at the end"""
    epsilon: float = 1e-6
    """added to the norms' variances; 1e-12 in BERT, 1e-5 in XLM-R and CLIP"""
    feed_forward: TextFeedForwardKind = "gelu"
    """gelu_tanh: GELU's approximation by tanh (SigLIP); gelu_sigmoid: by a sigmoid (OpenAI's CLIP)"""
    causal: bool = False
    """each token attends to those before it alone (CLIP)"""
    pad_token: int | None = None
    """what stands for padding, and is attended to, up to `length` tokens (SigLIP: 1); None: nothing attends to it"""
    pool: Literal["cls", "mean", "last"] = "mean"
    """which token is the result: the first ([CLS], <s>), the last (of CLIP and SigLIP), or the mean of all, which finds
    more with BERTs that are not fine-tuned (Reimers & Gurevych 2019, table 1)"""
    projection: int | None = None
    """length of the result after a last linear layer (CLIP, SigLIP); None: there is none"""
    projection_bias: bool = False
    """that layer has a bias (SigLIP)"""
    drop_path: float = 0.0
    """share of titles that leave out a branch of the last block, less in earlier ones; in a student only"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and matrix products; parameters, norms' statistics and the result stay float32"""
    remat: Remat = "none"
    """what the backward pass computes again, to save memory: none; dots: all but the products with weights; block:
    all but each block's input, for about a third more time"""
    scan: bool = False
    """run the blocks in a loop, which compiles in a fraction of the time; parameters and results are the same"""

    @classmethod
    def bert(cls, size: Literal["base", "large"] = "base", vocabulary: int = 30522) -> "TextTransformer":
        """BERT, uncased and in English; multilingual, cased: vocabulary=119547."""
        width, depth, heads = _SIZES[size]
        return cls(vocabulary, width, depth, heads, post_norm=True, epsilon=1e-12)

    @classmethod
    def xlm_r(cls, size: Literal["base", "large"] = "base", vocabulary: int = 250002) -> "TextTransformer":
        """XLM-R, in 100 languages; RoBERTa: vocabulary=50265."""
        return cls.bert(size, vocabulary).clone(epsilon=1e-5, position_offset=2)

    @classmethod
    def minilm(cls) -> "TextTransformer":
        """sentence-transformers/all-MiniLM-L6-v2, in English."""
        return cls(30522, 384, 6, 12, post_norm=True, epsilon=1e-12)

    @classmethod
    def e5_small(cls) -> "TextTransformer":
        """intfloat/multilingual-e5-small, in 100 languages; titles are to begin with "query: "."""
        return cls.minilm().clone(vocabulary=250037, depth=12)

    @classmethod
    def clip(cls, width: Literal[512, 768] = 512) -> "TextTransformer":
        """The text tower of OpenAI's CLIP: of ViT-B, or with 768 channels of ViT-L."""
        tower = cls(49408, width, 12, width // 64, length=77, causal=True, pool="last", projection=width)
        return tower.clone(epsilon=1e-5, feed_forward="gelu_sigmoid")

    @classmethod
    def siglip(cls, vocabulary: int = 32000) -> "TextTransformer":
        """The text tower of SigLIP's ViT-B; of SigLIP 2: vocabulary=256000, and pad_token=0."""
        tower = cls(vocabulary, 768, 12, 12, length=64, feed_forward="gelu_tanh", pad_token=1, pool="last")
        return tower.clone(projection=768, projection_bias=True)

    @property
    def features(self) -> int:
        """Length of the result."""
        return self.projection or self.width

    def __call__(self, ids: Array, train: bool) -> Array:
        """ids: i32[B, L]; returns f32[B, features], zeros for an empty title.

        Raises UserError if a size does not fit another, or there are more than `length` tokens.
        """
        return self._encode(ids, train)[0]

    def tokens(self, ids: Array, train: bool) -> tuple[Array, Array]:
        """The tokens f32[B, L, width] after the last norm, zeros for padding; and which are tokens, bool[B, L].

        ids: i32[B, L]. Raises UserError as `__call__` does.
        """
        tokens, mask = self._encode(ids, train)[1][:, : ids.shape[1]], ids >= 0
        return jnp.where(mask[:, :, None], tokens, 0), mask

    @nn.compact
    def _encode(self, ids: Array, train: bool) -> tuple[Array, Array]:
        """f32[B, features] and f32[B, N, width], the title and its N tokens, with what `pad_token` stands for."""
        self._check(ids)
        empty, mask = (ids < 0).all(axis=1), ids >= 0
        if self.pad_token is not None:
            ids = jnp.pad(ids, ((0, 0), (0, self.length - ids.shape[1])), constant_values=-1)
            ids, mask = jnp.where(ids < 0, self.pad_token, ids), jnp.ones(ids.shape, bool)
        count = ids.shape[1]
        x = _embedded(self, ids, self.width)
        shape = (self.position_offset + self.length, self.width)
        x = x + self.param("positions", truncated_normal, shape, jnp.float32)[self.position_offset :][None, :count]
        if self.post_norm:
            x = LayerNorm(self.epsilon, name="embedding_norm")(x)
        # The first token is attended to even if it is padding: otherwise an empty title would attend to nothing.
        attended = (mask | (jnp.arange(count) == 0)[None])[:, None, None]
        if self.causal:
            attended = attended & jnp.tril(jnp.ones((count, count), bool))[None, None]
        x = self._blocks(x.astype(self.dtype), attended, train).astype(jnp.float32)
        if not self.post_norm:
            x = LayerNorm(self.epsilon, name="norm")(x)
        if self.pool == "mean":
            y = _mean(x, mask)
        elif self.pool == "cls":
            y = x[:, 0]
        else:
            y = jnp.take_along_axis(x, mask.sum(axis=1)[:, None, None] - 1, axis=1)[:, 0]
        if self.projection is not None:
            y = Dense(self.projection, self.projection_bias, name="projection")(y)
        return jnp.where(empty[:, None], 0, y), x

    def _blocks(self, x: Array, mask: Array, train: bool) -> Array:
        block = functools.partial(
            rematerialized(Block, self.remat),
            self.heads,
            None,
            self.hidden or 4 * self.width,
            self.feed_forward,
            ("query", "key", "value"),
            self.epsilon,
            None,
            self.post_norm,
        )
        names = [f"block{i + 1}" for i in range(self.depth)]
        factors = drop_path_factors(self, self.drop_path, self.depth, len(x), train)
        if self.scan and not self.is_initializing() and not self.is_mutable_collection("intermediates"):
            params = [self.get_variable("params", name) for name in names]
            return in_a_loop([block(parent=None)], params, x, train, factors, mask)
        for name, own in zip(names, factors, strict=True):
            x = block(name=name)(x, train, own, mask=mask)
        return x

    def _check(self, ids: Array) -> None:
        check_sizes(vocabulary=self.vocabulary, width=self.width, depth=self.depth, heads=self.heads)
        check_sizes(hidden=self.hidden, length=self.length, projection=self.projection)
        if self.width % self.heads:
            raise UserError(f"heads={self.heads} does not divide the width of {self.width}")
        if self.position_offset < 0:
            raise UserError(f"position_offset={self.position_offset} must be at least 0")
        if self.pad_token is not None and not 0 <= self.pad_token < self.vocabulary:
            raise UserError(f"pad_token={self.pad_token} is not in the vocabulary of {self.vocabulary} tokens")
        if self.pool not in ("cls", "mean", "last"):
            raise UserError(f"pool={self.pool} is unknown: choose cls, mean or last")
        if ids.shape[1] > self.length:
            raise UserError(
                f"length={self.length} is less than the {ids.shape[1]} tokens of a title: lower titles.length"
            )


_SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}  # width, depth, heads


class BagOfTokens(nn.Module):
    """The mean of its tokens' embeddings, each of which is the same in every title.

    Quick, and strong with embeddings that were distilled from a language model:
    `Pretrained(BagOfTokens(32000, 256), "package:wordllama")`. Also for hashed n-grams.
    """

    vocabulary: int = 8192
    """number of tokens, at least the tokenizer's"""
    dim: int = 256
    """length of the embeddings, and of the result"""
    weighted: bool = False
    """each token has a learnt weight above 0 in the mean, which begins as 1"""

    @property
    def features(self) -> int:
        """Length of the result."""
        return self.dim

    def __call__(self, ids: Array, train: bool) -> Array:
        """ids: i32[B, L]; returns f32[B, dim], zeros for an empty title."""
        x, weights = self._encode(ids)
        return _mean(x, weights)

    def tokens(self, ids: Array, train: bool) -> tuple[Array, Array]:
        """The tokens' embeddings f32[B, L, dim], zeros for padding, and which are tokens, bool[B, L]. ids: i32[B, L]"""
        mask = ids >= 0
        return jnp.where(mask[:, :, None], self._encode(ids)[0], 0), mask

    @nn.compact
    def _encode(self, ids: Array) -> tuple[Array, Array]:
        """The tokens' embeddings f32[B, L, dim] and weights f32[B, L], zeros for padding."""
        check_sizes(vocabulary=self.vocabulary, dim=self.dim)
        x, weights = _embedded(self, ids, self.dim), (ids >= 0).astype(jnp.float32)
        if self.weighted:
            learnt = self.param("log_weights", nn.initializers.zeros, (self.vocabulary,), jnp.float32)
            weights = weights * jnp.exp(jnp.take(learnt, jnp.maximum(ids, 0)))
        return x, weights


def _embedded(module: TextTransformer | BagOfTokens, ids: Array, width: int) -> Array:
    """f32[B, L, width], rows of the module's table: padding has that of token 0, and ids beyond the table give NaN."""
    table = module.param("tokens", truncated_normal, (module.vocabulary, width), jnp.float32)
    return jnp.take(table, jnp.maximum(ids, 0), axis=0)


def _mean(x: Array, weights: Array) -> Array:
    """f32[B, C], the mean of x f32[B, L, C] weighted by [B, L]; zeros where all weights are 0."""
    total = weights.sum(axis=1, keepdims=True)
    return (x * weights[:, :, None]).sum(axis=1) / jnp.where(total > 0, total, 1)
