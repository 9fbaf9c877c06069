"""What the heads of a vision transformer look at: photos, lit where [CLS] attends to."""

import dataclasses
import html

import numpy as np
from PIL import Image

from ssljax.retrieval.report.jpeg import jpeg

PIXELS = 128
DARK = 0.12  # light where nothing is attended to


@dataclasses.dataclass(frozen=True, eq=False)
class Attention:
    """Of n photos, all fields aligned."""

    photos: np.ndarray
    """u8[n, S, S, 3], as the encoder sees them"""
    maps: np.ndarray
    """f32[n, heads, h, w], what [CLS] takes of each patch in the last block"""
    captions: list[str]


def attention_maps(attention: Attention) -> str:
    """HTML: a line a photo: as it is, the mean of the heads, and each head."""
    lines = []
    for pixels, heads, caption in zip(attention.photos, attention.maps, attention.captions, strict=True):
        pixels = np.asarray(Image.fromarray(pixels).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))
        lit = {"photo": pixels, "all heads": _lit(pixels, heads.mean(axis=0))}
        lit |= {f"head {i}": _lit(pixels, head) for i, head in enumerate(heads, 1)}
        lines.append("".join(_figure(image, name, f"{caption}, {name}") for name, image in lit.items()))
    return f"<div class=heads>{''.join(f'<ol>{line}</ol>' for line in lines)}</div>"


def _lit(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The photo u8[S, S, 3] in the light of weights f32[h, w], the largest of which is full light."""
    light = Image.fromarray(np.asarray(weights / max(weights.max(), 1e-12), np.float32))
    light = np.asarray(light.resize(pixels.shape[1::-1], Image.Resampling.BILINEAR))
    return (pixels * (DARK + (1 - DARK) * light[:, :, None])).astype(np.uint8)


def _figure(pixels: np.ndarray, below: str, caption: str) -> str:
    caption = html.escape(caption)
    return (
        f"<li><img src='{jpeg(Image.fromarray(pixels))}' alt='{caption}' title='{caption}'><small>{below}</small></li>"
    )
