"""Losses: pure functions of arrays to a scalar f32[]; no parameters, mesh or configuration."""

from ssljax.losses.classification import masked_attributes
from ssljax.losses.contrastive import (
    decoupled,
    in_batch_info_nce,
    info_nce,
    nt_xent,
    re_ssl,
    siglip,
    sinkhorn,
    sup_con,
    swav,
)
from ssljax.losses.diagnostics import (
    active_triplets,
    alignment,
    embedding_std,
    entropy,
    kl_to_uniform,
    label_cosines,
    uniformity,
    view_cosines,
)
from ssljax.losses.distillation import (
    byol,
    centered_softmax,
    dino,
    ibot,
    knowledge_distillation,
    koleo,
    negative_cosine,
    similarity_distillation,
    update_center,
)
from ssljax.losses.generative import vae
from ssljax.losses.metric import (
    contrastive_pairs,
    cross_batch,
    lifted_structure,
    multi_similarity,
    n_pairs,
    triplet,
    triplet_excess,
    triplet_from_indices,
)
from ssljax.losses.normalise import l2_normalise
from ssljax.losses.pairs import References
from ssljax.losses.proxy import arcface, cosface, proxy_anchor, proxy_nca, sub_center_arcface
from ssljax.losses.redundancy import barlow_twins, vicreg

__all__ = [
    "References",
    "active_triplets",
    "alignment",
    "arcface",
    "barlow_twins",
    "byol",
    "centered_softmax",
    "contrastive_pairs",
    "cosface",
    "cross_batch",
    "decoupled",
    "dino",
    "embedding_std",
    "entropy",
    "ibot",
    "in_batch_info_nce",
    "info_nce",
    "kl_to_uniform",
    "knowledge_distillation",
    "koleo",
    "l2_normalise",
    "label_cosines",
    "lifted_structure",
    "masked_attributes",
    "multi_similarity",
    "n_pairs",
    "negative_cosine",
    "nt_xent",
    "proxy_anchor",
    "proxy_nca",
    "re_ssl",
    "siglip",
    "similarity_distillation",
    "sinkhorn",
    "sub_center_arcface",
    "sup_con",
    "swav",
    "triplet",
    "triplet_excess",
    "triplet_from_indices",
    "uniformity",
    "update_center",
    "vae",
    "vicreg",
    "view_cosines",
]
