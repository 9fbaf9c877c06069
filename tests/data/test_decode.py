"""Every kind of photo is read as Pillow reads it, or refused with a reason."""

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssljax.data.decode import BadImage, decode, decode_whole

# pytest undoes the filter that decode sets
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")


def scene(height=90, width=120):
    """u8[H, W, 3], smooth, and different at every corner and in every channel."""
    y, x = np.mgrid[:height, :width] / (height + width)
    waves = [np.sin(9 * x) + y, np.cos(7 * y) + x, np.sin(8 * (x + y))]
    return np.stack([127 + 60 * w for w in waves], axis=-1).clip(0, 255).astype(np.uint8)


def encode(image, format="JPEG", **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, format, **({"quality": 95} if format == "JPEG" else {}) | options)
    return file.getvalue()


def by_pillow(data, size):
    """The reference: everything decoded at full size, turned upright, then resized."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert("RGB").resize((size, size), Image.BILINEAR)), image.width / image.height


def assert_close(pixels, expected, most=6):
    assert pixels.shape == expected.shape and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= most


def reason(photo):
    with pytest.raises(BadImage) as caught:
        decode(photo, 16)
    return str(caught.value)


@pytest.mark.parametrize("size", [16, 40, 88, 200])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"optimize": True}, {"dpi": (7, 7)}]
)
def test_jpeg_is_what_pillow_reads_whatever_the_scale(size, options):
    data = encode(scene(), **options)
    pixels, aspect = decode(data, size)
    assert_close(pixels, by_pillow(data, size)[0], most=8)
    assert aspect == 120 / 90


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_colour_spaces_of_jpeg(mode, progressive):
    data = encode(Image.fromarray(scene()).convert(mode), progressive=progressive)
    assert_close(decode(data, 32)[0], by_pillow(data, 32)[0])


def test_cmyk_of_adobe_is_not_read_as_a_negative():
    red = encode(Image.new("CMYK", (20, 20), (0, 255, 255, 0)))  # Pillow writes it inverted, with Adobe's marker
    assert b"Adobe" in red
    assert_close(decode(red, 8)[0], np.tile(np.uint8([255, 0, 0]), (8, 8, 1)))


def test_jpeg_stored_as_rgb():
    data = encode(scene(), keep_rgb=True)
    assert_close(decode(data, 32)[0], by_pillow(data, 32)[0])


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format):
    data = encode(scene(), format)
    pixels, aspect = decode(data, 32)
    assert_close(pixels, by_pillow(data, 32)[0])
    assert aspect == 120 / 90


def test_a_path_its_bytes_and_its_pixels_are_one_photo(tmp_path):
    pixels, aspect = decode(scene(), 32)
    (tmp_path / "photo.png").write_bytes(encode(scene(), "PNG"))
    for photo in (tmp_path / "photo.png", encode(scene(), "PNG")):
        assert_close(decode(photo, 32)[0], pixels, most=1)
        assert decode(photo, 32)[1] == aspect
    assert np.array_equal(decode(scene(24, 24), 24)[0], scene(24, 24))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(), format, exif=exif)
    expected, expected_aspect = by_pillow(data, 32)
    pixels, aspect = decode(data, 32)
    assert_close(pixels, expected)
    assert aspect == pytest.approx(expected_aspect) == pytest.approx(0.75 if orientation >= 5 else 4 / 3)


@pytest.mark.parametrize("orientation", [0, 9, 400])
def test_a_senseless_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_close(decode(encode(scene(), exif=exif), 32)[0], decode(encode(scene()), 32)[0], most=0)


def test_broken_exif_is_ignored():
    good = encode(scene(), exif=Image.Exif())
    broken = encode(scene(), exif=b"Exif\0\0nonsense")
    assert_close(decode(broken, 32)[0], decode(good, 32)[0], most=0)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_clipped(format):
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels, _ = decode(encode(Image.fromarray(levels), format), 64)
    assert np.abs(pixels - (levels / 257)[..., None]).max() <= 0.6


def test_a_dark_16_bit_photo_stays_dark():
    assert decode(encode(Image.fromarray(np.full((8, 8), 257 * 9, np.uint16)), "PNG"), 8)[0].max() == 9


def test_16_bit_colour_png():
    """Pillow writes none: made by hand, red at full, green at half."""
    row = b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 4
    data = png_chunks(struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), row * 4)
    assert decode(data, 4)[0][0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e6])
def test_float_grey(white):
    levels = np.linspace(0, white, 64 * 64, dtype=np.float32).reshape(64, 64)
    pixels, _ = decode(encode(Image.fromarray(levels), "TIFF"), 64)
    assert np.abs(pixels - (levels / white * 255)[..., None]).max() <= 0.6


def test_one_bit():
    assert decode(encode(Image.new("1", (8, 8), 1), "PNG"), 4)[0].min() == 255


def half_transparent(mode):
    """Black; the left half transparent."""
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 16, 32))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_white(mode):
    image = half_transparent("RGBA").quantize(4) if mode == "P" else half_transparent(mode)
    pixels, _ = decode(encode(image, "TIFF" if mode == "PA" else "PNG"), 32)
    assert pixels[:, :15].min() > 250 and pixels[:, 17:].max() < 5


@pytest.mark.parametrize("mode, key", [("RGB", (0, 0, 0)), ("L", 0), ("P", 0)])
def test_a_transparent_colour_is_white(mode, key):
    image = Image.new(mode, (8, 8), 0)
    assert decode(encode(image, "PNG", transparency=key), 8)[0].min() == 255


def test_palette():
    data = encode(Image.fromarray(scene()).quantize(200), "PNG")
    assert_close(decode(data, 32)[0], by_pillow(data, 32)[0])


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert_close(decode(data, 8)[0], np.tile(np.uint8([255, 0, 0]), (8, 8, 1)))


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (1, 1)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_photos_of_one_pixel_are_good(shape, format):
    pixels, aspect = decode(encode(scene(*shape), format), 16)
    assert pixels.shape == (16, 16, 3)
    assert aspect == shape[1] / shape[0]


def test_resizing_antialiases():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    for photo in (stripes, encode(stripes, "PNG"), encode(stripes)):
        assert_close(decode(photo, 16)[0], np.full((16, 16, 3), 127, np.uint8), most=4)


def test_a_path_may_be_text(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(scene(), "PNG"))
    np.testing.assert_array_equal(decode(str(tmp_path / "a.png"), 16)[0], decode(tmp_path / "a.png", 16)[0])
    assert reason(str(tmp_path / "none.jpg")) == "missing file"
    with pytest.raises(TypeError, match="a photo is a path, bytes or pixels, not NoneType"):
        decode(None, 16)


def test_files_that_are_no_photos(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("This is not a photo." * 20)
    assert reason(tmp_path / "none.jpg") == "missing file"
    assert reason(tmp_path) == "file cannot be read: not a regular file"
    assert reason(tmp_path / "a\0b.jpg") == "no path of a file: embedded null byte"
    assert reason(tmp_path / ("x" * 300)) == "file cannot be read: File name too long"
    assert reason(tmp_path / "empty.jpg") == reason(b"") == "empty file"
    assert "not an image" in reason(tmp_path / "text.jpg")
    assert "not an image" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # a program, to be run


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"format": "PNG"}, {"format": "BMP"}])
def test_truncated(share, options):
    data = encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), **options)
    assert reason(data[: int(share * len(data))]) == "truncated"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_truncated_jpeg_is_refused_although_it_ends_well(mode):
    data = encode(Image.fromarray(scene()).convert(mode))
    assert reason(data[: len(data) // 2]) == "truncated"
    if mode != "CMYK":  # Pillow, which reads CMYK, takes such a file
        assert reason(data[: len(data) // 2] + b"\xff\xd9") == "truncated"


def test_padding_in_a_jpeg_is_harmless():
    data = encode(scene())
    for padded in (data + b"\0" * 99, data[:-2] + b"\0" * 9 + data[-2:]):
        assert_close(decode(padded, 32)[0], decode(data, 32)[0])


def png_chunks(header, raw, **between):
    """A PNG of an IHDR's content, raw lines, and the chunks `between` them, such as gAMA."""
    others = [(name.encode(), content) for name, content in between.items()]
    chunks = [(b"IHDR", header), *others, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_decompression_bombs_are_refused_by_their_header():
    png = png_chunks(struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0), b"\0" * 100)
    jpeg = bytearray(encode(scene()))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 20000, 20000)
    for bomb in (png, bytes(jpeg)):
        assert reason(bomb).startswith("decompression bomb")


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_photos(pixels):
    assert "not uint8[H, W, 3]" in reason(pixels)


