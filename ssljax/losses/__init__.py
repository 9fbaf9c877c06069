"""Losses: pure functions of arrays to a scalar f32[]; no parameters, mesh or configuration."""

from ssljax.losses.contrastive import info_nce, nt_xent
from ssljax.losses.diagnostics import embedding_std
from ssljax.losses.normalise import l2_normalise

__all__ = ["embedding_std", "info_nce", "l2_normalise", "nt_xent"]
