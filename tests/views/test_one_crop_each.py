"""One view of each photo of an item."""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.views import OneCropEach

OFF = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0, mean=(0, 0, 0), std=(1, 1, 1))
make = jax.jit(lambda views, rng, batch: views(rng, batch)["views"], static_argnums=0)


def batch(photos):
    image = np.random.default_rng(0).integers(0, 256, (4, photos, 16, 16, 3), np.uint8)
    return {"image": jnp.asarray(image), "aspect": jnp.ones((4, photos))}


def test_each_photo_has_one_view_in_its_place():
    for photos in (1, 3):
        views = make(OneCropEach(size=16, **OFF), jax.random.key(0), batch(photos))
        assert len(views) == photos
        for k, view in enumerate(views):
            np.testing.assert_allclose(view, batch(photos)["image"][:, k] / 255, atol=1e-5)


def test_photos_of_an_item_are_cropped_apart():
    same = batch(3) | {"image": jnp.repeat(batch(1)["image"], 3, axis=1)}
    first, second, third = make(OneCropEach(size=12), jax.random.key(0), same)
    assert np.abs(first - second).max() > 0.01 and np.abs(second - third).max() > 0.01
    np.testing.assert_array_equal(make(OneCropEach(size=12), jax.random.key(0), same)[1], second)