@pytest.mark.parametrize("format", [*FORMATS, "CMYK"])
def test_noise_in_a_file_never_raises_anything_else(format):
    rng = np.random.default_rng(0)
    exif = {"exif": Image.Exif()} if format in ("JPEG", "PNG") else {}
    photo = Image.fromarray(scene(20, 30))
    data = encode(photo.convert("CMYK")) if format == "CMYK" else encode(photo, format, **exif)
    good = 0
    for _ in range(150):
        noisy = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            noisy[rng.integers(min(len(noisy), 400))] = rng.integers(256)
        if rng.random() < 0.3:
            del noisy[rng.integers(len(noisy)) :]
        try:
            pixels, aspect = decode(bytes(noisy), 8)
        except BadImage as error:
            assert str(error)
        else:
            assert pixels.shape == (8, 8, 3) and aspect > 0
            good += 1
    assert good < 150


def test_threads():
    photos = [encode(scene(), f) for f in FORMATS] + [encode(scene())[:400], b"none"]

    def one(data):
        try:
            return decode(data, 16)[0].tobytes()
        except BadImage as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, photos * 20)) == [one(p) for p in photos] * 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_more_pixels_than_the_caller_allows_are_refused(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, kind)
    assert decode(buffer.getvalue(), 8, max_pixels=1200)[0].shape == (8, 8, 3)
    with pytest.raises(BadImage, match="more than 1,199 pixels"):
        decode(buffer.getvalue(), 8, max_pixels=1199)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_whole_photo_keeps_its_size_and_is_upright(tmp_path, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.photo").write_bytes(encode(scene(), format, exif=exif))
    pixels, kind = decode_whole(tmp_path / "a.photo")
    assert kind == format
    assert_close(pixels, scene() if orientation == 1 else np.rot90(scene(), -1))


def test_a_whole_photo_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(scene())[:-500])
    for name, why in (("a.jpg", "truncated"), ("b.jpg", "missing file")):
        with pytest.raises(BadImage, match=why):
            decode_whole(tmp_path / name)


