"""Photos inside the page."""

import base64
import html
import io

import numpy as np
from PIL import Image

THUMBNAIL = 112  # pixels of a photo's longer side: pages show it at 60 to 90, and screens are dense


def jpeg(image: Image.Image) -> str:
    """The image as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def img(pixels: np.ndarray, caption: str, longest: int | None = None) -> str:
    """HTML of a photo u8[h, w, 3] with its caption, shrunk to a longer side of `longest` pixels if that is given."""
    image, caption = Image.fromarray(np.asarray(pixels)), html.escape(caption)
    if longest is not None:
        image.thumbnail((longest, longest))
    return f"<img src='{jpeg(image)}' alt='{caption}' title='{caption}'>"
