"""Encoders of titles: BERT, RoBERTa, XLM-R, DistilBERT, the text towers of CLIP and SigLIP, and static embeddings.

Transformers are renamed to Hugging Face's BERT, and bags of tokens to sentence-transformers' StaticEmbedding.
"""

import functools

import numpy as np

from ssljax.models.text import BagOfTokens, TextTransformer
from ssljax.models.weights.names import Entry, Layout, Rules, Tensors, linear, norm, rename
from ssljax.types import UserError

_PHOTOS = ("vision_model.", "visual_projection.", "visual.")  # the other tower of CLIP and SigLIP
_IGNORED = (
    r"(pooler|cls|lm_head|classifier|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector)\..*",
    r"embeddings\.(position_ids|token_type_ids)",
    *(rf"{prefix}.*" for prefix in _PHOTOS),
    "logit_scale|logit_bias|attn_mask",
)
_RULES: Rules = (
    (r"^(?:0\.auto_model|0\.model|model)\.", ""),  # sentence-transformers' own state
    (r"^(?:bert|roberta|distilbert|text_model|text)\.", ""),
    (r"\.gamma$", ".weight"),  # of the first BERTs
    (r"\.beta$", ".bias"),
    # DistilBERT, and CLIP and SigLIP, whose norms come before what they come after here
    (r"^embeddings\.token_embedding\.", "embeddings.word_embeddings."),
    (r"^embeddings\.position_embedding\.", "embeddings.position_embeddings."),
    (r"^(?:transformer\.layer|encoder\.layers)\.", "encoder.layer."),
    (r"\.(?:attention\.q_lin|self_attn\.q_proj)\.", ".attention.self.query."),
    (r"\.(?:attention\.k_lin|self_attn\.k_proj)\.", ".attention.self.key."),
    (r"\.(?:attention\.v_lin|self_attn\.v_proj)\.", ".attention.self.value."),
    (r"\.(?:attention\.out_lin|self_attn\.out_proj)\.", ".attention.output.dense."),
    (r"\.(?:sa_layer_norm|layer_norm1)\.", ".attention.output.LayerNorm."),
    (r"\.(?:output_layer_norm|layer_norm2)\.", ".output.LayerNorm."),
    (r"\.(?:ffn\.lin1|mlp\.fc1)\.", ".intermediate.dense."),
    (r"\.(?:ffn\.lin2|mlp\.fc2)\.", ".output.dense."),
    (r"^(?:text_projection|head)\.", "projection."),
    # open_clip, and OpenAI's own CLIP
    (r"^token_embedding\.", "embeddings.word_embeddings."),
    (r"^positional_embedding$", "embeddings.position_embeddings.weight"),
    (r"^transformer\.resblocks\.", "encoder.layer."),
    (r"\.ln_1\.", ".attention.output.LayerNorm."),
    (r"\.ln_2\.", ".output.LayerNorm."),
    (r"\.attn\.out_proj\.", ".attention.output.dense."),
    (r"\.mlp\.c_fc\.", ".intermediate.dense."),
    (r"\.mlp\.c_proj\.", ".output.dense."),
    (r"^ln_final\.", "final_layer_norm."),
)
_WORDS, _POSITIONS, _TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_STATIC = "embedding.weight"
_ATTENTION = ("query", "key", "value")


def layout(module: TextTransformer | BagOfTokens) -> Layout:
    """The tensors of an encoder of titles of these settings."""
    if isinstance(module, BagOfTokens):
        return Layout((_static(module),), (), (_static_names,))
    positions = functools.partial(_check_positions, module)
    entries = [_words(_WORDS, module), Entry(_POSITIONS, ("params/positions",), positions, lambda xs: xs[0])]
    entries += norm("embeddings.LayerNorm", "embedding_norm") if module.post_norm else norm("final_layer_norm", "norm")
    for i in range(module.depth):
        entries += _block(f"encoder.layer.{i}", f"block{i + 1}")
    if module.projection is not None:
        entries += linear("projection", "projection")[: 1 + module.projection_bias]
    return Layout(tuple(entries), _IGNORED, (_with_token_type,))


def _block(theirs: str, ours: str) -> list[Entry]:
    entries = [*linear(f"{theirs}.attention.output.dense", f"{ours}/attention/out")]
    for part in _ATTENTION:
        entries += linear(f"{theirs}.attention.self.{part}", f"{ours}/attention/{part}")
    return [
        *entries,
        *norm(f"{theirs}.attention.output.LayerNorm", f"{ours}/norm1"),
        *linear(f"{theirs}.intermediate.dense", f"{ours}/feed_forward/linear1"),
        *linear(f"{theirs}.output.dense", f"{ours}/feed_forward/linear2"),
        *norm(f"{theirs}.output.LayerNorm", f"{ours}/norm2"),
    ]


