"""What the heads of a vision transformer look at: photos that are clear where [CLS] attends, and hazy elsewhere."""

import dataclasses

import numpy as np
from markupsafe import Markup
from PIL import Image

from ssljax.report.page import render

PIXELS = 128
HAZE = np.array([38, 52, 92])  # neither a black nor a white item has its colour
THICK = 0.85


@dataclasses.dataclass(frozen=True, eq=False)
class Attention:
    """Of n photos, all fields aligned."""

    photos: np.ndarray
    """u8[n, S, S, 3], as the encoder sees them"""
    maps: np.ndarray
    """f32[n, heads, h, w], the attention of [CLS] to each patch in the last block"""
    captions: list[str]


def attention_maps(attention: Attention) -> Markup:
    """A line for each photo: the photo, the mean of the heads, and each head, with its largest weight over its mean."""
    lines = []
    for pixels, heads, caption in zip(attention.photos, attention.maps, attention.captions, strict=True):
        pixels = np.asarray(Image.fromarray(pixels).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))
        line = [(pixels, "photo", caption)]
        for name, weights in [("all heads", heads.mean(axis=0)), *((f"head {i}", h) for i, h in enumerate(heads, 1))]:
            peak = f"{weights.max() / max(weights.mean(), 1e-12):.1f}"
            line.append((_in_haze(pixels, weights), f"{name}, {peak}", f"{caption}, {name}"))
        lines.append(line)
    return render("attention.html", lines=lines)


def _in_haze(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The photo u8[S, S, 3] in a haze that is thinner where weights f32[h, w] are larger, and gone at the largest."""
    clear = Image.fromarray(np.asarray(weights / max(weights.max(), 1e-12), np.float32))
    clear = np.asarray(clear.resize(pixels.shape[1::-1], Image.Resampling.BILINEAR))
    haze = THICK * (1 - clear)[:, :, None]
    return ((1 - haze) * pixels + haze * HAZE[None, None]).astype(np.uint8)
