"""Frames: how much of the photo is left, where it is, and what is around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ssljax.views import BorderCrop, Padding, ScreenshotBars
from ssljax.views.disturbances import framing
from ssljax.views.disturbances.framing import covered
from ssljax.views.resample import Box

SIZE = 40
show = jax.jit(framing.show)
disturb = jax.jit(lambda kind, rng, images, strength: kind().disturb(rng, images, strength), static_argnums=0)


def ramps(batch=64):
    """Photos whose red and green are the position (x, y) in [0, 1]; no blue."""
    ramp = (np.arange(SIZE) + 0.5) / SIZE
    photo = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 0.0)).astype(np.float32)
    return jnp.asarray(photo)[None].repeat(batch, 0)


@pytest.mark.parametrize("box", [(0.0, 0.3, 0.8, 0.7), (0.21, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 1.0)])
def test_show_is_pillows_resize_of_a_box(box):
    photo = np.random.default_rng(0).random((3, 18, 24), np.float32)
    left, top, width, height = np.array(box) * np.array([24, 18, 24, 18])
    corners = (left, top, min(left + width, 24), min(top + height, 18))
    expected = [Image.fromarray(p).resize((24, 18), Image.Resampling.BILINEAR, box=corners) for p in photo]
    result, inside = show(jnp.asarray(photo)[None], Box(*(jnp.array([side], jnp.float32) for side in box)))
    np.testing.assert_allclose(result[0], np.stack(expected), atol=2e-5)
    assert inside.all()


def test_beyond_the_border_are_the_borders_pixels():
    photo = jnp.asarray(np.random.default_rng(0).random((1, 3, 8, 8), np.float32))
    result, inside = show(photo, Box(*(jnp.array([side]) for side in (-0.5, 0.0, 2.0, 1.0))))  # half as wide, centered
    assert inside[0].tolist() == [[False] * 2 + [True] * 4 + [False] * 2] * 8
    edge = (2 * photo[..., 0] + photo[..., 1]) / 3  # the filter is two pixels wide on each side, cut off at the border
    assert np.abs(result[..., 0] - edge).max() < 0.2
    np.testing.assert_allclose(result[..., 0], result[..., 1], atol=1e-6)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_border_crop_cuts_one_end_of_each_axis(strength):
    result = np.asarray(disturb(BorderCrop, jax.random.key(0), ramps(), jnp.full(64, strength)))
    middle = SIZE // 2
    for line in (result[:, 0, middle], result[:, 1, :, middle]):
        share = (line[:, middle] - line[:, middle - 1]) * SIZE
        start = line[:, middle] - share * 0.5 / SIZE - share / 2
        assert 1 - 0.4 * strength - 1e-3 < share.min() < 1 - 0.35 * strength and share.max() > 1 - 0.1 * strength
        at_start, at_end = np.abs(start) < 1e-3, np.abs(start + share - 1) < 1e-3
        assert (at_start | at_end).all() and 16 < at_start.sum() < 48


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_padding_shows_the_whole_photo_smaller_on_one_colour(strength):
    images = ramps().at[:, 2].set(0.5)
    result = np.asarray(disturb(Padding, jax.random.key(0), images, jnp.full(64, strength)))
    grounds, places = [], []
    for image in result:
        inside = np.abs(image[2] - 0.5) < 1e-4
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        side = SIZE * (1 - 0.5 * strength)
        assert abs(len(rows) - side) <= 1 and abs(len(columns) - side) <= 1
        photo = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        for line in (photo[0, 0], photo[1, :, 0]):  # from one end to the other
            assert line[0] < 2 / side and line[-1] > 1 - 2 / side
        around = image[:, ~inside]
        np.testing.assert_array_equal(around, np.broadcast_to(around[:, :1], around.shape))
        grounds.append(around[:, 0])
        places.append((rows[0], columns[0]))
    assert 16 < (np.array(grounds) == 1).all(1).sum() < 48
    assert len(np.unique(np.array(grounds).round(4), axis=0)) > 16
    places = np.array(places) / (SIZE * 0.5 * strength)
    assert all(stats.kstest(place, stats.uniform(-0.05, 1.1).cdf).pvalue > 1e-3 for place in places.T)


def test_the_bars_of_a_screenshot_are_at_top_and_bottom_with_signs_in_them():
    images = ramps().at[:, 2].set(0.5)
    result = np.asarray(disturb(ScreenshotBars, jax.random.key(0), images, jnp.ones(64)))
    np.testing.assert_array_equal(result[:, :, 6:-6], images[:, :, 6:-6])
    for row in (0, -1):
        np.testing.assert_allclose(result[:, 1:, row], result[:, :2, row], atol=1e-6)  # grey
        bar = np.median(result[:, 0, row], axis=1)
        assert (np.abs(bar - 0.5) > 0.3).all() and 16 < (bar > 0.5).sum() < 48
        band = result[:, 0, :3] if row == 0 else result[:, 0, -3:]
        assert (np.abs(band - bar[:, None, None]).max((1, 2)) > 0.3).all()  # a sign


def test_covered_shares_of_pixels():
    share = covered(jnp.array([0.0, 0.3]), jnp.array([0.25, 0.1]), 4)
    np.testing.assert_allclose(share, np.array([[1, 0, 0, 0], [0, 0.4, 0, 0]]), atol=1e-6)
    np.testing.assert_allclose(covered(jnp.array(0.4), jnp.array(0.3), 5), [0, 0, 1, 0.5, 0], atol=1e-6)
