"""What is done to photos before an encoder sees them, which belongs to its weights as much as its architecture."""

import dataclasses
from typing import Any, Literal

from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How photos were prepared when weights were trained; the defaults are ImageNet's.

    An experiment's views take `mean` and `std` from here unless they have their own. The size and the fit are theirs:
    `TwoCrops(size=224, fit="pad")`.
    """

    size: int = 224
    """Side of the square that the encoder was trained or evaluated on, in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What red, green and blue are then divided by."""
    fit: Literal["crop", "pad"] = "crop"
    """How a photo becomes a square: its largest central crop, or the whole photo on a white square."""
    share: float = 1.0
    """The central share of each side of that crop which is kept (timm's crop_pct)."""
    resampling: Literal["bilinear", "bicubic"] = "bicubic"
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
