"""Weights of encoders of titles: names of all dialects, what they look like, and what does not fit."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from ssljax.cli.main import run as ssljax
from ssljax.config import resolved
from ssljax.data import TokenizerFile
from ssljax.models import BagOfTokens, Pretrained, TextTransformer, says_preprocessing
from ssljax.models.weights.layouts import guess, layout_of
from ssljax.models.weights.names import to_ours, to_timm
from ssljax.training.export import start_of
from ssljax.types import UserError

TINY = TextTransformer(vocabulary=40, width=64, depth=2, heads=1, length=8)
BERT = TINY.clone(post_norm=True, epsilon=1e-12)
XLM_R = BERT.clone(epsilon=1e-5, position_offset=2)
CLIP = TINY.clone(causal=True, pool="last", projection=12, feed_forward="gelu_sigmoid", epsilon=1e-5)
SIGLIP = TINY.clone(pad_token=1, pool="last", projection=12, projection_bias=True, feed_forward="gelu_tanh")
BAG = BagOfTokens(40, 16)
MODULES = {"bert": BERT, "xlm-r": XLM_R, "clip": CLIP, "siglip": SIGLIP, "bag": BAG}
IDS = jnp.array([[1, 2, -1]])
TYPES = "embeddings.token_type_embeddings.weight"


@functools.cache
def variables(module):
    init = functools.partial(module.init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.PRNGKey(0), IDS), sep="/")
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=x.shape).astype(np.float32) for name, x in shapes.items()}


def tensors_of(module):
    """Under the names of Hugging Face's BERT, or of a static embedding."""
    tensors = to_timm(layout_of(module), variables(module))
    if isinstance(module, BagOfTokens) or not module.post_norm:
        return tensors
    return tensors | {TYPES: np.zeros((1 if module.position_offset else 2, 64), np.float32)}


def begin(module, path):
    return jax.eval_shape(lambda: Pretrained(module, str(path)).init(jax.random.PRNGKey(0), IDS, train=False))


@pytest.fixture
def saved(tmp_path):
    """Writes tensors, and what lies beside them, as a model on the hub has them: the file's path."""

    def save(tensors, config=None, pooling=None):
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, tmp_path / "model.safetensors")
        (tmp_path / "1_Pooling").mkdir(exist_ok=True)
        for name, said in {"config.json": config, "1_Pooling/config.json": pooling}.items():
            if said is not None:
                (tmp_path / name).write_text(json.dumps(said))
        return str(tmp_path / "model.safetensors")

    return save


@pytest.mark.parametrize("name", MODULES)
def test_variables_come_back_and_look_like_the_module(name):
    module = MODULES[name]
    tensors = tensors_of(module)
    ours, report = to_ours(layout_of(module), tensors)
    assert report.complete
    jax.tree.map(np.testing.assert_array_equal, ours, variables(module))
    assert guess(tensors) == module


@pytest.mark.parametrize(
    "module",
    [
        TextTransformer.bert(),
        TextTransformer.bert("large"),
        TextTransformer.xlm_r(),
        TextTransformer.xlm_r("large"),
        TextTransformer.minilm(),
        TextTransformer.e5_small(),
        TextTransformer.clip(),
        TextTransformer.clip(768),
        TextTransformer.siglip(),
        TextTransformer.siglip(256000).clone(pad_token=0),
        BagOfTokens(32000, 64),
    ],
)
def test_a_file_says_which_published_encoder_it_is_of(module):
    init = functools.partial(module.init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.PRNGKey(0), IDS), sep="/")
    zeros = {name: np.broadcast_to(np.float32(0), x.shape) for name, x in shapes.items()}
    entries = layout_of(module).entries
    tensors = {entry.theirs: entry.to_theirs([zeros[name] for name in entry.ours]) for entry in entries}
    if getattr(module, "post_norm", False):
        tensors[TYPES] = np.zeros((1 if module.position_offset else 2, module.width))
    assert guess(tensors) == module


def renamed(tensors, *rules):
    names = {}
    for name in tensors:
        names[name] = name
        for pattern, replacement in rules:
            names[name] = re.sub(pattern, replacement, names[name])
    return {new: tensors[old] for old, new in names.items()}


