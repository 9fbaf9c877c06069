"""Encoders of titles with the weights of transformers' models, and of wordllama, give what those give."""

import csv
import functools
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from ssljax.data import TokenizerFile
from ssljax.data.titles import clean
from ssljax.models import BagOfTokens, Pretrained, TextTransformer
from ssljax.models.weights import names
from ssljax.models.weights.layouts import guess
from ssljax.models.weights.text import layout

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTHS = 120, ((9, 9, 9), (12, 5, 1), (3, 1, 2), (1,))
BERT = TextTransformer.bert().clone(vocabulary=VOCABULARY, depth=2)
XLM_R = TextTransformer.xlm_r().clone(vocabulary=VOCABULARY, depth=2)
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
CLIP = TextTransformer.clip().clone(vocabulary=VOCABULARY, width=64, depth=2, heads=1, projection=32)
SIGLIP = TextTransformer.siglip().clone(vocabulary=VOCABULARY, width=64, depth=2, heads=1, projection=64)


def randomized(model):
    """The model in evaluation mode, with noise: its own parameters would leave much at zero or one."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def of_hugging_face(model, config, **options):
    torch.manual_seed(0)
    config = getattr(transformers, config)(vocab_size=VOCABULARY, **options)
    return randomized(getattr(transformers, model)(config))


def tensors_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def converted(module, tensors):
    """Our variables; every tensor must be taken or known to be of no use."""
    flat, report = names.to_ours(layout(module), tensors)
    assert report.complete, report
    return unflatten_dict(flat, sep="/")


def titles(lengths, first=5, last=None):
    """Random ids i32[B, L] of these lengths, -1 after them."""
    rng = np.random.default_rng(0)
    ids = rng.integers(first, VOCABULARY - 1, (len(lengths), max(lengths))).astype(np.int32)
    if last is not None:
        ids[np.arange(len(ids)), np.array(lengths) - 1] = last
    return np.where(np.arange(ids.shape[1]) < np.array(lengths)[:, None], ids, -1)


def padded(ids, pad_token):
    ids, mask = torch.from_numpy(np.where(ids < 0, pad_token, ids)).long(), torch.from_numpy(ids >= 0)
    return {"input_ids": ids, "attention_mask": mask.long()}


def embed(module, variables, ids, method=None):
    return jax.jit(functools.partial(module.apply, train=False, method=method))(variables, ids)


BERTS = {
    "BERT": (BERT, "BertModel", "BertConfig", {"num_hidden_layers": 2}, 0),
    "BERT of a small width": (
        BERT.clone(width=384, heads=12),
        "BertModel",
        "BertConfig",
        {"num_hidden_layers": 2, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
        0,
    ),
    "XLM-R": (
        XLM_R,
        "XLMRobertaModel",
        "XLMRobertaConfig",
        {"num_hidden_layers": 2, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        1,
    ),
    "XLM-R with its head": (
        XLM_R.clone(width=64, heads=1),
        "XLMRobertaForMaskedLM",
        "XLMRobertaConfig",
        {**SMALL, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        1,
    ),
    "RoBERTa": (
        XLM_R.clone(width=1024, depth=1, heads=16),
        "RobertaModel",
        "RobertaConfig",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
        1,
    ),
    "DistilBERT": (BERT, "DistilBertModel", "DistilBertConfig", {"n_layers": 2}, 0),
}


@pytest.mark.parametrize("saved", [True, False], ids=["as-in-files", "as-in-memory"])
@pytest.mark.parametrize("name", BERTS)
def test_tokens_of_berts(name, saved, tmp_path):
    """And what is pooled: their mean, as sentence-transformers has it, or the first."""
    module, model, config, options, pad_token = BERTS[name]
    model = of_hugging_face(model, config, **options)
    tensors = tensors_of(model)
    if saved:
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
    assert guess(tensors) == module
    variables = converted(module, tensors)
    for lengths in LENGTHS:
        ids = titles(lengths)
        with torch.no_grad():
            body = getattr(model, "roberta", model)
            expected = body(**padded(ids, pad_token)).last_hidden_state.numpy()
        tokens, mask = embed(module, variables, ids, "tokens")
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(tokens[mask], expected[mask], atol=1e-4)
        means = np.stack([x[:n].mean(axis=0) for x, n in zip(expected, lengths, strict=True)])
        np.testing.assert_allclose(embed(module, variables, ids), means, atol=1e-4)
        np.testing.assert_allclose(embed(module.clone(pool="cls"), variables, ids), expected[:, 0], atol=1e-4)


def test_gradients():
    """Of the parameters, token types and positions together: torch's are brought into our order as they are."""
    module = XLM_R.clone(width=64, heads=1, length=16)
    options = {**SMALL, "max_position_embeddings": 18, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    model = of_hugging_face("XLMRobertaModel", "XLMRobertaConfig", add_pooling_layer=False, **options)
    ids = titles((7, 3, 1))
    inputs = padded(ids, 1)
    states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
    ((states * mask).sum(1) / mask.sum(1)).pow(3).mean().backward()
    gradients = {name: x.grad.numpy() for name, x in model.named_parameters() if x.grad is not None}
    gradients["embeddings.token_type_embeddings.weight"] *= 0  # ours are part of the positions
    expected = converted(module, gradients)

    @jax.jit
    def loss(variables):
        return (module.apply(variables, ids, train=False) ** 3).mean()

    ours = jax.grad(loss)(converted(module, tensors_of(model)))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 0.1
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), ours, expected)


