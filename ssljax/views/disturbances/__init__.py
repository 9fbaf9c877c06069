"""What shops and sellers do to photos, a kind in each file: `jpeg`, `watermark`, `collage` and so on.

Crops, colours and blur, which are for training alone, are in `ssljax.views`.
"""

from ssljax.views.disturbances.collage import Collage
from ssljax.views.disturbances.disturbance import Disturbance
from ssljax.views.disturbances.framing import BorderCrop, Padding, ScreenshotBars
from ssljax.views.disturbances.jpeg import JPEG
from ssljax.views.disturbances.perspective import Perspective, Rotation
from ssljax.views.disturbances.recolour import Light, Recolour
from ssljax.views.disturbances.scribble import Scribble
from ssljax.views.disturbances.watermark import Watermark

# One of each kind; measuring robustness calls `disturb` with strengths of its own.
DISTURBANCES: tuple[Disturbance, ...] = (
    Perspective(),
    Rotation(),
    Watermark(),
    Recolour(),
    Light(),
    Collage(),
    JPEG(),
    BorderCrop(),
    Padding(),
    ScreenshotBars(),
    Scribble(),
)
