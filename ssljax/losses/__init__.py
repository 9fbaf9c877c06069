"""Losses: pure functions of arrays to a scalar f32[]; no parameters, mesh or configuration."""

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
from ssljax.losses.diagnostics import embedding_std
from ssljax.losses.metric import (
    contrastive_pairs,
    cross_batch,
    lifted_structure,
    multi_similarity,
    n_pairs,
    triplet,
    triplet_from_indices,
)
from ssljax.losses.normalise import l2_normalise
from ssljax.losses.pairs import References
from ssljax.losses.proxy import arcface, cosface, proxy_anchor, proxy_nca, sub_center_arcface

__all__ = [
    "References",
    "arcface",
    "contrastive_pairs",
    "cosface",
    "cross_batch",
    "decoupled",
    "embedding_std",
    "in_batch_info_nce",
    "info_nce",
    "l2_normalise",
    "lifted_structure",
    "multi_similarity",
    "n_pairs",
    "nt_xent",
    "proxy_anchor",
    "proxy_nca",
    "re_ssl",
    "siglip",
    "sinkhorn",
    "sub_center_arcface",
    "sup_con",
    "swav",
    "triplet",
    "triplet_from_indices",
]
