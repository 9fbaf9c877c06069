"""Photos with things in them at random places, and a mark that is laid over them."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

HEIGHT, WIDTH = 72, 60


def photos(n: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """u8[n, h, w, 3]: boxes and discs over a smooth ground, with some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        image = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3)))
        draw = ImageDraw.Draw(image)
        for k in range(8):
            x, y, size = rng.integers(-10, width), rng.integers(-10, height), rng.integers(8, 40)
            shape = draw.ellipse if k % 2 else draw.rectangle
            shape((x, y, x + size, y + size), tuple(rng.integers(0, 256, 3)))
        noise = rng.normal(0, 4, (height, width, 3))
        made.append(ndimage.gaussian_filter(np.asarray(image, float), (0.7, 0.7, 0)) + noise)
    return np.clip(np.round(made), 0, 255).astype(np.uint8)


def mark(opacity: float = 0.5, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """A white text-like mark: its opacity f32[h, w], and colour f32[3] in 0 to 255."""
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for x in range(12, 44, 8):
        draw.rectangle((x, 20, x + 4, 34), 255)
    draw.rectangle((12, 38, 46, 41), 255)
    return opacity * np.asarray(image, np.float32) / 255, np.float32([250, 250, 240])


def stamp(clean: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """u8[n, h, w, 3]: the photos below the mark."""
    a = opacity[..., None]
    return np.round(a * colour + (1 - a) * clean).astype(np.uint8)
