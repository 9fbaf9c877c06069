"""Encoders and heads: linen modules that are their own configuration, and their weights in files.

Only this package imports flax; `cpu` holds the forms of operations that are fast on CPUs. Losses and teachers are in
`ssljax.losses` and `ssljax.methods`.
"""

from ssljax.models.colours import ColourHistogram
from ssljax.models.convnext import ConvNeXt
from ssljax.models.efficientnet import EfficientNet
from ssljax.models.frozen import Frozen, number_layers, whole
from ssljax.models.fusion import Fusion
from ssljax.models.heads import MLP, Decoder, DINOHead, Identity, Prototypes, cast_kernels
from ssljax.models.joined import Joined
from ssljax.models.listing import Listing
from ssljax.models.norm import BatchNorm, in_places, norm_groups
from ssljax.models.pretrained import (
    Pretrained,
    Wrapped,
    pretrained_in,
    says_preprocessing,
    timm_bytes,
    weights_bytes,
    without_files,
)
from ssljax.models.resnet import ResNet
from ssljax.models.swin import Swin
from ssljax.models.text import BagOfTokens, TextTransformer
from ssljax.models.vit import ViT, cls_attention
from ssljax.models.weights.preprocessing import Preprocessing, preprocessing_of

__all__ = [
    "MLP",
    "BagOfTokens",
    "BatchNorm",
    "ColourHistogram",
    "ConvNeXt",
    "DINOHead",
    "Decoder",
    "EfficientNet",
    "Frozen",
    "Fusion",
    "Identity",
    "Joined",
    "Listing",
    "Preprocessing",
    "Pretrained",
    "Prototypes",
    "ResNet",
    "Swin",
    "TextTransformer",
    "ViT",
    "Wrapped",
    "cast_kernels",
    "cls_attention",
    "in_places",
    "norm_groups",
    "number_layers",
    "preprocessing_of",
    "pretrained_in",
    "says_preprocessing",
    "timm_bytes",
    "weights_bytes",
    "whole",
    "without_files",
]
