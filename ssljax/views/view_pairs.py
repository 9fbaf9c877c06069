"""The pairs of views that the literature names, as `TwoCrops`; all else about them is `dataclasses.replace`.

They are those of solo-learn (da Costa et al. 2022, arXiv 2108.01775): crops of at least 0.08 of the photo, mirrored
half of the time, grey one time in five, with colours jittered four times in five. `changes` are fields of
`Augmentation` and hold for both views: FAIR's MoCo and lightly, which leave the blur out at 32 pixels, have
`weak_pair(32, scale=(0.2, 1.0), blur=0.0)`.
"""

from typing import Any

from ssljax.views.augment import Augmentation
from ssljax.views.two_crops import TwoCrops

SCALE = (0.08, 1.0)


def symmetric_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """Two views alike, in SimCLR's strong colours (Chen et al. 2020): also SwAV's and SupCon's."""
    colours = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    return TwoCrops(size=size, **dict(scale=SCALE, **colours, blur=0.5) | changes)


def weak_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """Two views alike, in half those colours: MoCo v2's and SimSiam's."""
    return TwoCrops(size=size, **dict(scale=SCALE, blur=0.5) | changes)


def asymmetric_pair(size: int = 224, *, blur: tuple[float, float] = (1.0, 0.1), **changes: Any) -> TwoCrops:
    """The first view always blurred and the second solarised one time in five, as BYOL's (Grill et al. 2020, table 6).

    Also MoCo v3's, DINO's, NNCLR's and Barlow Twins'. `blur` is the probability in each view: at 32 pixels solo-learn
    has (0.0, 0.0).
    """
    both = dict(scale=SCALE, saturation=0.2) | changes
    return TwoCrops(size=size, **both, blur=blur[0], second=Augmentation(**dict(solarise=0.2) | both, blur=blur[1]))


def weak_strong_pair(size: int = 224, **changes: Any) -> TwoCrops:
    """ReSSL's (Zheng et al. 2021): the first view, the student's, is strong, and the second only cropped and mirrored.

    `changes` of colour or blur hold for the first alone.
    """
    strong = dict(scale=SCALE, saturation=0.2, blur=0.5) | changes
    frame = {name: strong[name] for name in ("scale", "ratio", "flip") if name in strong}
    return TwoCrops(size=size, **strong, second=Augmentation(**frame, jitter=0.0, grey=0.0, blur=0.0))
