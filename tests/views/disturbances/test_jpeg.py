"""JPEG as Pillow writes and reads it."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssljax.types import UserError
from ssljax.views import JPEG
from ssljax.views.disturbances.jpeg import jpeg


def photo(height, width, seed):
    """u8[H, W, 3], smooth shapes, an edge and fine grain: what photos are of."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(coarse).astype(float) + rng.normal(0, 6, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = rng.uniform(0, 255, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def by_pillow(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("height, width", [(48, 64), (45, 50)])
@pytest.mark.parametrize("quality", [10, 25, 50, 75, 90, 95])
def test_it_is_pillows_but_for_single_coefficients(quality, height, width):
    photos = np.stack([photo(height, width, seed) for seed in range(4)])
    planes = jnp.asarray(photos.transpose(0, 3, 1, 2), jnp.float32) / 255
    ours = np.asarray(jax.jit(jpeg)(planes, jnp.full(4, quality, jnp.float32))) * 255
    theirs = np.stack([by_pillow(p, quality) for p in photos]).transpose(0, 3, 1, 2).astype(float)
    psnr = 10 * np.log10(255**2 / np.mean((ours - theirs) ** 2))
    assert psnr > 40
    lost = 10 * np.log10(255**2 / np.mean((theirs - photos.transpose(0, 3, 1, 2)) ** 2))
    assert psnr > lost + 6  # much nearer to Pillow's than either is to the photo


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"JPEG.quality=\(0, 50\)"):
        JPEG(quality=(0, 50))
