"""All families of encoders whose weights others publish: the layout of a module, and the module of a file's tensors."""

import dataclasses
from typing import Any

from ssljax.models.convnext import ConvNeXt
from ssljax.models.efficientnet import EfficientNet
from ssljax.models.resnet import ResNet
from ssljax.models.swin import Swin
from ssljax.models.text import BagOfTokens, TextTransformer
from ssljax.models.vit import ViT
from ssljax.models.weights import convnext, efficientnet, resnet, swin, text, vit
from ssljax.models.weights.checkpoints import encoder_tensors
from ssljax.models.weights.names import Layout, Tensors
from ssljax.types import UserError, settings

_FAMILIES = {ConvNeXt: convnext, EfficientNet: efficientnet, ResNet: resnet, Swin: swin, ViT: vit}
_FAMILIES |= {BagOfTokens: text, TextTransformer: text}


def layout_of(module: Any) -> Layout:
    """How others name the variables of an encoder; raises UserError if nobody else has such encoders."""
    for kind, family in _FAMILIES.items():
        if isinstance(module, kind):
            return family.layout(module)
    names = ", ".join(kind.__name__ for kind in _FAMILIES)
    raise UserError(f"{type(module).__name__} can begin with weights of ssljax alone: those of others suit {names}")


def guess(tensors: Tensors) -> Any:
    """The module of which a file's tensors look like the weights, by their names and shapes; None if they do not."""
    tensors = encoder_tensors(tensors).tensors
    for family in dict.fromkeys(_FAMILIES.values()):
        try:
            if (module := family.guess(tensors)) is not None:
                layout_of(module)
                return module
        except (UserError, ValueError, IndexError, TypeError):  # tensors of such names may be of any shape
            continue
    return None


def written(value: Any) -> str:
    """A module, or another value, as an experiment has it: its class, and the settings that are not the default's."""
    if isinstance(value, tuple):
        return f"({', '.join(map(written, value))}{',' * (len(value) == 1)})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return getattr(value, "__qualname__", repr(value))
    changed = [f.name for f in settings(value) if getattr(value, f.name) != f.default]
    inside = ", ".join(f"{name}={written(getattr(value, name))}" for name in changed)
    return f"{type(value).__name__}({inside})"
