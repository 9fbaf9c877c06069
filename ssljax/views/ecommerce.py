"""Two crops as shops and sellers disturb them (same-item matching on unlabelled shop photos, South-East Asia, 2021)."""

import dataclasses
from typing import Any

from ssljax.views.disturbances.collage import Collage
from ssljax.views.disturbances.perspective import Perspective
from ssljax.views.disturbances.watermark import Watermark
from ssljax.views.two_crops import TwoCrops


@dataclasses.dataclass(frozen=True)
class EcommerceViews(TwoCrops):
    """Two crops in other perspectives, with strongly changed colours and light, watermarks and collages.

    The recipe was published in words: a watermark from a pool with probability .3, a collage of up to six items with
    probability .1, and stronger saturation, intensity and brightness than usual, whose amounts are our choice. Other
    views take the same `disturbances`: `MultiCrop(disturbances=EcommerceViews().disturbances)`.
    """

    jitter: float = 0.8
    """Probability of changing brightness, contrast, saturation and hue, in random order."""
    brightness: float = 0.6
    """Brightness is multiplied by up to 1 ± this."""
    contrast: float = 0.6
    """Contrast is multiplied by up to 1 ± this."""
    saturation: float = 0.8
    """Saturation is multiplied by up to 1 ± this."""
    disturbances: tuple[Any, ...] = (
        Perspective(probability=0.5, strength=0.6),
        Watermark(probability=0.3, strength=1.0),
        Collage(probability=0.1, strength=1.0),
    )
    """What shops do to photos, in this order."""
