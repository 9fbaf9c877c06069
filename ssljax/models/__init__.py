"""Encoders and heads: linen modules that are their own configuration. Only this package imports flax."""

from ssljax.models.heads import MLP
from ssljax.models.norm import BatchNorm
from ssljax.models.resnet import ResNet

__all__ = ["MLP", "BatchNorm", "ResNet"]
