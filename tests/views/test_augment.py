"""The augmentation of one view: what happens, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.types import UserError
from ssljax.views import Augmentation
from ssljax.views import augment as plain_augment

augment = jax.jit(plain_augment, static_argnums=(3, 4))

OFF = dict(scale=(1.0, 1.0), blur_sigma=(1.0, 2.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0, solarise=0.0)


def photos_of(batch, size=12, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (batch, size, size, 3), np.uint8))


def test_nothing_happens_to_a_whole_photo():
    photos = photos_of(3)
    result = augment(jax.random.key(0), photos, jnp.ones(3), 12, Augmentation(**OFF | {"ratio": (1.0, 1.0)}))
    np.testing.assert_allclose(result, photos / 255, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("flip", lambda images: images[:, :, ::-1]),
        ("grey", lambda images: (images @ np.array([0.2989, 0.587, 0.114]))[..., None].repeat(3, -1)),
        ("solarise", lambda images: np.where(images >= 0.5, 1 - images, images)),
        ("blur", None),
        ("jitter", None),
    ],
)
def test_each_happens_to_its_share_of_the_images(name, change):
    n, probability = 600, 0.3
    photos, aspect = photos_of(n), jnp.ones(n)

    def run(value):
        augmentation = Augmentation(**OFF | {"ratio": (1.0, 1.0), name: value})
        return np.asarray(augment(jax.random.key(5), photos, aspect, 12, augmentation))

    original, result, always = run(0.0), run(probability), run(1.0)
    changed = np.abs(result - original).max((1, 2, 3)) > 1e-4
    assert abs(changed.mean() - probability) < 4 * (probability * (1 - probability) / n) ** 0.5
    assert (np.abs(always - original).max((1, 2, 3)) > 1e-4).all()
    np.testing.assert_allclose(result[changed], always[changed], atol=1e-5)
    if change:
        np.testing.assert_allclose(always, change(original), atol=1e-5)


@pytest.mark.parametrize("hue", [0.1, 0.5])
def test_views_are_finite_and_in_range(hue):
    n = 64
    photos = (
        photos_of(n).at[:4].set(0).at[4:8].set(255).at[8:12].set(jnp.array([255, 0, 0], jnp.uint8)[None, None, None])
    )
    aspect = jnp.asarray(np.exp(np.linspace(-5, 5, n)), jnp.float32)
    strong = Augmentation(
        scale=(0.001, 1.0), brightness=0.8, contrast=2.0, saturation=3.0, hue=hue, blur=1.0, solarise=0.5
    )
    result = np.asarray(augment(jax.random.key(0), photos, aspect, 20, strong))
    assert result.shape == (n, 20, 20, 3)
    assert np.isfinite(result).all()
    assert result.min() >= -1e-5
    assert result.max() <= 1 + 1e-5


def test_whole_numbers_are_numbers():
    whole = Augmentation((1, 1), (1, 1), 1, 1, 1, 1, 1, 0, 0, 0, (1, 2), 0)
    real = Augmentation((1.0, 1.0), (1.0, 1.0), 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, (1.0, 2.0), 0.0)
    results = [plain_augment(jax.random.key(0), photos_of(3), jnp.ones(3), 12, a) for a in (whole, real)]
    np.testing.assert_allclose(*results, atol=1e-6)


def test_every_image_has_random_numbers_of_its_own():
    photos = jnp.broadcast_to(photos_of(1), (16, 12, 12, 3))
    result = np.asarray(augment(jax.random.key(0), photos, jnp.ones(16), 12, Augmentation()))
    assert len(np.unique(result.reshape(16, -1), axis=0)) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip", 1.5),
        ("blur", -0.1),
        ("grey", float("nan")),
        ("scale", (0.5, 0.2)),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 1.2)),
        ("ratio", (-1.0, 1.0)),
        ("blur_sigma", (0.0, 1.0)),
        ("contrast", -0.1),
        ("hue", 0.6),
    ],
)
def test_a_mistake_is_named(field, value):
    with pytest.raises(UserError, match=f"^views.{field}="):
        Augmentation(**{field: value})
