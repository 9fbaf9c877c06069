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
from ssljax.losses.normalise import l2_normalise

__all__ = [
    "decoupled",
    "embedding_std",
    "in_batch_info_nce",
    "info_nce",
    "l2_normalise",
    "nt_xent",
    "re_ssl",
    "siglip",
    "sinkhorn",
    "sup_con",
    "swav",
]
