"""What is done to photos before an encoder sees them, which belongs to its weights as much as its architecture."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ssljax.types import UserError, check_fields

Fit = Literal["crop", "square", "squeeze", "pad"]
Filter = Literal["bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How photos were prepared for weights; the default size, mean and standard deviation are ImageNet's.

    An experiment's views take `mean` and `std` from here unless they have their own. The other fields are set in the
    views, since they depend on the photos as much as on the weights; `ssljax import` prints views with all of them.
    """

    size: int = 224
    """Side of the square that the encoder was trained or evaluated on, in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What red, green and blue are then divided by."""
    fit: Fit = "crop"
    """How a photo becomes a square, as `fit` of `OneCropEach`."""
    share: float = 1.0
    """Of each side of that square, the central part that is kept (timm's crop_pct)."""
    resampling: Filter = "bicubic"
    """The filter by which photos were resized."""

    def __post_init__(self):
        check_fields(self, "preprocessing", size=1)
        if min(self.std) <= 0:
            raise UserError(f"preprocessing.std={self.std} must be above 0: pixels are divided by it")
        if not 0 < self.share <= 1:
            raise UserError(f"preprocessing.share={self.share} is not a share: it must be above 0 and at most 1")


def preprocessing_of(encoder: Any) -> Preprocessing:
    """That of an encoder's weights: what `Pretrained` says, or else what its architecture is usually trained with."""
    while encoder is not None:
        if found := getattr(encoder, "preprocessing", None):
            return found
        encoder = getattr(encoder, "module", None)
    return Preprocessing()


def stated_preprocessing(path: str, metadata: Mapping[str, str]) -> Preprocessing | None:
    """What a weights file says of its preprocessing, or else timm's config.json or Hugging Face's beside it."""
    if "preprocessing" in metadata:
        try:
            return Preprocessing(**json.loads(metadata["preprocessing"]))
        except (ValueError, TypeError, UserError) as error:
            raise UserError(f"weights={path}: what they say of their preprocessing cannot be read ({error})") from None
    for name, read in {"preprocessor_config.json": _hugging_face, "config.json": _timm}.items():
        try:
            if found := read(beside(path, name)):
                return found
        except (ValueError, TypeError, KeyError, AttributeError, LookupError, UserError) as error:
            said = Path(path).with_name(name)
            raise UserError(
                f"weights={path}: {said}, which says their preprocessing, cannot be read ({error})"
            ) from None
    return None


def beside(path: str, name: str) -> dict[str, Any]:
    """The JSON object in the file of that name in a weights file's folder; empty if there is none.

    Raises UserError if the file cannot be read.
    """
    file = Path(path).with_name(name)
    try:
        said = json.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"weights={path}: {file} beside them cannot be read ({error})") from None
    return said if isinstance(said, dict) else {}


_CROP_MODES: dict[str, Fit] = {"border": "pad", "squash": "squeeze"}  # timm's; others crop the center


def _timm(config: dict[str, Any]) -> Preprocessing | None:
    config = config.get("pretrained_cfg") or config
    if not (config.get("mean") and config.get("std")):
        return None
    size = (config.get("input_size") or (3, 224, 224))[-1]
    filter = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"  # "random" is either
    fit, share = _CROP_MODES.get(config.get("crop_mode", ""), "square"), config.get("crop_pct") or 0.875
    return Preprocessing(size, tuple(config["mean"]), tuple(config["std"]), fit, share, filter)


def _hugging_face(config: dict[str, Any]) -> Preprocessing | None:
    if not (config.get("image_mean") and config.get("image_std")):
        return None
    size = config.get("size") or 224
    resized = _side(size)
    crops = config.get("crop_size") and config.get("do_center_crop", True)
    side = _side(config["crop_size"]) if crops else resized
    filter = "bilinear" if config.get("resample") == 2 else "bicubic"  # Pillow's numbers
    share = min(1.0, side / resized)
    fit: Fit = "square" if isinstance(size, dict) and "shortest_edge" in size else "squeeze"
    return Preprocessing(side, tuple(config["image_mean"]), tuple(config["image_std"]), fit, share, filter)


def _side(size: Any) -> int:
    """A side by Hugging Face: a number, or by name, as {"shortest_edge": 256} or {"height": 224, "width": 224}."""
    return next(iter(size.values())) if isinstance(size, dict) else size
