"""Colours: torchvision's formulas, pixel by pixel, and the random order."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ssljax.views import colour
from ssljax.views.colour import BRIGHTNESS, CONTRAST, SATURATION, Jitter

TURN = 3
turn_hue = jax.jit(colour.turn_hue)
draw_jitter = jax.jit(colour.draw_jitter, static_argnums=(2, 3, 4, 5))


@pytest.fixture(params=["cpu", "accelerator"])
def jitter(request):
    return jax.jit(colour.jitter if request.param == "cpu" else colour.jitter.__wrapped__)


def images_of(batch=6, size=5, seed=0):
    images = np.random.default_rng(seed).random((batch, 3, size, size), np.float32)
    images[0, :, 0, 0] = 0  # black, white, grey, pure and equal colours: the corners of HSV
    images[0, :, 0, 1] = 1
    images[0, :, 0, 2] = 0.4
    images[0, :, 0, 3] = (1, 0, 0)
    images[0, :, 0, 4] = (0, 1, 1)
    images[0, :, 1, 0] = (0, 0.7, 0)
    images[0, :, 1, 1] = (0.2, 0.2, 0.9)
    return images


def grey_of(image):
    return 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def turned(image, turn):
    """Each pixel through HSV, by the standard library."""
    result = np.empty_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(float(v) for v in image[:, y, x]))
            result[:, y, x] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    return result


def jittered(image, steps):
    """One image, the operations one after the other; `steps` are pairs of an operation and its amount."""
    for kind, amount in steps:
        if kind == TURN:
            image = turned(image, amount)
        else:
            other = {BRIGHTNESS: 0.0, CONTRAST: grey_of(image).mean(), SATURATION: grey_of(image)[None]}[kind]
            image = np.clip(amount * image + (1 - amount) * other, 0, 1)
    return image


def draw(n, seed=0, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1, chosen=True):
    return draw_jitter(jax.random.key(seed), jnp.full(n, chosen), brightness, contrast, saturation, hue)


def steps_of(amounts, row):
    steps = [(int(k), float(f)) for k, f in zip(amounts.kinds[row], amounts.factors[row], strict=True)]
    if amounts.turns is not None:
        steps.insert(int(amounts.place[row]), (TURN, float(amounts.turns[row])))
    return steps


@pytest.mark.parametrize("seed", range(3))
def test_jitter_is_the_operations_one_after_the_other(jitter, seed):
    images = images_of(24, seed=seed)
    amounts = draw(24, seed, 0.8, 0.8, 0.8, 0.5)
    result = jitter(jnp.asarray(images), amounts)
    expected = [jittered(images[row], steps_of(amounts, row)) for row in range(24)]
    np.testing.assert_allclose(result, np.stack(expected), atol=2e-5)


@pytest.mark.parametrize("off", ["brightness", "contrast", "saturation", "hue"])
def test_a_strength_of_zero_leaves_its_operation_out(jitter, off):
    images = images_of(8)
    amounts = draw(8, **{off: 0.0})
    kinds = {kind for row in range(8) for kind, _ in steps_of(amounts, row)}
    assert kinds == {0, 1, 2, 3} - {["brightness", "contrast", "saturation", "hue"].index(off)}
    expected = [jittered(images[row], steps_of(amounts, row)) for row in range(8)]
    np.testing.assert_allclose(jitter(jnp.asarray(images), amounts), np.stack(expected), atol=2e-5)


def test_hue_alone_and_nothing_at_all(jitter):
    images = jnp.asarray(images_of(4))
    amounts = draw(4, brightness=0, contrast=0, saturation=0)
    np.testing.assert_allclose(jitter(images, amounts), turn_hue(images, amounts.turns), atol=1e-6)
    np.testing.assert_array_equal(jitter(images, draw(4, brightness=0, contrast=0, saturation=0, hue=0)), images)


def test_all_24_orders_are_equally_likely():
    n = 4800
    amounts = draw(n)
    kinds, place = np.asarray(amounts.kinds), np.asarray(amounts.place)
    orders = [tuple(np.insert(kinds[row], place[row], TURN)) for row in range(n)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_amounts_are_uniform_in_their_ranges():
    amounts = draw(4000, brightness=1.5, contrast=0.3, saturation=0.2, hue=0.1)
    for kind, low, high in ((BRIGHTNESS, 0, 2.5), (CONTRAST, 0.7, 1.3), (SATURATION, 0.8, 1.2)):
        factors = np.asarray(amounts.factors[amounts.kinds == kind])
        assert stats.kstest(factors, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.kstest(np.asarray(amounts.turns), stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_images_not_chosen_keep_their_colours(jitter):
    images = jnp.asarray(images_of())
    np.testing.assert_allclose(jitter(images, draw(6, chosen=False)), images, atol=1e-6)


def test_turning_the_hue_there_and_back_changes_nothing():
    images = jnp.asarray(images_of())
    turns = jnp.linspace(-0.5, 0.5, 6)
    np.testing.assert_allclose(turn_hue(turn_hue(images, turns), -turns), images, atol=1e-5)
    np.testing.assert_allclose(turn_hue(images, jnp.ones(6)), images, atol=1e-5)
    red = jnp.array([1.0, 0, 0])[None, :, None, None]
    np.testing.assert_allclose(turn_hue(red, jnp.array([1 / 3]))[0, :, 0, 0], [0, 1, 0], atol=1e-6)


def test_the_blends_by_hand(jitter):
    image = jnp.array([0.2, 0.4, 0.6])[None, :, None, None] * jnp.ones((1, 3, 2, 2))
    light = 0.2 * 0.2989 + 0.4 * 0.587 + 0.6 * 0.114
    for kind, factor, expected in (
        (BRIGHTNESS, 2.0, [0.4, 0.8, 1.0]),
        (CONTRAST, 0.0, [light] * 3),
        (SATURATION, 0.5, [(0.2 + light) / 2, (0.4 + light) / 2, (0.6 + light) / 2]),
    ):
        amounts = Jitter(jnp.array([[kind]]), jnp.array([[factor]]), None, jnp.array([1]))
        np.testing.assert_allclose(jitter(image, amounts)[0, :, 1, 1], expected, atol=1e-6)


def test_drop_colour():
    images = images_of(2)
    result = colour.drop_colour(jnp.asarray(images), jnp.array([True, False]))
    np.testing.assert_allclose(result[0], np.stack([grey_of(images[0])] * 3), atol=1e-6)
    np.testing.assert_array_equal(result[1], images[1])


def test_solarise():
    images = images_of(2)
    result = colour.solarise(jnp.asarray(images), jnp.array([True, False]))
    np.testing.assert_allclose(result[0], np.where(images[0] >= 0.5, 1 - images[0], images[0]))
    np.testing.assert_array_equal(result[1], images[1])