@pytest.mark.parametrize("limit", [True, False])
def test_a_small_file_of_many_scans_is_a_bomb(limit):
    file = io.BytesIO()
    Image.new("L", (200, 200), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start, end = data.rfind(b"\xff\xda"), len(data) - 2  # the last scan
    bomb = data[:end] + data[start:end] * 300 + data[end:]
    if limit:
        with pytest.raises(BadImage, match=r"decompression bomb: 3\d\d scans of 40,000 pixels"):
            decode(bomb, 8, max_pixels=100_000)
    else:
        np.testing.assert_array_equal(decode(bomb, 8)[0], decode(data, 8)[0])


def test_a_transparent_picture_is_laid_on_white_however_much_it_shrinks():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (200, 0, 0, 255)  # the other half is black and transparent
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    shrunk = decode(file.getvalue(), 4)[0].astype(int)
    np.testing.assert_array_less(np.abs(shrunk[:, 0] - (200, 0, 0)), 3)
    np.testing.assert_array_less(np.abs(shrunk[:, 3] - 255), 3)
    assert (shrunk[:, 1:3, 0] >= 197).all()  # no dark edge between red and white


ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""The primaries of Adobe RGB (1998), XYZ under D50"""


def icc(space, gamma, primaries=()):
    """An ICC profile (version 2) of one curve for grey, or for each of three primaries."""

    def fixed(*numbers):
        return b"".join(struct.pack(">i", round(x * 65536)) for x in numbers)

    curve = b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249), b"kTRC": curve}
    for colour, xyz in zip("rgb", primaries, strict=False):
        tags |= {f"{colour}XYZ".encode(): b"XYZ \0\0\0\0" + fixed(*xyz), f"{colour}TRC".encode(): curve}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s12x4s28x", start + len(body), b"none", 2 << 24, b"mntr", space, b"XYZ ", b"acsp")
    return (head + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


ADOBE_RGB = icc(b"RGB ", 2.19921875, ADOBE)


def srgb(light):
    """u8[3] of light in [0, 1], by the definition."""
    light = np.clip(light, 0, 1)
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(int)


def only(colour, format, mode="RGB", **options):
    return encode(Image.new(mode, (32, 32), colour), format, **options)


def of(photo):
    """The middle pixel."""
    return decode(photo, 8)[0][4, 4].astype(int)


@pytest.mark.parametrize(
    "format, options",
    [
        ("JPEG", {"subsampling": 0, "quality": 100}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100}),
    ],
)
def test_colours_of_a_profile_are_made_srgb(format, options):
    to_srgb = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])  # of linear Adobe RGB, by hand
    expected = srgb(to_srgb @ (np.array([60, 200, 60]) / 255) ** 2.19921875)
    assert expected.tolist() == [0, 201, 37]
    near = 4 if format in ("JPEG", "AVIF") else 1
    assert np.abs(of(only((60, 200, 60), format, icc_profile=ADOBE_RGB, **options)) - expected).max() <= near
    plain = of(only((60, 200, 60), format, **options))
    assert np.abs(plain - (60, 200, 60)).max() <= 3


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_grey_levels_of_a_profile(format):
    linear = icc(b"GRAY", 1.0)
    assert np.abs(of(only(128, format, "L", icc_profile=linear)) - srgb(128 / 255)).max() <= 1


def test_transparency_and_a_profile():
    half = of(only((60, 200, 60, 51), "PNG", "RGBA", icc_profile=ADOBE_RGB))
    assert np.abs(half - (0.8 * 255 + 0.2 * np.array([0, 201, 37]))).max() <= 1


def test_colours_of_print_are_read_by_their_profile():
    """There is no CMYK profile to be had here: one that does not suit is ignored, for CMYK too."""
    plain = of(only((0, 255, 255, 0), "JPEG", "CMYK"))
    for wrong in (ADOBE_RGB, b"no profile", icc(b"GRAY", 1.0)):
        assert np.array_equal(of(only((0, 255, 255, 0), "JPEG", "CMYK", icc_profile=wrong)), plain)


@pytest.mark.parametrize("profile", [b"", b"no profile at all", ADOBE_RGB[:200], icc(b"GRAY", 1.0), b"x" * 2**20])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_profile_that_is_broken_or_does_not_suit_is_ignored(profile, format):
    assert np.abs(of(only((60, 200, 60), format, icc_profile=profile)) - (60, 200, 60)).max() <= 3


def test_lab():
    red = of(only((136, 208, 195), "TIFF", "LAB"))  # L 53, a 80, b 67, of which a and b wrap around
    assert red[0] > 240 and red[1:].max() < 30


GREY_BLUE = b"\0" + bytes([60, 128, 200]) * 4
EIGHT = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
LINEAR, USUAL = (struct.pack(">I", gamma) for gamma in (100_000, 45_455))
WIDE = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)  # Adobe RGB's primaries


def test_gamma_and_primaries_of_a_png():
    levels = np.array([60, 128, 200]) / 255
    assert of(png_chunks(EIGHT, GREY_BLUE * 4, gAMA=LINEAR)).tolist() == srgb(levels).tolist()
    for as_is in ({}, {"gAMA": USUAL}, {"gAMA": LINEAR, "sRGB": b"\0"}, {"gAMA": b"\0\0\0\0"}):
        assert of(png_chunks(EIGHT, GREY_BLUE * 4, **as_is)).tolist() == [60, 128, 200]
    wide = of(png_chunks(EIGHT, GREY_BLUE * 4, gAMA=USUAL, cHRM=WIDE))
    to_srgb = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
    assert np.abs(wide - srgb(to_srgb @ levels**2.2)).max() <= 1
    profile = zlib.compress(ADOBE_RGB)  # which comes before gamma
    both = of(png_chunks(EIGHT, GREY_BLUE * 4, iCCP=b"x\0\0" + profile, gAMA=LINEAR))
    assert np.abs(both - srgb(to_srgb @ levels**2.19921875)).max() <= 1


def tiff(levels):
    """Grey levels, signed; Pillow writes none of 16 bits."""
    (height, width), start = levels.shape, 8 + 2 + 12 * 10 + 4
    bits, count = 8 * levels.itemsize, levels.nbytes
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: start, 277: 1, 278: height, 279: count, 339: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + levels.tobytes()


@pytest.mark.parametrize(
    "dtype, white", [("<i4", 255), ("<i4", 65535), ("<i4", 2**31 - 1), ("<i2", 255), ("<i2", 32767)]
)
def test_the_range_of_signed_grey_levels_is_told_by_the_largest(dtype, white):
    levels = np.linspace(0, white, 16).astype(dtype).reshape(4, 4)
    expected = np.linspace(0, 255, 16).reshape(4, 4)
    assert np.abs(decode(tiff(levels), 4)[0][..., 0] - expected).max() <= 1


def test_a_transparent_level_or_colour_of_a_16_bit_png():
    grey = b"\0" + struct.pack(">4H", 1000, 1000, 40000, 40000)
    pixels, _ = decode(
        png_chunks(struct.pack(">IIBBBBB", 4, 4, 16, 0, 0, 0, 0), grey * 4, tRNS=struct.pack(">H", 1000)), 4
    )
    assert pixels[0, :, 0].tolist() == [255, 255, 156, 156]
    row = b"\0" + struct.pack(">6H", 65535, 32896, 0, 65535, 32896, 0) + struct.pack(">6H", 0, 0, 40000, 0, 0, 40000)
    key = struct.pack(">3H", 65535, 32896, 0)
    pixels, _ = decode(png_chunks(struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), row * 4, tRNS=key), 4)
    assert pixels[0].tolist() == [[255] * 3] * 2 + [[0, 0, 156]] * 2


def test_files_that_need_never_end_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        for name in ("pipe.jpg", "loop.jpg", "zero.jpg", "s.jpg"):
            assert reason(tmp_path / name).startswith("file cannot be read: ")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "real.png").write_bytes(encode(scene(), "PNG"))
    decode(tmp_path / "link.png", 8)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(2**30 + 1)
    assert reason(tmp_path / "large.jpg") == "file cannot be read: larger than 1,073,741,824 bytes"


def test_a_side_longer_than_any_photos_is_refused():
    long = png_chunks(struct.pack(">IIBBBBB", 1, 100_000, 16, 0, 0, 0, 0), b"\0\0\0" * 100_000)
    assert reason(long) == "1 x 100,000 pixels: a side has at most 65,535"


def test_formats_can_be_chosen():
    with pytest.raises(BadImage, match=r"not an image in a format that can be read \(JPEG, PNG\)"):
        decode(encode(scene(), "GIF"), 8, formats=("JPEG", "PNG"))
    decode(encode(scene(), "PNG"), 8, formats=("JPEG", "PNG"))


LARGEST_MB, WEBP_MB = 420, 820
"""What docs/serve.md says that a photo of 50 megapixels takes."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grey", "grey with a key", "colour", "colour with a key", "alpha", "palette", "WEBP"])
def test_no_photo_takes_more_memory_than_the_documentation_says(kind, tmp_path):
    side = 7071
    colour, depth, key = {
        "grey": (0, 16, {}),
        "grey with a key": (0, 16, {"tRNS": bytes(2)}),
        "colour": (2, 16, {}),
        "colour with a key": (2, 16, {"tRNS": bytes(6)}),
        "alpha": (6, 16, {}),
        "palette": (3, 8, {"PLTE": bytes(768), "tRNS": bytes(256)}),
        "WEBP": (None, 8, {}),
    }[kind]
    if colour is None:
        photo = encode(Image.new("RGBA", (side, side)), kind, lossless=True, method=0)
    else:
        line = 1 + side * depth // 8 * {0: 1, 2: 3, 3: 1, 6: 4}[colour]
        photo = png_chunks(struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0), bytes(line * side), **key)
    (tmp_path / "photo").write_bytes(photo)
    program = (
        "import re, sys; from pathlib import Path; from ssljax.data.decode import decode; "
        "peak = lambda: int(re.search('VmHWM:[^0-9]*([0-9]+)', Path('/proc/self/status').read_text())[1]); "
        "before = peak(); decode(sys.argv[1], 224, 50_000_000); print((peak() - before) * 1024 / 1e6)"
    )
    done = subprocess.check_output([sys.executable, "-c", program, tmp_path / "photo"], text=True)
    assert float(done) < (WEBP_MB if kind == "WEBP" else LARGEST_MB)
