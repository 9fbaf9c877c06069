"""Warps: equal to scipy's and Pillow's, and the homographies to their definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ssljax.views import Perspective, Rotation
from ssljax.views.disturbances import perspective
from ssljax.views.disturbances.perspective import from_square_to

warp = jax.jit(perspective.warp)
rotation = jax.jit(perspective.rotation, static_argnums=1)
disturb = jax.jit(lambda kind, rng, images, strength: kind().disturb(rng, images, strength), static_argnums=0)


def images_of(batch=2, height=21, width=21, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(ndimage.gaussian_filter(rng.random((batch, 3, height, width)), (0, 0, 1, 1)), jnp.float32)


def corners_of(seed, batch=1, most=0.25):
    rng = np.random.default_rng(seed)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    return square[None] + rng.uniform(-most, most, (batch, 4, 2)).astype(np.float32)


def homography(corners):
    """From the unit square, by its eight linear equations."""
    rows, right = [], []
    for (x, y), (u, v) in zip([(0, 0), (1, 0), (1, 1), (0, 1)], corners, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), right), 1).reshape(3, 3)


def warped(image, matrix):
    """One image f32[3, H, W], by scipy; beyond the border are the border's pixels."""
    _, height, width = image.shape
    y, x = np.mgrid[:height, :width]
    positions = np.stack([(x + 0.5) / width, (y + 0.5) / height, np.ones_like(x)])
    u, v, w = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), positions)
    source = [v / w * height - 0.5, u / w * width - 0.5]
    return np.stack([ndimage.map_coordinates(plane, source, order=1, mode="nearest") for plane in image])


def test_from_square_to_is_the_homography_of_the_corners():
    corners = corners_of(0, batch=8)
    corners[0] = [(0.1, 0.2), (0.9, 0.2), (0.9, 0.7), (0.1, 0.7)]  # a rectangle: no perspective
    result = from_square_to(jnp.asarray(corners))
    np.testing.assert_allclose(result, np.stack([homography(c) for c in corners]), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(21, 21), (16, 24)])
def test_warp_is_scipys(height, width):
    images = images_of(4, height, width)
    matrices = np.stack([homography(c) for c in corners_of(1, batch=4)])
    result = warp(images, jnp.asarray(matrices, jnp.float32), jnp.ones(4, bool))
    for row in range(4):
        np.testing.assert_allclose(result[row], warped(np.asarray(images[row]), matrices[row]), atol=2e-4)


def test_the_identity_changes_nothing_and_only_the_chosen_move():
    images = images_of()
    identity = jnp.stack([jnp.eye(3)] * 2)
    np.testing.assert_allclose(warp(images, identity, jnp.ones(2, bool)), images, atol=1e-5)
    turned = warp(images, rotation(jnp.full(2, 0.3), 1.0), jnp.array([False, True]))
    np.testing.assert_array_equal(turned[0], images[0])
    assert float(jnp.abs(turned[1] - images[1]).max()) > 0.1


@pytest.mark.parametrize("degrees", [-40, 10, 90])
def test_rotation_is_pillows(degrees):
    images = images_of(1)
    result = warp(images, rotation(jnp.radians(jnp.array([degrees])), 1.0), jnp.ones(1, bool))
    inner = (np.hypot(*np.mgrid[-10:11, -10:11]) < 9)[None]  # what has not come from beyond the border
    planes = [Image.fromarray(plane).rotate(-degrees, Image.Resampling.BILINEAR) for plane in np.asarray(images[0])]
    np.testing.assert_allclose(inner * result[0], inner * np.stack(planes), atol=1e-4)


def test_quarter_and_half_turns_are_exact_and_the_center_stays():
    images = images_of(1)
    quarter = warp(images, rotation(jnp.array([jnp.pi / 2]), 1.0), jnp.ones(1, bool))
    np.testing.assert_allclose(quarter, np.rot90(images, -1, axes=(2, 3)), atol=1e-5)
    oblong = images_of(1, 16, 24)
    half = warp(oblong, rotation(jnp.array([jnp.pi]), 24 / 16), jnp.ones(1, bool))
    np.testing.assert_allclose(half, oblong[:, :, ::-1, ::-1], atol=1e-5)
    some = warp(images, rotation(jnp.array([0.7]), 1.0), jnp.ones(1, bool))
    np.testing.assert_allclose(some[0, :, 10, 10], images[0, :, 10, 10], atol=1e-5)


def test_an_image_that_is_no_square_is_turned_and_not_sheared():
    y, x = np.mgrid[:20, :40]
    disc = (np.hypot(y - 9.5, x - 19.5) < 6).astype(np.float32)[None, None].repeat(3, 1)
    turned = warp(jnp.asarray(disc), rotation(jnp.array([0.5]), 2.0), jnp.ones(1, bool))
    assert np.abs(turned - disc).mean() < 0.02


def test_a_rotation_is_by_45_degrees_at_strength_1_either_way():
    n = 40
    images = jnp.repeat(images_of(1), n, axis=0)
    for strength in (0.2, 1.0):
        result = np.asarray(disturb(Rotation, jax.random.key(0), images, jnp.full(n, strength)))
        angle = jnp.radians(45.0) * strength
        left, right = (warp(images[:1], rotation(a[None], 1.0), jnp.ones(1, bool)) for a in (-angle, angle))
        to_left, to_right = (np.abs(result - turned).max((1, 2, 3)) < 1e-4 for turned in (left, right))
        assert (to_left != to_right).all()
        assert 8 < to_left.sum() < 32


def position(size=40):
    """A photo whose red and green are the position (x, y) in [0, 1], and blue 0.3."""
    ramp = (np.arange(size) + 0.5) / size
    return np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 0.3)).astype(np.float32)


def at_corners(images):
    """The four corners' red and green."""
    return np.asarray(images)[..., :2, [0, 0, -1, -1], [0, -1, 0, -1]]


def test_perspective_moves_the_corners_inwards_by_a_quarter_of_the_side_at_most():
    photo, n = position(), 64
    result = np.asarray(disturb(Perspective, jax.random.key(0), jnp.asarray(photo)[None].repeat(n, 0), jnp.ones(n)))
    np.testing.assert_allclose(result[:, 2], 0.3, atol=1e-5)  # no black corners
    middle = result[:, :, 10:-10, 10:-10]
    assert (np.diff(middle[:, 0], axis=2) > 0).all() and (np.diff(middle[:, 1], axis=1) > 0).all()  # not of the border
    assert np.abs(at_corners(result) - at_corners(photo)).max() < 0.1  # nothing of the photo is lost


def test_a_horizon_in_the_frame_does_not_turn_the_photo_over():
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    inwards = np.array(list(itertools.product((0, 0.25), repeat=8)), np.float32).reshape(-1, 4, 2)
    matrices = from_square_to(jnp.asarray(square + (1 - 2 * square) * inwards))
    edges = jnp.linalg.inv(matrices)[:, 2] @ jnp.asarray(np.append(square, np.ones((4, 1)), axis=1).T, jnp.float32)
    assert edges.min() < 0  # a corner of the frame lies beyond the horizon
    images = jnp.asarray(position())[None].repeat(len(inwards), 0)
    result = warp(images, matrices, jnp.ones(len(inwards), bool))
    assert np.abs(at_corners(result) - at_corners(position())).max() < 0.3
