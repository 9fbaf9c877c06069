"""Fusion: what each way of joining gives, what is missing counts for nothing, and encoders may be frozen."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import MetricLearning
from ssljax.models import EfficientNet, Frozen, Fusion, Listing, ResNet, ViT, whole
from ssljax.optim import AdamW
from ssljax.types import Progress, UserError

PHOTO = ResNet(depth=18, stem="cifar", width=8)
BATCH, LENGTH, VOCABULARY = 4, 5, 11
WAYS = ("concat", "normalise_first", "gated", "cross_attention")


class Words(nn.Module):
    """The mean of the tokens' embeddings; 0 without tokens."""

    vocabulary: int = VOCABULARY
    width: int = 6

    def __call__(self, ids, train):
        tokens, there = self.tokens(ids, train)
        return jnp.where(there[:, :, None], tokens, 0).sum(axis=1) / jnp.maximum(there.sum(axis=1), 1)[:, None]

    @nn.compact
    def tokens(self, ids, train):
        table = self.param("embedding", nn.initializers.normal(1.0), (self.vocabulary, self.width))
        return table[jnp.maximum(ids, 0)], ids >= 0


def listing(size=16):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (BATCH, LENGTH))
    ids[:, 3:] = -1
    photo = rng.normal(size=(BATCH, size, size, 3)).astype(np.float32)
    return Listing(jnp.asarray(photo), jnp.asarray(ids, jnp.int32), jnp.ones(BATCH, bool))


def fusion(**fields):
    return Fusion(**{"photo": PHOTO, "title": Words(), "width": 16, "heads": 2} | fields)


def embed(module, x, rng=0):
    variables = module.init(jax.random.PRNGKey(rng), x, train=False)
    return np.asarray(module.apply(variables, x, train=False)), variables


@pytest.mark.parametrize("how", WAYS)
def test_a_photo_or_title_that_is_missing_counts_for_nothing(how):
    module, x = fusion(how=how), listing()
    both, variables = embed(module, x)
    assert both.dtype == np.float32 and np.isfinite(both).all()

    def apply(x):
        return np.asarray(module.apply(variables, x, train=False))

    other = dataclasses.replace(x, photo=x.photo[::-1])
    without_photo = [apply(dataclasses.replace(x, has_photo=jnp.zeros(BATCH, bool))) for x in (x, other)]
    np.testing.assert_array_equal(*without_photo)
    assert not np.allclose(without_photo[0], both)
    hidden = jnp.full_like(x.title, -1)
    without_title = apply(dataclasses.replace(x, title=hidden))
    assert not np.allclose(without_title, both) and np.isfinite(without_title).all()
    one = apply(dataclasses.replace(x, title=x.title.at[0].set(-1)))
    np.testing.assert_allclose(one[0], without_title[0], atol=1e-6)
    np.testing.assert_allclose(one[1:], both[1:], atol=1e-6)


def test_concat_and_normalise_first_are_the_parts():
    x = listing()
    both, joint = embed(fusion(how="concat"), x)
    parts = {
        name: {"params": joint["params"][name], "batch_stats": joint["batch_stats"][name]}
        for name in ("photo", "title")
    }
    photo = np.asarray(PHOTO.apply(parts["photo"], x.photo, train=False))
    title = np.asarray(Words().apply(parts["title"], x.title, train=False))
    np.testing.assert_allclose(both, np.concatenate([photo, title], axis=1), rtol=1e-6)
    scaled = np.asarray(fusion(title_weight=0.5).apply(joint, x, train=False))
    norms = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (photo, title)]
    np.testing.assert_allclose(scaled, np.concatenate([norms[0], 0.5 * norms[1]], axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["photo", "title"])
def test_one_encoder_alone(name):
    other = {"photo": "title", "title": "photo"}[name]
    x = listing()
    alone, variables = embed(fusion(how="concat", **{other: None}), x)
    assert set(variables["params"]) == {name} and alone.shape == (BATCH, 64 if name == "photo" else 6)


@pytest.mark.parametrize("how", WAYS)
def test_gradients_are_finite_with_nothing_missing_and_all_missing(how):
    module, x = fusion(how=how), listing()
    variables = module.init(jax.random.PRNGKey(0), x, train=True)

    def loss(params, x):
        embedding, _ = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(embedding[:, ::2] ** 2)

    for at in (x, dataclasses.replace(x, title=jnp.full_like(x.title, -1))):
        gradients = jax.jit(jax.grad(loss))(variables["params"], at)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(jax.grad(loss)(variables["params"], x)["title"]))


def test_cross_attention_sees_where_things_are():
    x = listing()
    for photo in (ViT(patch=8, depth=1, width=16, heads=2), EfficientNet("lite0", pool=2, width=0.25, depth=0.1)):
        module = fusion(photo=photo, how="cross_attention")
        both, variables = embed(module, dataclasses.replace(x, photo=jnp.tile(x.photo, (1, 4, 4, 1))))
        assert both.shape == (BATCH, 16)
        width = 16 if isinstance(photo, ViT) else 1280
        assert variables["params"]["joint"]["photo"]["kernel"].shape == (width, 16)


def test_an_encoder_may_be_frozen_and_its_variables_are_whole_again():
    x = listing()
    module = fusion(photo=Frozen(PHOTO), how="gated")
    _, variables = embed(module, x)
    assert variables["params"]["photo"] == {} and set(variables["params"]) == {"photo", "title", "joint"}
    together = whole(variables)
    assert jax.tree.structure(together["params"]["photo"]) == jax.tree.structure(embed(PHOTO, x.photo)[1]["params"])
    np.testing.assert_allclose(
        module.apply(variables, x, train=False), fusion(how="gated").apply(together, x, train=False), atol=1e-6
    )


def test_it_trains_as_the_encoder_of_metric_learning():
    method = MetricLearning(fusion(photo=Frozen(PHOTO)))
    batch = {"views": (listing(),), "label": jnp.array([0, 0, 1, 1])}
    params, aux = method.init(jax.random.PRNGKey(0), batch)
    tx = AdamW(lr=1e-3, layer_decay=0.9, head_lr=1e-2).build(10, method)

    grads, _ = jax.grad(method.loss, has_aux=True)(
        params, aux, batch, jax.random.PRNGKey(1), Progress(jnp.zeros((), jnp.int32), 10)
    )
    updates, _ = tx.update(grads, tx.init(params), params)
    assert np.abs(updates["encoder"]["title"]["embedding"]).max() > 0
    assert method.embed(params, aux, batch).shape == (BATCH, 64 + 6)


@pytest.mark.parametrize(
    ("fields", "x", "said"),
    [
        ({"photo": None, "title": None}, None, "leave nothing to embed"),
        ({"how": "gated", "photo": None}, None, "joins a photo and a title"),
        ({"how": "cross_attention", "heads": 3}, None, "heads=3 must divide width=16"),
        ({"how": "sum"}, None, "how='sum'"),
        ({}, jnp.zeros((2, 8, 8, 3)), "PhotoAndTitle"),
    ],
)
def test_what_does_not_suit_is_refused(fields, x, said):
    with pytest.raises(UserError, match=said):
        fusion(**fields).init(jax.random.PRNGKey(0), listing() if x is None else x, train=False)
