"""Every kind of photo is read as Pillow reads it, or refused with a reason."""

import io
import struct
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
    assert reason(tmp_path) == "file cannot be read: Is a directory"
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


def png_chunks(header, raw):
    """A PNG of an IHDR's content and raw lines."""
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
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