def _words(theirs: str, module: TextTransformer | BagOfTokens) -> Entry:
    def to_ours(x: np.ndarray) -> tuple[np.ndarray]:
        if x.shape[0] != module.vocabulary:
            raise UserError(f"they have a vocabulary of {x.shape[0]} tokens, and not of {module.vocabulary}")
        return (x,)

    return Entry(theirs, ("params/tokens",), to_ours, lambda xs: xs[0])


def _check_positions(module: TextTransformer, x: np.ndarray) -> tuple[np.ndarray]:
    if x.shape[0] != module.position_offset + module.length:
        raise UserError(
            f"they have {x.shape[0]} positions, and not the {module.position_offset} + {module.length} of "
            f"position_offset={module.position_offset} and length={module.length}"
        )
    return (x,)


def _static(module: BagOfTokens) -> Entry:
    """Weights of tokens are in no file: they begin as 1."""
    entry = _words(_STATIC, module)
    if not module.weighted:
        return entry
    ours = (*entry.ours, "params/log_weights")
    return Entry(_STATIC, ours, lambda x: (*entry.to_ours(x), np.zeros(len(x))), lambda xs: xs[0])


def _static_names(tensors: Tensors) -> Tensors:
    """Of sentence-transformers' StaticEmbedding and wordllama, which have one name, and of Model2Vec."""
    return rename(tensors, ((r"^(?:0\.)?embedding\.weight$", _STATIC), (r"^embeddings$", _STATIC)))


def _bert_names(tensors: Tensors) -> Tensors:
    own = {name: x for name, x in tensors.items() if not name.startswith(_PHOTOS)}
    named = dict(rename(own, _RULES))
    if "text_projection" in named:  # open_clip's, as a product from the right
        named["projection.weight"] = named.pop("text_projection").T
    for name in [name for name in named if ".attn.in_proj_" in name]:
        block, _, kind = name.partition(".attn.in_proj_")
        parts = zip(_ATTENTION, np.split(named.pop(name), 3), strict=True)
        named |= {f"{block}.attention.self.{part}.{kind}": x for part, x in parts}
    return named | {name: x for name, x in tensors.items() if name not in own}


def _with_token_type(tensors: Tensors) -> Tensors:
    """The first token type, which all tokens of a title have, is added to the positions."""
    tensors = dict(_bert_names(tensors))
    if _TYPES in tensors and _POSITIONS in tensors:
        types, positions = tensors.pop(_TYPES), tensors[_POSITIONS]
        tensors[_POSITIONS] = positions.astype(np.float32) + types[:1].astype(np.float32)
    return tensors


def guess(tensors: Tensors) -> TextTransformer | BagOfTokens | None:
    """The encoder of titles of which these look like the weights, if any.

    Not in the tensors are the number of heads and the norms' epsilon, which are the published ones of that width, the
    kind of GELU, and which token is the result: the mean, or in CLIP and SigLIP the last.
    """
    static = _static_names(tensors)
    if set(static) == {_STATIC} and static[_STATIC].ndim == 2:
        return BagOfTokens(*static[_STATIC].shape)
    tensors = _bert_names(tensors)
    sizes = {name: x.shape for name, x in tensors.items()}
    query, first = "encoder.layer.0.attention.self.query.weight", "encoder.layer.0.intermediate.dense.weight"
    if any(len(sizes.get(name, ())) != 2 for name in (_WORDS, _POSITIONS, query, first)):
        return None
    (vocabulary, width), (length, _), hidden = sizes[_WORDS], sizes[_POSITIONS], sizes[first][0]
    depth = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
    found = TextTransformer(
        vocabulary, width, depth, _heads(width), None if hidden == 4 * width else hidden, length, pool="last"
    )
    if "projection.weight" in sizes:
        found = found.clone(projection=len(tensors["projection.weight"]))
    if "embeddings.LayerNorm.weight" in sizes:
        found = found.clone(post_norm=True, epsilon=1e-12, pool="mean")
        if sizes.get(_TYPES, ())[:1] == (1,):  # as RoBERTa's and XLM-R's
            found = found.clone(epsilon=1e-5, position_offset=2, length=length - 2)
    elif "projection.bias" in sizes:
        pad_token = 0 if vocabulary == 256000 else 1  # SigLIP 2's tokenizer is Gemma's
        found = found.clone(projection_bias=True, feed_forward="gelu_tanh", pad_token=pad_token)
    else:
        found = found.clone(causal=True, epsilon=1e-5, feed_forward="gelu_sigmoid")
    return found


def _heads(width: int) -> int:
    """MiniLM has heads of 32 channels and SigLIP's of 400 million parameters of 72; all others' have 64."""
    special = {384: 12, 1152: 16}
    return special.get(width, width // 64 if width % 64 == 0 else 1)
