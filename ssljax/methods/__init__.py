"""Training methods, one a file: pure functions over explicit state (see `ssljax.types.Method`)."""

from ssljax.methods.moco import MoCo
from ssljax.methods.simclr import SimCLR

__all__ = ["MoCo", "SimCLR"]