@pytest.mark.parametrize("act, feed_forward", [("quick_gelu", "gelu_sigmoid"), ("gelu", "gelu")])
def test_the_text_tower_of_clip(act, feed_forward):
    end = VOCABULARY - 1
    options = {**SMALL, "projection_dim": 32, "hidden_act": act, "eos_token_id": end, "max_position_embeddings": 77}
    model = of_hugging_face("CLIPTextModelWithProjection", "CLIPTextConfig", **options)
    module, tensors = CLIP.clone(feed_forward=feed_forward), tensors_of(model)
    assert guess(tensors) == CLIP
    for lengths in LENGTHS:
        ids = titles(lengths, last=end)
        with torch.no_grad():
            expected = model(**padded(ids, end)).text_embeds.numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(embed(module, converted(module, tensors), ids), expected, atol=1e-4)


def test_the_text_towers_of_whole_models():
    """Beside the towers of photos, with published names."""
    text, photos = {**SMALL, "vocab_size": VOCABULARY}, {**SMALL, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    config = transformers.SiglipConfig(text_config=text, vision_config=photos)
    model = randomized(transformers.SiglipModel(config))
    tensors, ids = tensors_of(model), titles((9, 3, 64))
    variables = converted(SIGLIP, tensors)
    with torch.no_grad():
        whole = torch.from_numpy(np.pad(ids, ((0, 0), (0, 64 - ids.shape[1])), constant_values=-1))
        expected = model.text_model(input_ids=torch.where(whole < 0, 1, whole).long()).pooler_output.numpy()
    np.testing.assert_allclose(embed(SIGLIP, variables, ids), expected, atol=1e-4)
    np.testing.assert_allclose(embed(SIGLIP, variables, ids[:2, :9]), expected[:2], atol=1e-4)
    config = transformers.CLIPConfig(text_config=text, vision_config=photos, projection_dim=32)
    tensors = tensors_of(transformers.CLIPModel(config))
    _, report = names.to_ours(layout(CLIP), tensors)
    assert report.complete and len(report.matched) == 4 + 1 + 2 * 16, report
    text_alone = {name: x for name, x in tensors.items() if not name.startswith("vision_model.")}
    assert guess(text_alone) == CLIP


@pytest.mark.parametrize(
    "module, model, config",
    [
        (TextTransformer.siglip(), "SiglipTextModel", "SiglipTextConfig"),
        (TextTransformer.clip(), "CLIPTextModelWithProjection", "CLIPTextConfig"),
    ],
)
def test_published_towers_have_as_many_parameters(module, model, config):
    with torch.device("meta"):
        theirs = getattr(transformers, model)(getattr(transformers, config)())
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), titles((3,)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == sum(x.numel() for x in theirs.parameters())


def texts(count):
    """Titles of Fashion, and some that try a tokenizer."""
    path = Path(os.environ["SSLJAX_DATA"], "fashion", "styles.csv")
    with open(path, encoding="utf-8") as file:
        rows = [row["productDisplayName"] for row in csv.DictReader(file) if row["productDisplayName"]]
    return [*rows[: count - 4], "Röd klänning", "👗 red dress 500 g", "لباس أحمر", "?"]


@pytest.mark.real_data("fashion")
def test_wordllama():
    """Its own code gives the mean, not normalised; its loader looks for the tokenizer in a folder it does not have."""
    inference, tokenizers = (pytest.importorskip(name) for name in ("wordllama.inference", "tokenizers"))
    folder = Path(inference.__file__).parent
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    table = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    some = [clean(title) for title in texts(500)]
    expected = inference.WordLlamaInference(table, tokenizer).embed(some)
    file = TokenizerFile("package:wordllama", special_tokens=False)
    ids = file.reader(file.learn([]))(some, 64)
    assert (ids[:, -1] == -1).all()  # no title is cut short
    module = Pretrained(BagOfTokens(32000, 256), "package:wordllama")
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.PRNGKey(0), ids[:1])
    assert table.dtype == np.float16 and np.abs(expected).max() > 1
    np.testing.assert_allclose(embed(module, variables, ids), expected, rtol=1e-5, atol=1e-5)
