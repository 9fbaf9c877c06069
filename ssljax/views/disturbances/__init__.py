"""What robustness is measured by: one disturbance of each kind, whose `disturb` is given the strength."""

from ssljax.views.disturbances.collage import Collage
from ssljax.views.disturbances.disturbance import Disturbance
from ssljax.views.disturbances.framing import BorderCrop, Padding, ScreenshotBars
from ssljax.views.disturbances.jpeg import JPEG
from ssljax.views.disturbances.perspective import Perspective, Rotation
from ssljax.views.disturbances.recolour import Light, Recolour
from ssljax.views.disturbances.scribble import Scribble
from ssljax.views.disturbances.watermark import Watermark

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
