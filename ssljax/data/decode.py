"""A photo to a square of pixels and the aspect ratio it had: whatever a catalogue may hold is read right or refused.

`decode` is called from many threads and processes at once; the decoders leave Python's lock.
"""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")  # none that runs a program, as EPS
MAX_PIXELS = 178_956_970  # Pillow refuses more as a decompression bomb; the fast path must refuse the same
SCANS = 16  # of a JPEG of MAX_PIXELS, and more of a smaller one: each goes over all pixels, and may take 75 bytes

# Pillow warns from half that size on, and of oddities in metadata that do not touch the pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@functools.cache
def suffixes() -> frozenset[str]:
    """How names of files in one of FORMATS end, such as ".jpg", in small letters."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


class BadImage(Exception):
    """A photo that cannot be read; the message is the reason."""


def decode(photo: Path | str | bytes | np.ndarray, size: int, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, float]:
    """A photo, resized (with antialiasing) to a square whatever its shape, and its width / height.

    Upright as its EXIF orientation says; the first frame if animated; transparency on white; 16 bits scaled to 8.

    Args:
        photo: the path of a file, the bytes of one, or pixels u8[H, W, 3].
        size: S, the side of the square in pixels.
        max_pixels: height x width of a file, of which more are refused before they are decoded.

    Returns:
        u8[S, S, 3], RGB, not to be written to; and the aspect ratio of the upright photo.

    Raises:
        BadImage: with the reason.
        TypeError: it is none of these, which is the source's mistake.
    """
    if isinstance(photo, np.ndarray):
        return _resize(_check_pixels(photo), size), photo.shape[1] / photo.shape[0]
    if not isinstance(photo, Path | str | bytes):
        raise TypeError(f"a photo is a path, bytes or pixels, not {type(photo).__name__}")
    data = photo if isinstance(photo, bytes) else _read(Path(photo))
    if not data:
        raise BadImage("empty file")
    pixels, aspect, orientation = _decode_jpeg(data, size, max_pixels) or _decode_any(data, size, max_pixels)
    # turned after resizing: a square is cheap to turn
    return _upright(_resize(pixels, size), orientation), 1 / aspect if orientation >= 5 else aspect


def decode_whole(path: Path) -> tuple[np.ndarray, str]:
    """A photo at its own size, upright and in colours as `decode` has it, u8[H, W, 3]; and its format, as in FORMATS.

    Raises BadImage, with the reason.
    """
    with _opened(_read(path)) as image:
        image.load()
        return _upright(np.asarray(_to_rgb(image)), _orientation(image)), image.format


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage("missing file") from None
    except OSError as error:
        raise BadImage(f"file cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise BadImage(f"no path of a file: {error}") from None


def _check_pixels(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise BadImage(f"pixels are {pixels.dtype}{list(pixels.shape)}, not uint8[H, W, 3]")
    return pixels


def _decode_jpeg(data: bytes, size: int, max_pixels: int) -> tuple[np.ndarray, float, int] | None:
    """Pixels, at the smallest scale that covers the square, aspect and orientation; None for Pillow to decide."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        if colour not in ("YCbCr", "Gray", "RGB") or height * width > max_pixels:
            return None
        _check_scans(data, height * width, max_pixels)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, strict=True)
    except ValueError as error:
        if "remature end" in str(error):  # Pillow overlooks it if the file still ends in an end-of-image marker
            raise BadImage("truncated") from None
        return None
    has_metadata = b"Exif\0\0" in data or b"tiff:Orientation" in data  # asking Pillow each time would be slow
    return pixels, width / height, _jpeg_orientation(data) if has_metadata else 1


def _decode_any(data: bytes, size: int, max_pixels: int) -> tuple[np.ndarray, float, int]:
    with _opened(data, max_pixels) as image:
        aspect = image.width / image.height
        image.draft(None, (size, size))
        image.load()
        orientation = _orientation(image)  # after loading: TIFF turns itself, and then has none
        # laid on white once it is small: a few KB of a large transparent picture would take many times its memory
        image = image if image.mode in ("LA", "RGBA") else _to_rgb(image)
        resized = image.resize((size, size), Image.BILINEAR, reducing_gap=2.0)
        return np.asarray(_to_rgb(resized)), aspect, orientation


def _check_scans(data: bytes, pixels: int, max_pixels: int) -> None:
    scans = data.count(b"\xff\xda")  # their beginnings; within a scan FF is followed by 0
    if scans * pixels > SCANS * max_pixels:
        raise BadImage(f"decompression bomb: {scans:,} scans of {pixels:,} pixels")


@contextlib.contextmanager
def _opened(data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image in Pillow; whatever is wrong with it, then or later, is raised as BadImage."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            if image.format == "JPEG":
                _check_scans(data, image.width * image.height, max_pixels)
            yield image
    except Image.DecompressionBombError:
        raise BadImage(f"decompression bomb: more than {max_pixels:,} pixels") from None
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image in a format that can be read") from None
    except Exception as error:  # on broken files Pillow's readers raise whatever they stumble over
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise BadImage("truncated" if truncated else f"broken image: {error or type(error).__name__}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(image)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """u8[H, W] of 16-bit, 32-bit or float grey levels; Pillow's own conversion clips them at 255."""
    levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    white = next((w for w in whites if levels.max() <= w), levels.max())
    return (levels.clip(0) * (255 / white) + 0.5).astype(np.uint8)


def original_shape(pixels: np.ndarray, aspect: float) -> np.ndarray:
    """u8[h, w, 3], a photo u8[S, S, 3] as it was before it became a square, its longer side S pixels."""
    side = len(pixels)
    width, height = (side, max(1, round(side / aspect))) if aspect >= 1 else (max(1, round(side * aspect)), side)
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


def thumbnail(photo: Path | str | bytes | np.ndarray, side: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """u8[h, w, 3], a photo in its shape, its longer side `side` pixels; raises as `decode`."""
    return original_shape(*decode(photo, side, max_pixels))


def thumbnail_or_grey(photo: Path | str | bytes | np.ndarray | None, side: int) -> np.ndarray:
    """As `thumbnail`; a grey square u8[side, side, 3] if there is no photo, or it cannot be read."""
    try:
        return thumbnail(b"" if photo is None else photo, side)
    except BadImage:
        return np.full((side, side, 3), 128, np.uint8)


def _jpeg_orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _orientation(image)
    except Exception:  # broken metadata is no reason to refuse good pixels
        return 1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if there is none or none that makes sense, as viewers do."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above
        return 1
    return int(orientation) if orientation in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """u8[S, S, 3] turned by an EXIF orientation, 1 to 8."""
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }
    return np.ascontiguousarray(turned[orientation])


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.BILINEAR))
