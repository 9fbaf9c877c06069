"""Augmentations on the accelerator: batched JAX inside the training step, random numbers from one key.

`disturbances/` has what shops do to photos, for training and for robustness. Decoding is in `ssljax.data`; no view
knows a method.

A batch holds whole photos squashed to squares, `image` u8[B, N, S, S, 3], and the width / height that each had,
`aspect` f32[B, N]; crops are drawn in the geometry of the original.
"""

from ssljax.views.augment import Augmentation, augment
from ssljax.views.crops import MultiCrop, OneCropEach, TwoCrops
from ssljax.views.disturbances.collage import Collage
from ssljax.views.disturbances.framing import BorderCrop, Padding, ScreenshotBars
from ssljax.views.disturbances.jpeg import JPEG
from ssljax.views.disturbances.perspective import Perspective, Rotation
from ssljax.views.disturbances.recolour import HueShift, Light, Recolour
from ssljax.views.disturbances.scribble import Scribble
from ssljax.views.disturbances.watermark import Watermark
from ssljax.views.masked import Masked
from ssljax.views.photo_and_title import PhotoAndTitle
from ssljax.views.presets import EcommerceViews, asymmetric_pair, symmetric_pair, weak_pair, weak_strong_pair
from ssljax.views.saved_vectors import SavedVectors

__all__ = [
    "JPEG",
    "Augmentation",
    "BorderCrop",
    "Collage",
    "EcommerceViews",
    "HueShift",
    "Light",
    "Masked",
    "MultiCrop",
    "OneCropEach",
    "Padding",
    "Perspective",
    "PhotoAndTitle",
    "Recolour",
    "Rotation",
    "SavedVectors",
    "ScreenshotBars",
    "Scribble",
    "TwoCrops",
    "Watermark",
    "asymmetric_pair",
    "augment",
    "symmetric_pair",
    "weak_pair",
    "weak_strong_pair",
]
