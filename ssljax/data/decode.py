"""Decodes a photo to a square of pixels and its aspect ratio. Whatever a catalogue holds is read correctly or refused.

`decode` is called from many threads and processes at once; the decoders release the GIL.
"""

import contextlib
import dataclasses
import functools
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from ssljax.data.atomic_files import read_bytes

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "WEBP",
    "AVIF",
    "BMP",
    "TIFF",
    "PPM",
    "JPEG2000",
)  # not EPS: it is a program
MAX_PIXELS = 178_956_970  # Pillow refuses more as a decompression bomb; the fast path must refuse the same
MAX_SIDE = 65_535  # JPEG's limit
MAX_BYTES = 2**30  # of a file
STRIP = 2**20  # pixels that are made 8 bits at a time
MAX_PROFILE = 2**23  # bytes; those for print have a few million
SCANS = 16  # of a JPEG of MAX_PIXELS, more of a smaller one: a scan of 75 bytes makes the decoder visit all pixels

SLACK = 1.02  # factor by which levels may exceed white, as resampled photos overshoot
BITS_PER_SAMPLE = 258  # a tag of TIFF
PLAIN = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")  # Pillow's modes of 8 bits a channel that are resized as they are
SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

# Pillow warns from half that size on, and of oddities in metadata that do not touch the pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of files in one of FORMATS, such as ".jpg", in lower case."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


class BadImage(Exception):
    """A photo that cannot be read; the message is the reason."""


def decode(
    photo: Path | str | bytes | np.ndarray,
    size: int,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
) -> tuple[np.ndarray, float]:
    """A photo, resized (with antialiasing) to a square whatever its shape, and its width / height.

    Upright as its EXIF orientation says; the first frame if animated; transparency on white; 16 bits scaled to 8. In
    sRGB: colours are converted by the file's ICC profile, or a PNG's gamma and primaries; without them they are taken
    to be sRGB. A profile that does not suit the file is ignored.

    Args:
        photo: the path of a file, the bytes of one, or pixels u8[H, W, 3].
        size: S, the side of the square in pixels.
        max_pixels: the largest height x width of a file; larger ones are refused before they are decoded.
        formats: those of FORMATS that are read.

    Returns:
        u8[S, S, 3], sRGB, not to be written to; and the aspect ratio of the upright photo.

    Raises:
        BadImage: with the reason.
        TypeError: if it is none of these, which is a mistake of the source.
    """
    if isinstance(photo, np.ndarray):
        return _resize(_check_pixels(photo), size), photo.shape[1] / photo.shape[0]
    if not isinstance(photo, Path | str | bytes):
        raise TypeError(f"a photo is a path, bytes or pixels, not {type(photo).__name__}")
    data = photo if isinstance(photo, bytes) else _read(Path(photo))
    if not data:
        raise BadImage("empty file")
    pixels, aspect, orientation = _decode_jpeg(data, size, max_pixels) or _decode_any(data, size, max_pixels, formats)
    # turned after resizing: a square is cheap to turn
    return _upright(pixels, orientation), 1 / aspect if orientation >= 5 else aspect


