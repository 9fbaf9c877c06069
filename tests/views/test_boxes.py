"""Crops: torchvision's distribution, Pillow's resampling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ssljax.views import boxes
from ssljax.views.boxes import central_boxes
from ssljax.views.resample import Box, resize_weights

RATIO = (3 / 4, 4 / 3)
random_boxes = jax.jit(boxes.random_boxes, static_argnums=(2, 3))
resize = jax.jit(boxes.resize, static_argnums=2)


def torchvision_box(rng, aspect, scale, ratio):
    """RandomResizedCrop.get_params of a photo of height 1, without the rounding to whole pixels."""
    width, height = aspect, 1.0
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = math.sqrt(area * shape), math.sqrt(area / shape)
        if w <= width and h <= height:
            return rng.uniform(0, width - w), rng.uniform(0, height - h), w, h
    w, h = width, height
    if width / height < ratio[0]:
        h = width / ratio[0]
    elif width / height > ratio[1]:
        w = height * ratio[1]
    return (width - w) / 2, (height - h) / 2, w, h


def boxes_of(box):
    return Box(*(jnp.array([value], jnp.float32) for value in box))


def photo_of(size=24, seed=0):
    return np.random.default_rng(seed).random((size, size, 3), np.float32)


@pytest.mark.parametrize("aspect", [1.0, 0.3, 3.0])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.08, 0.5)])
def test_boxes_have_torchvisions_distribution(aspect, scale):
    n = 4000
    box = random_boxes(jax.random.key(3), jnp.full(n, aspect), scale, RATIO)
    left, top, width, height = (np.asarray(side, np.float64) for side in box)
    rng = np.random.default_rng(0)
    x, y, w, h = np.array([torchvision_box(rng, aspect, scale, RATIO) for _ in range(n)]).T
    ours = {"area": width * height, "ratio": width / height * aspect, "left": left, "top": top}
    theirs = {"area": w * h / aspect, "ratio": w / h, "left": x / aspect, "top": y}
    for name in ours:  # rounded, so that the central box is one value in both
        assert stats.ks_2samp(ours[name].round(3), theirs[name].round(3)).pvalue > 1e-3, name


def test_boxes_lie_in_the_photo_and_within_the_ranges():
    aspect = jnp.asarray(np.exp(np.random.default_rng(0).uniform(-0.25, 0.25, 2000)), jnp.float32)
    left, top, width, height = random_boxes(jax.random.key(0), aspect, (0.2, 1.0), RATIO)
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    ratio = width / height * aspect
    assert RATIO[0] - 1e-5 <= ratio.min() < 0.77
    assert 1.31 < ratio.max() <= RATIO[1] + 1e-5
    assert 0.2 - 1e-5 <= (width * height).min() < 0.21


@pytest.mark.parametrize(("aspect", "expected"), [(0.3, (0, 0.3, 1, 0.4)), (4.0, (1 / 3, 0, 1 / 3, 1))])
def test_a_box_that_never_fits_is_central(aspect, expected):
    box = random_boxes(jax.random.key(0), jnp.full(16, aspect), (0.9, 1.0), RATIO)
    for side, value in zip(box, expected, strict=True):
        np.testing.assert_allclose(side, value, atol=1e-6)


def test_central_boxes_keep_ordinary_photos_whole():
    box = central_boxes(jnp.array([0.75, 1.0, 4 / 3]), RATIO)
    np.testing.assert_allclose(np.stack(box), np.array([[0.0] * 3, [0] * 3, [1] * 3, [1] * 3]), atol=1e-6)


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (0.1, 0.2, 0.8, 0.7), (0.31, 0.07, 0.2, 0.25), (0.9, 0.9, 0.1, 0.05), (0, 0.5, 1, 0.5)]
)
@pytest.mark.parametrize("size", [5, 16, 40])
def test_resize_is_pillows(box, size):
    photo = photo_of()
    left, top, width, height = np.array(box) * 24
    corners = (left, top, min(left + width, 24), min(top + height, 24))
    expected = [
        np.asarray(Image.fromarray(photo[:, :, c]).resize((size, size), Image.Resampling.BILINEAR, box=corners))
        for c in range(3)
    ]
    result = resize(jnp.asarray(photo)[None], boxes_of(box), size)[0]
    np.testing.assert_allclose(result, np.stack(expected), atol=2e-5)


def test_bytes_become_zero_to_one():
    photo = np.array([0, 255, 51], np.uint8)[None, None, None].repeat(8, 1).repeat(8, 2)
    result = resize(jnp.asarray(photo), boxes_of((0.2, 0.3, 0.5, 0.5)), 4)
    np.testing.assert_allclose(result[0, :, 0, 0], [0, 1, 0.2], atol=1e-6)


def test_a_gradient_lands_where_the_box_says():
    size, source = 8, 64
    ramp = (np.arange(source) + 0.5) / source
    photo = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 0.5), -1).astype(np.float32)
    left, top, width, height = 0.3, 0.2, 0.5, 0.25
    result = np.asarray(resize(jnp.asarray(photo)[None], boxes_of((left, top, width, height)), size)[0])
    centers = (np.arange(size) + 0.5) / size
    np.testing.assert_allclose(result[0], np.broadcast_to(left + width * centers, (size, size)), atol=1e-5)
    np.testing.assert_allclose(result[1], np.broadcast_to((top + height * centers)[:, None], (size, size)), atol=1e-5)


def test_the_whole_photo_at_its_own_size_is_itself():
    photo = photo_of()
    result = resize(jnp.asarray(photo)[None], boxes_of((0, 0, 1, 1)), 24)
    np.testing.assert_allclose(result[0].transpose(1, 2, 0), photo, atol=1e-6)


def test_flip_mirrors_left_to_right_the_photos_chosen():
    photos = jnp.asarray(np.stack([photo_of(seed=1), photo_of(seed=2)]))
    box = Box(*(jnp.full(2, value) for value in (0.2, 0.3, 0.5, 0.6)))
    straight = resize(photos, box, 10)
    flipped = resize(photos, box, 10, jnp.array([True, False]))
    np.testing.assert_allclose(flipped[0], straight[0, :, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(flipped[1], straight[1], atol=1e-6)


def test_rows_of_weights_sum_to_one_even_for_a_box_smaller_than_a_pixel():
    start, extent = jnp.array([0.0, 0.5, 0.999]), jnp.array([1.0, 1e-4, 1e-3])
    weights = resize_weights(start, extent, source=7, size=5)
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-6)
    assert bool((weights >= 0).all())
