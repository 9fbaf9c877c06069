"""What robustness is measured by: one disturbance of each kind, whose `disturb` is given the strength."""

from ssljax.views.collage import Collage
from ssljax.views.disturbance import Disturbance
from ssljax.views.frame import BorderCrop, Padding, ScreenshotBars
from ssljax.views.jpeg import JPEG
from ssljax.views.perspective import Perspective, Rotation
from ssljax.views.recolour import Light, Recolour
from ssljax.views.scribble import Scribble
from ssljax.views.watermark import Watermark

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
