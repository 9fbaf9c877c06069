"""Encoders of titles: published sizes, padding, empty titles, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ssljax.config import from_json, public_classes, resolved
from ssljax.models import BagOfTokens, Frozen, TextTransformer
from ssljax.sharding import batch_sharding, make_mesh, state_sharding
from ssljax.types import UserError

TINY = TextTransformer(vocabulary=40, width=16, depth=2, heads=2, length=8)
ENCODERS = {
    "pre-norm": TINY,
    "bert": TINY.clone(post_norm=True, pool="cls", epsilon=1e-12),
    "xlm-r": TINY.clone(post_norm=True, position_offset=2, epsilon=1e-5),
    "clip": TINY.clone(causal=True, pool="last", projection=12, feed_forward="gelu_sigmoid"),
    "siglip": TINY.clone(pad_token=1, pool="last", projection=12, projection_bias=True, feed_forward="gelu_tanh"),
    "bag": BagOfTokens(40, 16),
    "weighted": BagOfTokens(40, 16, weighted=True),
}
TITLES = np.array([[3, 9, 4, -1, -1], [5, -1, -1, -1, -1], [-1] * 5, [1, 2, 3, 4, 5]], np.int32)
EMPTY = 2
each = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=list(ENCODERS))


@functools.cache
def variables(encoder):
    """Initial variables with noise: scales and biases too are not at one or zero."""
    v = jax.device_get(jax.jit(functools.partial(encoder.init, train=False))(jax.random.PRNGKey(0), TITLES))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), v)


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def embed(encoder, v, ids, method=None):
    return encoder.apply(v, ids, train=False, method=method)


@functools.partial(jax.jit, static_argnums=0)
def gradient(encoder, v, ids):
    rngs = {"drop_path": jax.random.PRNGKey(1)}
    return jax.grad(lambda v: (encoder.apply(v, ids, train=True, rngs=rngs) ** 3).mean())(v)


def parameters(encoder, tokens=8):
    ids = jax.ShapeDtypeStruct((2, tokens), jnp.int32)
    shapes = jax.eval_shape(functools.partial(encoder.init, train=True), jax.random.PRNGKey(0), ids)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


# transformers' models; ours has no `types`, the rows of token types: the one that is used is added to the positions
@pytest.mark.parametrize(
    "encoder, types, pooler, count",
    [
        (TextTransformer.bert(), 2, True, 109_482_240),
        (TextTransformer.bert("large"), 2, True, 335_141_888),
        (TextTransformer.bert(vocabulary=119547), 2, True, 177_853_440),
        (TextTransformer.xlm_r(), 1, True, 278_043_648),
        (TextTransformer.xlm_r("large"), 1, True, 559_890_432),
        (TextTransformer.xlm_r(vocabulary=50265), 1, True, 124_645_632),
        (TextTransformer.minilm(), 2, True, 22_713_216),
        (TextTransformer.e5_small(), 2, True, 117_653_760),
        (TextTransformer.clip(), 0, False, 63_428_096),
        (TextTransformer.clip(768), 0, False, 123_650_304),
        (TextTransformer.siglip(), 0, False, 110_271_744),
        (TextTransformer.siglip(256000), 0, False, 282_303_744),
    ],
)
def test_published_numbers_of_parameters(encoder, types, pooler, count):
    width = encoder.width
    assert parameters(encoder) + types * width + pooler * (width + 1) * width == count


@each
def test_results_are_float32_and_as_long_as_they_say(encoder):
    encoder = encoder.clone(dtype="bfloat16") if hasattr(encoder, "dtype") else encoder
    y = embed(encoder, variables(encoder), TITLES)
    tokens, mask = embed(encoder, variables(encoder), TITLES, method="tokens")
    assert y.shape == (4, encoder.features) and tokens.shape == (4, 5, 16)
    assert y.dtype == tokens.dtype == jnp.float32
    np.testing.assert_array_equal(mask, TITLES >= 0)
    assert not np.any(tokens[~mask]) and np.abs(tokens[mask]).min(axis=1).max() > 0


@each
def test_an_empty_title_gives_zeros_and_finite_gradients(encoder):
    y = embed(encoder, variables(encoder), TITLES)
    np.testing.assert_array_equal(np.any(y, axis=1), np.arange(4) != EMPTY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(encoder, variables(encoder), TITLES)))
    alone = gradient(encoder, variables(encoder), TITLES[[EMPTY]])
    assert not any(map(np.any, jax.tree.leaves(alone)))


@each
def test_more_padding_changes_nothing_and_titles_are_independent(encoder):
    v = variables(encoder)
    y, longer = embed(encoder, v, TITLES), np.pad(TITLES, ((0, 0), (0, 3)), constant_values=-1)
    np.testing.assert_allclose(embed(encoder, v, longer), y, atol=1e-5)
    np.testing.assert_allclose(embed(encoder, v, TITLES[:1, :3]), y[:1], atol=1e-5)
    tokens = embed(encoder, v, TITLES, method="tokens")[0]
    np.testing.assert_allclose(embed(encoder, v, longer, method="tokens")[0][:, :5], tokens, atol=1e-5)


@each
def test_the_order_of_words_matters_but_to_a_bag(encoder):
    y, reversed_ = (embed(encoder, variables(encoder), ids) for ids in (TITLES[3:], TITLES[3:, ::-1]))
    assert (np.abs(y - reversed_).max() > 1e-3) == isinstance(encoder, TextTransformer)


@each
def test_gradients_reach_all(encoder):
    found = jax.tree_util.tree_leaves_with_path(gradient(encoder, variables(encoder), TITLES)["params"])
    for path, leaf in found:
        keys = path[-2:] == (jax.tree_util.DictKey("key"), jax.tree_util.DictKey("bias"))  # softmax does not see it
        assert keys or np.any(leaf), path


def test_pooling():
    v = variables(TINY)
    tokens, mask = embed(TINY, v, TITLES, method="tokens")
    last = tokens[np.arange(4), np.maximum(mask.sum(axis=1) - 1, 0)]
    for pool, expected in {"cls": tokens[:, 0], "last": last}.items():
        np.testing.assert_allclose(embed(TINY.clone(pool=pool), v, TITLES), expected, atol=1e-6)
    mean = tokens.sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(embed(TINY, v, TITLES), mean, atol=1e-6)


def test_a_causal_token_does_not_see_what_follows():
    encoder, changed = ENCODERS["clip"], TITLES[3:].copy()
    changed[0, 3] = 30
    a, b = (embed(encoder, variables(encoder), ids, method="tokens")[0][0] for ids in (TITLES[3:], changed))
    np.testing.assert_array_equal(np.abs(a - b).max(axis=1) > 1e-3, [False, False, False, True, True])


def test_a_bag_is_the_mean_of_its_tokens():
    table = variables(ENCODERS["bag"])["params"]["tokens"]
    y = embed(ENCODERS["bag"], variables(ENCODERS["bag"]), TITLES)
    np.testing.assert_allclose(y[0], table[[3, 9, 4]].mean(axis=0), rtol=1e-5)
    v = variables(ENCODERS["weighted"])["params"]
    expected = np.average(v["tokens"][[3, 9, 4]], axis=0, weights=np.exp(v["log_weights"][[3, 9, 4]]))
    np.testing.assert_allclose(embed(ENCODERS["weighted"], {"params": v}, TITLES)[0], expected, rtol=1e-5)


def test_a_bag_computes_no_product_with_its_vocabulary():
    bag = BagOfTokens(2**14, 32)
    shapes = jax.eval_shape(functools.partial(bag.init, train=False), jax.random.PRNGKey(0), TITLES)

    def flops(f):
        return jax.jit(f).lower(shapes, TITLES).compile().cost_analysis()["flops"]

    forward = functools.partial(bag.apply, train=False)
    assert flops(forward) < 10 * TITLES.size * 32
    backward = jax.grad(lambda v, ids: (forward(v, ids) ** 2).sum())
    assert flops(backward) < 10 * TITLES.size * 32 + 2 * 2**14 * 32  # zeros where the gradient is gathered


@pytest.mark.parametrize("name", ["pre-norm", "bert", "clip"])
@pytest.mark.parametrize("options", [{"remat": "block"}, {"remat": "dots", "scan": True}, {"scan": True}])
def test_neither_remat_nor_a_loop_changes_anything(name, options):
    encoder = ENCODERS[name].clone(drop_path=0.5)
    v = variables(encoder)
    plain, other = (gradient(e, v, TITLES) for e in (encoder, encoder.clone(**options)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), plain, other)


def test_bfloat16_is_near_float32():
    for encoder in (ENCODERS["bert"], ENCODERS["clip"]):
        exact, near = (embed(e, variables(encoder), TITLES) for e in (encoder, encoder.clone(dtype="bfloat16")))
        assert np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("encoder", [ENCODERS["xlm-r"].clone(vocabulary=2**13), BagOfTokens(2**13, 16)])
def test_one_device_is_eight_devices_and_a_large_table_may_be_split(encoder, shards):
    mesh, titles = make_mesh(shards), np.tile(TITLES, (4, 1)) * 100
    v, titles = variables(encoder), np.where(titles < 0, -1, titles)
    placed = jax.device_put(v, state_sharding(mesh, v))
    table = placed["params"]["tokens"]
    assert table.sharding.shard_shape(table.shape) == (2**13 // shards, 16)
    spread = gradient(encoder, placed, jax.device_put(titles, batch_sharding(mesh)))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, spread, gradient(encoder, v, titles))
    rows = NamedSharding(mesh, PartitionSpec("shard"))
    y = embed(encoder, placed, jax.device_put(titles, rows))
    np.testing.assert_allclose(y, embed(encoder, v, titles), atol=1e-5)


def test_the_last_block_alone_may_learn():
    encoder = Frozen(ENCODERS["clip"], but_last=1)
    v = encoder.init(jax.random.PRNGKey(0), TITLES, train=False)
    assert set(v["params"]) == {"block2", "norm", "projection"}
    tokens, _ = encoder.apply(v, TITLES, train=True, method="tokens")
    whole = {"params": v["params"] | v["batch_stats"]["frozen"]}
    np.testing.assert_allclose(tokens, embed(ENCODERS["clip"], whole, TITLES, method="tokens")[0], atol=1e-5)


def test_they_are_in_a_runs_config():
    assert {"BagOfTokens", "TextTransformer"} <= public_classes().keys()
    for encoder in (TextTransformer.xlm_r(), ENCODERS["weighted"]):
        assert from_json(resolved(encoder)) == encoder


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (TINY.clone(vocabulary=0), "^vocabulary=0"),
        (TINY.clone(depth=0), "^depth=0"),
        (TINY.clone(heads=3), "^heads=3 does not divide the width of 16"),
        (TINY.clone(hidden=0), "^hidden=0"),
        (TINY.clone(projection=0), "^projection=0"),
        (TINY.clone(length=4), "^length=4 is less than the 5 tokens of a title"),
        (TINY.clone(position_offset=-1), "^position_offset=-1"),
        (TINY.clone(pad_token=40), "^pad_token=40 is not in the vocabulary of 40 tokens"),
        (TINY.clone(pool="max"), "^pool=max is unknown: choose cls, mean or last"),
        (TINY.clone(feed_forward="relu"), "^feed_forward=relu is unknown: choose one of gelu, "),
        (TINY.clone(remat="all"), "^remat=all"),
        (BagOfTokens(40, 0), "^dim=0"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        parameters(encoder, 5)