def decode_whole(path: Path) -> tuple[np.ndarray, str]:
    """A photo u8[H, W, 3] at its own size, upright and in sRGB as from `decode`; and its format, one of FORMATS.

    Raises BadImage, with the reason.
    """
    with _opened(_read(path)) as image:
        format = str(image.format)
        plain, colours, orientation = _loaded(image)
        return _upright(np.asarray(_to_srgb(plain, colours)), orientation), format


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_BYTES)
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
    """Pixels, aspect and orientation, at the smallest scale that covers the square; None leaves it to Pillow."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        height, width = int(height), int(width)
        grey_profile = colour == "Gray" and b"ICC_PROFILE\0" in data  # is for grey levels, not for RGB
        if colour not in ("YCbCr", "Gray", "RGB") or height * width > max_pixels or grey_profile:
            return None
        _check_scans(data, height * width, max_pixels)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, strict=True)
    except ValueError as error:
        if "remature end" in str(error):  # Pillow overlooks it if the file still ends in an end-of-image marker
            raise BadImage("truncated") from None
        return None
    pixels, orientation = _resize(pixels, size), 1
    # asking Pillow about every photo would be slow
    if b"Exif\0\0" in data or b"tiff:Orientation" in data or b"ICC_PROFILE\0" in data:
        with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            orientation = _orientation(image)
            pixels = np.asarray(_to_srgb(Image.fromarray(pixels), _Colours.of(image)))
    return pixels, width / height, orientation


def _decode_any(data: bytes, size: int, max_pixels: int, formats: Sequence[str]) -> tuple[np.ndarray, float, int]:
    with _opened(data, max_pixels, formats) as image:
        aspect = image.width / image.height
        image.draft(None, (size, size))
        # Colours are converted, and laid on white, once the photo is small: that is faster, and takes no memory.
        plain, colours, orientation = _loaded(image)
        resized = plain.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(_to_srgb(resized, colours)), aspect, orientation


def _check_scans(data: bytes, pixels: int, max_pixels: int) -> None:
    scans = data.count(b"\xff\xda")  # their beginnings; within a scan FF is followed by 0
    if scans * pixels > SCANS * max_pixels:
        raise BadImage(f"decompression bomb: {scans:,} scans of {pixels:,} pixels")


@contextlib.contextmanager
def _opened(data: bytes, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS) -> Iterator[Image.Image]:
    """Opens an image with Pillow; whatever is wrong with it, now or inside the block, is raised as BadImage."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(formats)) as image:
            if max(image.size) > MAX_SIDE:
                raise BadImage(f"{image.width:,} x {image.height:,} pixels: a side has at most {MAX_SIDE:,}")
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
        raise BadImage(f"not an image in a format that can be read ({', '.join(formats)})") from None
    except Exception as error:  # on broken files Pillow's readers raise whatever they stumble over
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise BadImage("truncated" if truncated else f"broken image: {error or type(error).__name__}") from None


@dataclasses.dataclass(frozen=True)
class _Colours:
    """What a file says about its colours."""

    profile: bytes | None
    """ICC"""
    gamma: float | None
    """of a PNG: its levels are the light to this power"""
    primaries: tuple[float, ...] | None
    """of a PNG: x and y of white, red, green and blue"""

    @classmethod
    def of(cls, image: Image.Image) -> "_Colours":
        profile, png = image.info.get("icc_profile"), image.format == "PNG" and "srgb" not in image.info
        usable = isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE
        if usable or not png:  # in a PNG a profile comes first, and sRGB before gamma
            return cls(profile if usable else None, None, None)
        return cls(None, image.info.get("gamma"), image.info.get("chromaticity"))


