"""Views that the literature names, and those for photos of shops.

The pairs are those of solo-learn (da Costa et al. 2022, arXiv 2108.01775): crops of at least 0.08 of the photo, half of
them mirrored, one in five grey, four in five with jittered colours. `changes` are fields of `Augmentation` for both
views: `weak_pair(32, scale=(0.2, 1.0), blur=0.0)` is what FAIR's MoCo and lightly use, which do not blur 32 pixels.
"""

import dataclasses
from typing import Any

from ssljax.views.augment import Augmentation
from ssljax.views.crops import TwoCrops
from ssljax.views.disturbances.collage import Collage
from ssljax.views.disturbances.perspective import Perspective
from ssljax.views.disturbances.watermark import Watermark

SCALE = (0.08, 1.0)


def symmetric_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """Two views alike, in SimCLR's strong colours (Chen et al. 2020): also SwAV's and SupCon's."""
    pair = TwoCrops(size=size, scale=SCALE, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
    return dataclasses.replace(pair, **changes)


def weak_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """Two views alike, with colours half as strong: MoCo v2's and SimSiam's."""
    return dataclasses.replace(TwoCrops(size=size, scale=SCALE, blur=0.5), **changes)


def asymmetric_pair(size: int = 224, *, blur: tuple[float, float] = (1.0, 0.1), **changes: Any) -> TwoCrops:
    """The first view always blurred, the second solarised one time in five: BYOL's (Grill et al. 2020, table 6).

    Also MoCo v3's, DINO's, NNCLR's and Barlow Twins'. `blur` is the probability in each view; solo-learn has (0.0, 0.0)
    at 32 pixels.
    """
    first = TwoCrops(size=size, scale=SCALE, saturation=0.2)
    second = Augmentation(scale=SCALE, saturation=0.2, solarise=0.2)
    second = dataclasses.replace(second, **changes, blur=blur[1])
    return dataclasses.replace(first, **changes, blur=blur[0], second=second)


def weak_strong_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """ReSSL's (Zheng et al. 2021): the first view, the student's, is strong; the second is only cropped and mirrored.

    `changes` of colour or blur apply to the first alone.
    """
    strong = dataclasses.replace(TwoCrops(size=size, scale=SCALE, saturation=0.2, blur=0.5), **changes)
    frame = Augmentation(scale=strong.scale, ratio=strong.ratio, flip=strong.flip, jitter=0.0, grey=0.0, blur=0.0)
    return dataclasses.replace(strong, second=frame)


@dataclasses.dataclass(frozen=True)
class EcommerceViews(TwoCrops):
    """Two crops in other perspectives, with strongly changed colours and light, watermarks and collages.

    The recipe (same-item matching on unlabelled shop photos, South-East Asia, 2021) was published in words: a watermark
    from a pool with probability .3, a collage of up to six items with probability .1, and stronger saturation,
    intensity and brightness than usual, whose amounts are our choice. Other
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
