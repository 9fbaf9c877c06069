"""Turns photos into the input of an exported network, exactly as ssljax does. Needs NumPy, Pillow and, to be exact for
all JPEG files, simplejpeg; it does without ssljax. The settings are those of preprocessing.json, beside this file.

    photos(["a.jpg", "b.jpg"])   image u8[B, S, S, 3] and aspect f32[B]: what model.onnx and model.stablehlo take
    views(["a.jpg", "b.jpg"])    f32[B, 3, V, V], normalised: what a network of timm takes
"""

import io
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SETTINGS = Path(__file__).with_name("preprocessing.json")


def settings():
    """What preprocessing.json says."""
    return json.loads(SETTINGS.read_text())


def photos(paths):
    """{"image": u8[B, S, S, 3], "aspect": f32[B]}: upright photos in sRGB, squashed to squares, and width / height."""
    size = settings()["photo_size"]
    images, aspects = zip(*(decode(path, size) for path in paths), strict=True)
    return {"image": np.stack(images), "aspect": np.array(aspects, np.float32)}


def views(paths):
    """f32[B, 3, V, V]: what the network sees of each photo, normalised."""
    found, how = photos(paths), settings()
    return np.stack([view(*photo, how) for photo in zip(found["image"], found["aspect"], strict=True)])


def decode(path, size):
    """u8[size, size, 3] and the aspect ratio of a photo."""
    data = Path(path).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        profile, orientation = image.info.get("icc_profile"), image.getexif().get(ExifTags.Base.Orientation, 1)
        if image.format == "JPEG" and image.mode in ("L", "RGB") and not (image.mode == "L" and profile):
            pixels = _scaled_jpeg(data, image, size).resize((size, size), Image.Resampling.BILINEAR)
        else:
            image.draft(None, (size, size))
            plain = image if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB") else image.convert("RGBA")
            pixels = plain.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = _upright(np.asarray(_to_srgb(pixels, profile)), orientation)
    return np.ascontiguousarray(pixels), height / width if orientation in (5, 6, 7, 8) else width / height


def _scaled_jpeg(data, image, size):
    """A JPEG file in RGB at the smallest of its eight scales that is not smaller than `size`."""
    width, height = image.size
    scale = next((k for k in range(1, 9) if min(-(-width * k // 8), -(-height * k // 8)) >= size), 8)
    if simplejpeg is not None:
        return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size))
    coarser = next(k for k in (1, 2, 4, 8) if k >= scale)  # the scales that Pillow has
    if coarser != scale:
        warnings.warn("install simplejpeg: without it some JPEG files are decoded a little differently", stacklevel=4)
    image.draft("RGB", (max(1, width * coarser // 8), max(1, height * coarser // 8)))
    return image.convert("RGB")


def _to_srgb(image, profile):
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    image = image if alpha is None else image.convert(image.mode[:-1])
    transform = _transform(profile, image.mode) if profile else None
    image = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    assert image is not None  # only a transform in place returns None
    if alpha is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _transform(profile, mode):
    """From a colour profile to sRGB; None if it does not suit the image, or is sRGB by another name."""
    try:
        how = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", *how)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode != "RGB":
        return transform
    levels = np.linspace(0, 255, 8).astype(np.uint8)
    colours = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(8, 64, 3))
    moved = np.abs(np.asarray(ImageCms.applyTransform(colours, transform), int) - np.asarray(colours, int))
    return transform if moved.max() > 2 else None


def _upright(pixels, orientation):
    """Pixels turned by an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def view(image, aspect, how):
    """f32[3, V, V] of a photo u8[S, S, 3]: resampled by weights of rows and of columns."""
    planes, size = image.transpose(2, 0, 1).astype(np.float32) / 255, how["view_size"]
    low, high = {"crop": how["ratio"], "square": (1, 1)}.get(how["fit"], (aspect, aspect))
    pads, lines = how["fit"] == "pad", []
    for longer, crop in ((aspect, aspect / low), (1 / aspect, high / aspect)):
        extent = max(1, longer) if pads else 1
        shown = how["share"] * (extent if pads else min(1, crop))
        lines.append(_weights(len(image), size, extent, shown, how["resampling"]))
    rows, columns = lines
    planes = np.clip(1 - rows @ (1 - planes) @ columns.T, 0, 1)  # white beyond the photo
    mean, std = (np.array(how[name], np.float32)[:, None, None] for name in ("mean", "std"))
    return ((planes - mean) / std).astype(np.float32)


def _weights(source, size, extent, shown, resampling):
    """f32[size, source]: reads the middle of a line `extent` times as long as the photo's `source` pixels, which lie in
    its middle; what is read is `shown` times as long as they are."""
    step = shown * source / size
    center = source / 2 + (np.arange(size) + 0.5 - size / 2) * step
    beyond = int(np.ceil((extent - 1) * source / 2))
    at = np.arange(-beyond, source + beyond) + 0.5
    weights = _filter(np.abs(at - center[:, None]) / max(step, 1), resampling)
    weights *= np.clip(extent * source / 2 - np.abs(at - source / 2) + 0.5, 0, 1)  # the longer line ends in a pixel
    return (weights / weights.sum(axis=1, keepdims=True))[:, beyond : beyond + source].astype(np.float32)


def _filter(distance, resampling):
    """A triangle, or Keys's bicubic filter with a = -1/2, as Pillow has them."""
    if resampling == "bilinear":
        return np.maximum(0, 1 - distance)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