def _loaded(image: Image.Image) -> tuple[Image.Image, _Colours, int]:
    """The pixels in a mode of `PLAIN`, what their colours are, and the orientation. Closes `image`."""
    deep = image.format == "PNG" and ";16" in str(getattr(image, "tile", ""))
    image.load()
    orientation = _orientation(image)  # after loading: Pillow turns a TIFF then, and drops its orientation
    colours, key = _Colours.of(image), image.info.get("transparency")
    if deep and isinstance(key, tuple):  # Pillow made the pixels 8 bits, and left the colour that is transparent
        image.info["transparency"] = tuple(level >> 8 for level in key)
    if image.mode.startswith("I") or image.mode == "F":
        plain = Image.fromarray(_to_8_bits(image))
        if isinstance(key, int):
            plain.putalpha(Image.fromarray((np.asarray(image) != key).view(np.uint8) * np.uint8(255)))
    elif image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        plain = image.convert("RGBA")
    else:
        plain = image if image.mode in PLAIN else image.convert("RGB")
    if plain is not image:
        image.close()  # two copies of a large one would take twice the memory
    return plain, colours, orientation


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """u8[H, W] of 16-bit, 32-bit or float grey levels; Pillow's own conversion clips them at 255.

    White is the largest level of the file's type of number. But files of floats or of 32 bits also come with levels up
    to 1, 255 or 65,535, and signed ones of 16 bits with levels up to 255: white is the least of these that covers all.
    """
    levels = np.asarray(image)
    largest = float(np.max(levels, initial=0, where=np.isfinite(levels)))
    tags = getattr(image, "tag_v2", {})
    whites: tuple[float, ...] = (65535.0,)
    if image.mode == "F":
        whites = (1.0, 255.0, 65535.0)
    elif image.mode == "I" and tags:
        signed_16 = np.max(tags.get(BITS_PER_SAMPLE, 32)) == 16
        whites = (255.0, 32767.0) if signed_16 else (255.0, 65535.0, 2.0**31 - 1)
    white = next((w for w in whites if largest <= SLACK * w), largest)
    small, rows = np.empty(levels.shape, np.uint8), max(1, STRIP // levels.shape[1])
    for start in range(0, len(levels), rows):
        part = np.nan_to_num(levels[start : start + rows].astype(np.float32)).clip(0, white)
        small[start : start + rows] = part * (255 / white) + 0.5
    return small


def _to_srgb(image: Image.Image, colours: _Colours) -> Image.Image:
    """An image in one of the modes of `_loaded` as RGB, with transparency on white."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert(image.mode[:-1])
    transform = _transform(colours.profile, image.mode) or _transform(None, image.mode)
    converted = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    assert converted is not None  # only a transform in place returns None
    image = converted
    if colours.gamma is not None:
        image = Image.fromarray(_from_gamma(np.asarray(image), colours.gamma, colours.primaries))
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, for images of a mode; None if nothing is to do, or the profile does not suit."""
    srgb = ImageCms.createProfile("sRGB")
    try:
        if profile is None:
            if mode != "LAB":
                return None
            source = ImageCms.createProfile("LAB")
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(
            source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode != "RGB":
        return transform
    levels = np.linspace(0, 255, 8).astype(np.uint8)
    colours = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(8, 64, 3))
    moved = np.abs(np.asarray(ImageCms.applyTransform(colours, transform), int) - np.asarray(colours, int))
    return transform if moved.max() > 2 else None  # else it is sRGB by another name


def _from_gamma(pixels: np.ndarray, gamma: float, primaries: tuple[float, ...] | None) -> np.ndarray:
    """u8[H, W, 3] in sRGB of a PNG's pixels, by its gAMA and cHRM (PNG specification, 3rd edition, 11.3.2).

    They stay as they are if both describe sRGB, or are impossible.
    """
    primaries = SRGB_PRIMARIES if primaries is None else primaries
    usual = np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() < 0.005
    if not 0.01 < gamma < 100 or (usual and abs(gamma - 1 / 2.2) < 0.01):
        return pixels
    light = (np.arange(256) / 255.0)[pixels] ** (1 / gamma)
    if not usual:
        with contextlib.suppress(np.linalg.LinAlgError):
            light = light @ (np.linalg.inv(_xyz_of(SRGB_PRIMARIES)) @ _xyz_of(primaries)).T
    light = light.clip(0, 1)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * levels + 0.5).astype(np.uint8)


def _xyz_of(primaries: tuple[float, ...]) -> np.ndarray:
    """f64[3, 3], the matrix from linear RGB to XYZ, in which white (1, 1, 1) has a Y of 1."""
    xy = np.array(primaries, float).reshape(4, 2)
    xyz = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(axis=1)]) / np.maximum(xy[:, 1], 1e-6)
    return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])


def original_shape(pixels: np.ndarray, aspect: float) -> np.ndarray:
    """u8[h, w, 3], a square photo u8[S, S, 3] in its original shape, its longer side S pixels."""
    side = len(pixels)
    width, height = (side, max(1, round(side / aspect))) if aspect >= 1 else (max(1, round(side * aspect)), side)
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


def thumbnail(
    photo: Path | str | bytes | np.ndarray,
    side: int,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
) -> np.ndarray:
    """u8[h, w, 3], a photo in its own shape, its longer side `side` pixels; raises what `decode` raises."""
    return original_shape(*decode(photo, side, max_pixels, formats))


def thumbnail_or_grey(photo: Path | str | bytes | np.ndarray | None, side: int) -> np.ndarray:
    """As `thumbnail`, but a grey square u8[side, side, 3] if there is no photo or it cannot be read."""
    try:
        return thumbnail(b"" if photo is None else photo, side)
    except BadImage:
        return np.full((side, side, 3), 128, np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if it is missing or invalid, as in viewers."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata is no reason to refuse good pixels
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
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