DISTILBERT = (
    (r"^", "distilbert."),
    (r"encoder\.layer", "transformer.layer"),
    (r"attention\.self\.(.)\w+", r"attention.\1_lin"),
    (r"attention\.output\.dense", "attention.out_lin"),
    (r"attention\.output\.LayerNorm", "sa_layer_norm"),
    (r"\.output\.LayerNorm", ".output_layer_norm"),
    (r"intermediate\.dense", "ffn.lin1"),
    (r"output\.dense", "ffn.lin2"),
)
TOWER = (
    (r"^(?!projection)", "text_model."),
    (r"embeddings\.word_embeddings", "embeddings.token_embedding"),
    (r"position_embeddings", "position_embedding"),
    (r"encoder\.layer", "encoder.layers"),
    (r"attention\.self\.(.)\w+", r"self_attn.\1_proj"),
    (r"attention\.output\.dense", "self_attn.out_proj"),
    (r"attention\.output\.LayerNorm", "layer_norm1"),
    (r"\.output\.LayerNorm", ".layer_norm2"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
)
DIALECTS = {
    "with a head": (XLM_R, ((r"^", "roberta."),), ("lm_head.dense.weight", "roberta.pooler.dense.bias")),
    "sentence-transformers": (BERT, ((r"^", "0.auto_model."),), ("0.auto_model.embeddings.position_ids",)),
    "the first BERTs": (
        BERT,
        ((r"^", "bert."), (r"Norm\.weight", "Norm.gamma"), (r"Norm\.bias", "Norm.beta")),
        ("cls.predictions.bias",),
    ),
    "DistilBERT": (BERT, DISTILBERT, ("vocab_transform.weight",)),
    "CLIP": (CLIP, (*TOWER, (r"^projection", "text_projection")), ("logit_scale", "vision_model.post_layernorm.bias")),
    "SigLIP": (SIGLIP, (*TOWER, (r"^projection", "text_model.head")), ("logit_bias", "vision_model.head.probe")),
    "Model2Vec": (BAG, ((r"embedding\.weight", "embeddings"),), ()),
    "StaticEmbedding": (BAG, ((r"^", "0."),), ()),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_names_of_others(name):
    module, rules, others = DIALECTS[name]
    theirs = renamed(tensors_of(module), *rules)
    ours, report = to_ours(layout_of(module), theirs | {other: np.zeros(1, np.float32) for other in others})
    assert report.complete and len(report.ignored) == len(others), report
    jax.tree.map(np.testing.assert_array_equal, ours, variables(module))
    assert guess(theirs) == module
    unknown = to_ours(layout_of(module), theirs | {"encoder.layer.1.adapter.weight": np.zeros(1, np.float32)})[1]
    assert unknown.unknown == ("encoder.layer.1.adapter.weight",)


OPEN_CLIP = (
    (r"embeddings\.word_embeddings", "token_embedding"),
    (r"embeddings\.position_embeddings\.weight", "positional_embedding"),
    (r"encoder\.layer", "transformer.resblocks"),
    (r"attention\.self\.query\.", "attn.in_proj_"),
    (r"attention\.output\.dense", "attn.out_proj"),
    (r"attention\.output\.LayerNorm", "ln_1"),
    (r"\.output\.LayerNorm", ".ln_2"),
    (r"intermediate\.dense", "mlp.c_fc"),
    (r"output\.dense", "mlp.c_proj"),
    (r"final_layer_norm", "ln_final"),
    (r"^projection", "text_projection"),
)


@pytest.mark.parametrize("module, prefix", [(CLIP, ""), (SIGLIP, "text.")])
def test_names_of_open_clip(module, prefix):
    """One tensor for queries, keys and values; and CLIP's projection has its axes the other way round."""
    tensors = tensors_of(module)
    for name in [name for name in tensors if ".query." in name]:
        parts = [name, *(name.replace("query", part) for part in ("key", "value"))]
        tensors[name] = np.concatenate([tensors.pop(part) for part in parts])
    theirs = renamed(tensors, *OPEN_CLIP)
    if module is CLIP:
        theirs["text_projection"] = theirs.pop("text_projection.weight").T
    theirs = {prefix + name: x for name, x in theirs.items()} | {"visual.conv1.weight": np.ones(1, np.float32)}
    ours, report = to_ours(layout_of(module), theirs)
    assert report.complete and report.ignored == ("visual.conv1.weight",), report
    jax.tree.map(np.testing.assert_array_equal, ours, variables(module))
    assert guess(theirs) == module


def test_the_first_token_type_is_part_of_the_positions():
    types = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    ours, _ = to_ours(layout_of(BERT), tensors_of(BERT) | {TYPES: types})
    np.testing.assert_allclose(ours["params/positions"], variables(BERT)["params/positions"] + types[0])


def test_half_precision_becomes_float32_and_weights_of_tokens_begin_as_one(saved):
    half = {"embedding.weight": variables(BAG)["params/tokens"].astype(np.float16)}
    weighted = Pretrained(BagOfTokens(40, 16, weighted=True), saved(half))
    v = weighted.init(jax.random.PRNGKey(0), IDS, train=False)
    assert v["params"]["tokens"].dtype == jnp.float32
    expected = half["embedding.weight"][[1, 2]].astype(np.float32).mean(axis=0)
    np.testing.assert_allclose(weighted.apply(v, IDS, train=False)[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(v["params"]["log_weights"], np.zeros(40))


@pytest.mark.parametrize(
    "module, other, sentence",
    [
        (
            BERT.clone(vocabulary=30),
            BERT,
            "they have a vocabulary of 40 tokens, and not of 30; they look like those of",
        ),
        (BagOfTokens(30, 16), BAG, "they have a vocabulary of 40 tokens, and not of 30"),
        (BagOfTokens(40, 8), BAG, "encoder/params/tokens is of shape (40, 16) there and (40, 8) here"),
        (BERT.clone(length=7), BERT, "they have 8 positions, and not the 0 + 7 of position_offset=0 and length=7"),
        (XLM_R.clone(position_offset=0), XLM_R, "they have 10 positions, and not the 0 + 8 of"),
        (BERT.clone(depth=1), BERT, "16 tensors are unknown (encoder.layer.1."),
        (BERT, BAG, "they look like those of BagOfTokens(vocabulary=40, dim=16)"),
        (BAG, BERT, "they look like those of TextTransformer(vocabulary=40, width=64, depth=2, heads=1, length=8, "),
        (CLIP.clone(projection=None), CLIP, "1 tensor is unknown (projection.weight)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(saved, module, other, sentence):
    with pytest.raises(UserError) as error:
        begin(module, saved(tensors_of(other)))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "module, config, sentence",
    [
        (BERT, {"model_type": "bert", "layer_norm_eps": 1e-12, "num_attention_heads": 1, "hidden_act": "gelu"}, ""),
        (XLM_R, {"model_type": "xlm-roberta", "pad_token_id": 1, "layer_norm_eps": 1e-5}, ""),
        (CLIP, {"text_config": {"hidden_act": "quick_gelu"}, "vision_config": {"hidden_act": "gelu"}}, ""),
        (CLIP, {"text_config": {"hidden_act": "gelu"}}, "are of TextTransformer("),
        (BERT, {"layer_norm_eps": 1e-5}, "epsilon=1e-05"),
        (BERT, {"num_attention_heads": 2}, "heads=2"),
        (BERT.clone(length=6, position_offset=2), {"model_type": "bert"}, "are of TextTransformer("),
        (BERT, {"hidden_act": "relu"}, "says hidden_act=relu, which TextTransformer does not have"),
        (BERT, {"position_embedding_type": "relative_key"}, "position_embedding_type=relative_key"),
    ],
)
def test_what_is_said_beside_the_file_is_heeded(saved, module, config, sentence):
    path = saved(tensors_of(module), config)
    if not sentence:
        begin(module, path)
        return
    with pytest.raises(UserError) as error:
        begin(module, path)
    assert sentence in str(error.value)


def test_they_have_nothing_to_do_with_how_photos_are_prepared(saved, tmp_path):
    path = saved(tensors_of(SIGLIP))
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(half))
    begin(SIGLIP, path)
    assert not says_preprocessing(Pretrained(SIGLIP, path))


@pytest.mark.parametrize("kind, pool", [("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last")])
def test_import_takes_the_pooling_that_is_said(saved, capsys, kind, pool):
    path = saved(
        tensors_of(BERT), {"model_type": "bert"}, {f"pooling_mode_{kind}": True, "word_embedding_dimension": 64}
    )
    assert ssljax(["import", path]) == 0
    out = capsys.readouterr().out
    assert ("pool=" in out) == (pool != "mean") and (pool == "mean" or f"pool='{pool}'" in out)
    begin(BERT, path)  # another pooling is not refused: it is no part of the weights


def test_import_writes_our_own_file(saved, capsys, tmp_path):
    path, own = saved(tensors_of(XLM_R), {"model_type": "xlm-roberta"}), tmp_path / "own.safetensors"
    assert ssljax(["import", path, "-o", str(own), "--license", "MIT"]) == 0
    said = capsys.readouterr()
    assert "on titles alone" in said.err and "bilinear" not in said.err
    exec(said.out[said.out.index("from ssljax") :], scope := {})
    config = scope["config"]
    assert config.titles.tokenizer == TokenizerFile(str(tmp_path / "tokenizer.json"))
    assert start_of(resolved(config)) == "imported"
    v = scope["encoder"].init(jax.random.PRNGKey(0), IDS, train=False)
    flat = flatten_dict(v, sep="/")
    jax.tree.map(np.testing.assert_array_equal, flat, variables(XLM_R))
    with pytest.raises(UserError, match="epsilon=1e-05"):
        begin(XLM_R.clone(epsilon=1e-12), own)


def test_import_asks_which_gelu_a_clip_has(saved, capsys):
    assert ssljax(["import", saved(tensors_of(CLIP))]) == 2
    said = "".join(capsys.readouterr().err.split())
    assert "doesnotsaywhichitisof" in said and "feed_forward='gelu_sigmoid'" in said
