"""A few images at a time, as on one CPU, or all of them, as elsewhere: the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from disturbances import disturb, every, items
from target import mesh_of

from ssljax.sharding import one_cpu
from ssljax.views import JPEG, Augmentation, Collage, EcommerceViews, augment
from ssljax.views.boxes import resize
from ssljax.views.cpu import PART
from ssljax.views.disturbances.disturbance import change
from ssljax.views.resample import Box, resize_weights


def on_one_cpu(monkeypatch, function, *args):
    """What a jitted function gives on a machine with one CPU; these tests have eight devices."""
    assert not one_cpu()
    with monkeypatch.context() as only:
        only.setattr(jax, "device_count", lambda *_: 1)
        assert one_cpu()
        return jax.jit(lambda *args: function(*args))(*args)


def with_the_next(images, amounts, chosen):
    return change(
        images, chosen, lambda take: take(images) + take(amounts)[:, None, None, None] * take(images, ahead=2)
    )


@pytest.mark.parametrize("batch", [1, 2, PART - 1, PART, PART + 1, 3 * PART])
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_the_chosen_change_however_many_they_are(monkeypatch, batch, probability):
    images, amounts = items(batch, 4, 5), jnp.arange(batch, dtype=jnp.float32) + 1
    chosen = jax.random.bernoulli(jax.random.key(batch), probability, (batch,))
    expected = np.array(images)
    ring = PART if batch % PART == 0 else batch
    for k in np.flatnonzero(chosen):
        expected[k] += (k + 1) * images[k // ring * ring + (k + 2) % ring]
    np.testing.assert_allclose(with_the_next(images, amounts, chosen), expected, rtol=1e-6)
    np.testing.assert_allclose(on_one_cpu(monkeypatch, with_the_next, images, amounts, chosen), expected, rtol=1e-6)


def test_no_more_than_the_parts_of_the_chosen_are_computed(monkeypatch):
    seen = []

    def counted(images, chosen):
        def changed(take):
            jax.debug.callback(lambda rows: seen.append(rows), take(jnp.arange(len(images))))
            return 1 - take(images)

        return change(images, chosen, changed)

    chosen = np.zeros(5 * PART, bool)
    chosen[3 :: 5 * PART // (PART + 2)] = True  # a few more than a part
    assert PART < chosen.sum() <= 2 * PART
    jax.block_until_ready(on_one_cpu(monkeypatch, counted, items(5 * PART, 4, 4), jnp.asarray(chosen)))
    jax.effects_barrier()
    assert [len(rows) for rows in seen] == [PART, PART]
    assert set(np.flatnonzero(chosen)) <= set(np.concatenate(seen).tolist())


@every
def test_a_disturbance_is_the_same(monkeypatch, kind):
    images, rng = items(PART + 4), jax.random.key(7)
    strength = jnp.linspace(0, 1, len(images)).at[3:5].set(0)
    result = np.asarray(on_one_cpu(monkeypatch, kind().disturb, rng, images, strength))
    np.testing.assert_allclose(result, disturb(kind, rng, images, strength), atol=1e-5)
    unchanged = np.asarray(strength == 0)
    np.testing.assert_array_equal(result[unchanged], images[unchanged])


@pytest.mark.parametrize(("source", "size"), [(24, 5), (24, 24), (24, 40), (2, 8), (50, 16)])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_a_crop_is_the_same(monkeypatch, source, size, dtype):
    photos = jax.random.randint(jax.random.key(0), (PART + 1, source, source, 3), 0, 256).astype(dtype)
    extents = jax.random.uniform(jax.random.key(1), (2, 2 * len(photos)), minval=0.01).at[:, :3].set(1)
    starts = (1 - extents) * jax.random.uniform(jax.random.key(2), extents.shape)
    boxes, flip = Box(*starts, *extents), jax.random.bernoulli(jax.random.key(3), shape=extents.shape[1:])

    def crops(photos, boxes, flip):
        bicubic = resize(photos, boxes, size, filter="bicubic")
        return resize(photos, boxes, size, flip), resize(photos, boxes, size), bicubic

    result = on_one_cpu(monkeypatch, crops, photos, boxes, flip)
    expected = jax.jit(crops)(photos, boxes, flip)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), result, expected)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "gpu"])
def test_the_target_decides_and_not_the_machine(monkeypatch, platform):
    """On a machine that is one CPU: for another machine all images change at once, without a loop."""
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    photos, aspect = jnp.zeros((PART, 20, 20, 3), jnp.uint8), jnp.ones(PART)
    augmentation = Augmentation(disturbances=(JPEG(), Collage()))
    with jax.sharding.use_abstract_mesh(mesh_of(platform)):
        assert one_cpu() == (platform == "cpu")
        views = jax.make_jaxpr(lambda rng: augment(rng, photos, aspect, 16, augmentation))(jax.random.key(0))
    loops = {"while", "scan"} & {equation.primitive.name for equation in views.eqns}
    assert bool(loops) == (platform == "cpu")


@pytest.mark.parametrize(("terms", "bits", "off"), [(2, 7, 0.02), (1, 10, 0.5)], ids=["tpu", "gpu"])
def test_accelerators_products_change_a_pixel_less_than_rounding_to_a_byte(terms, bits, off):
    """`PRECISION` is two terms of bfloat16 for each factor on a TPU, without the smallest of the four products, and one
    of TensorFloat-32 on a GPU: here of noise in black and white, cropped and resized twice."""

    def split(x):
        parts = []
        for _ in range(terms):
            parts.append(jax.lax.reduce_precision(x - sum(parts), 8, bits))
        return parts

    def product(x, weights):
        terms = [(i + j, a, b) for i, a in enumerate(split(x)) for j, b in enumerate(split(weights))]
        kept = [jnp.einsum("cyx,hy->chx", a, b, precision="highest") for order, a, b in terms if order < 2]
        return sum(kept).swapaxes(1, 2)

    photo = jax.random.bernoulli(jax.random.key(0), 0.5, (3, 64, 64)).astype(jnp.float32)
    start, extent = jnp.array([0.13, 0.21]), jnp.array([0.61, 0.37])
    weights = [*resize_weights(start, extent, 64, 48), *resize_weights(start, extent, 48, 48)]
    exact = rounded = photo
    for w in weights:
        exact = jnp.einsum("cyx,hy->chx", exact, w, precision="highest").swapaxes(1, 2)
        rounded = product(rounded, w)
    difference = 255 * jnp.abs(rounded - exact).max()
    assert off / 100 < difference <= off


def test_a_recipe_is_the_same(monkeypatch):
    photos = jax.random.randint(jax.random.key(0), (PART, 20, 20, 3), 0, 256).astype(jnp.uint8)
    augmentation = Augmentation(disturbances=EcommerceViews().disturbances)

    def views(rng, photos):
        return augment(rng, photos, jnp.ones(PART), 16, augmentation, 2)

    result = on_one_cpu(monkeypatch, views, jax.random.key(1), photos)
    np.testing.assert_allclose(result, jax.jit(views)(jax.random.key(1), photos), atol=1e-4)
