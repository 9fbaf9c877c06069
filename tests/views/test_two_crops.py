"""Two crops of each photo, as the training step sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image
from traffic import sent

from ssljax.types import UserError
from ssljax.views import Augmentation, Masked, TwoCrops

ASYMMETRIC = TwoCrops(size=16, blur=1.0, second=Augmentation(blur=0.1, solarise=0.2))


make = jax.jit(lambda views, rng, batch: views(rng, batch), static_argnums=0)
evaluate = jax.jit(lambda views, batch: views.evaluation(batch), static_argnums=0)


def batch_of(batch, size=20, photos=1, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (batch, photos, size, size, 3), np.uint8)),
        "aspect": jnp.asarray(np.exp(rng.normal(0, 0.4, (batch, photos))), jnp.float32),
        "index": jnp.arange(batch),
    }


def test_two_views_of_the_first_photo_and_the_rest_of_the_batch():
    batch = batch_of(4, photos=2)
    result = make(TwoCrops(size=16), jax.random.key(0), batch)
    assert [view.shape for view in result["views"]] == [(4, 16, 16, 3)] * 2
    assert all(view.dtype == jnp.float32 for view in result["views"])
    np.testing.assert_array_equal(result["index"], batch["index"])
    other = batch | {"image": batch["image"].at[:, 1].set(0)}
    np.testing.assert_array_equal(make(TwoCrops(size=16), jax.random.key(0), other)["views"][0], result["views"][0])


def test_the_views_differ_and_the_key_decides():
    batch = batch_of(4, photos=2)
    first, second = make(TwoCrops(size=16), jax.random.key(0), batch)["views"]
    assert (np.abs(first - second).max((1, 2, 3)) > 0.01).all()
    np.testing.assert_array_equal(make(TwoCrops(size=16), jax.random.key(0), batch)["views"][0], first)
    assert np.abs(make(TwoCrops(size=16), jax.random.key(1), batch)["views"][0] - first).max() > 0.01


def test_the_second_view_can_have_an_augmentation_of_its_own():
    off = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
    batch = batch_of(4, size=16) | {"aspect": jnp.ones((4, 1))}
    views = TwoCrops(size=16, **off, mean=(0, 0, 0), std=(1, 1, 1), second=Augmentation(**off | {"solarise": 1.0}))
    first, second = np.asarray(make(views, jax.random.key(0), batch)["views"])
    np.testing.assert_allclose(second, np.where(first >= 0.5, 1 - first, first), atol=1e-6)
    np.testing.assert_allclose(first, batch["image"][:, 0] / 255, atol=1e-5)


@pytest.mark.parametrize("run", [evaluate, lambda views, batch: make(views, jax.random.key(0), batch)])
def test_views_are_normalised(run):
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
    off = dict(jitter=0.0, grey=0.0, blur=0.0)
    raw = run(TwoCrops(size=16, **off, mean=(0, 0, 0), std=(1, 1, 1)), batch_of(4))["views"]
    result = run(TwoCrops(size=16, **off, mean=mean, std=std), batch_of(4))["views"]
    np.testing.assert_allclose(result, (np.asarray(raw) - mean) / std, atol=1e-4)


def test_pixels_are_what_was_normalised():
    off = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
    views, batch = TwoCrops(size=20, **off), batch_of(4) | {"aspect": jnp.ones((4, 1))}
    for shown in (Masked(views, patch=10), views):
        view = make(shown, jax.random.key(0), batch)["views"][0]
        np.testing.assert_allclose(shown.pixels(view), batch["image"][:, 0] / 255, atol=1e-5)


def test_evaluation_is_the_whole_photo_unless_it_is_elongated():
    batch = batch_of(3, size=24) | {"aspect": jnp.array([[0.75], [0.3], [3.0]])}
    (result,) = evaluate(TwoCrops(size=10, mean=(0, 0, 0), std=(1, 1, 1)), batch)["views"]
    boxes = [(0, 0, 24, 24), (0, 24 * 0.3, 24, 24 * 0.7), (24 * 5 / 18, 0, 24 * 13 / 18, 24)]
    for row, box in enumerate(boxes):
        plane = Image.fromarray(np.asarray(batch["image"][row, 0, :, :, 0]).astype(np.float32) / 255)
        expected = np.asarray(plane.resize((10, 10), Image.Resampling.BILINEAR, box=box))
        np.testing.assert_allclose(result[row, :, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [9, 30])
@pytest.mark.parametrize("filter", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_evaluation_is_what_pillow_makes_of_the_central_square_or_of_the_whole_photo(size, filter, share):
    batch = batch_of(3, size=24) | {"aspect": jnp.array([[0.75], [0.3], [3.0]])}
    squares = [(0, 3, 24, 21), (0, 24 * 0.35, 24, 24 * 0.65), (8, 0, 16, 24)]
    for fit, boxes in {"square": squares, "squeeze": [(0, 0, 24, 24)] * 3}.items():
        views = TwoCrops(size=size, fit=fit, share=share, resampling=filter.name.lower(), mean=(0, 0, 0), std=(1, 1, 1))
        (result,) = evaluate(views, batch)["views"]
        for row, (left, top, right, bottom) in enumerate(boxes):
            cut = (1 - share) / 2 * (right - left), (1 - share) / 2 * (bottom - top)
            box = left + cut[0], top + cut[1], right - cut[0], bottom - cut[1]
            plane = Image.fromarray(np.asarray(batch["image"][row, 0, :, :, 0]).astype(np.float32) / 255)
            expected = np.asarray(plane.resize((size, size), filter, box=box)).clip(0, 1)
            np.testing.assert_allclose(result[row, :, :, 0], expected, atol=2e-5)


@pytest.mark.parametrize("share", [1.0, 0.75])
@pytest.mark.parametrize("filter", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_evaluation_of_a_padded_photo_is_all_of_it_on_white(filter, share):
    """What Pillow makes of a photo that was pasted on a white square, whatever `ratio` is."""
    batch = batch_of(3, size=24) | {"aspect": jnp.array([[1.0], [2.0], [0.5]])}
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1), "ratio": (1.0, 1.0)}
    views = TwoCrops(size=10, fit="pad", share=share, resampling=filter.name.lower(), **plain)
    (result,) = evaluate(views, batch)["views"]
    tall, wide = (48, 24), (24, 48)  # the photo's lines are as far apart as they were squashed
    for row, shape in enumerate([(24, 24), tall, wide]):
        square = np.ones(shape, np.float32)
        top, left = (shape[0] - 24) // 2, (shape[1] - 24) // 2
        square[top : top + 24, left : left + 24] = batch["image"][row, 0, :, :, 0] / 255
        start, end = (1 - share) / 2, (1 + share) / 2
        box = start * shape[1], start * shape[0], end * shape[1], end * shape[0]
        expected = np.asarray(Image.fromarray(square).resize((10, 10), filter, box=box)).clip(0, 1)
        np.testing.assert_allclose(result[row, :, :, 0], expected, atol=1e-5)


def test_no_photo_leaves_the_white_square():
    white = {"image": jnp.full((5, 1, 16, 16, 3), 255, jnp.uint8)}
    views, aspect = TwoCrops(size=9, fit="pad"), jnp.array([[1.0], [1.01], [0.3], [7.77], [30.0]])
    result = views.pixels(evaluate(views, white | {"aspect": aspect})["views"][0])
    np.testing.assert_allclose(result, 1.0, atol=1e-5)
    black = views.pixels(evaluate(views, {"image": white["image"] * 0, "aspect": aspect})["views"][0])
    assert float(jnp.abs(black[0]).max()) < 1e-5 and float(black.min()) > -1e-5
    # of the sides' share, each photo covers 1 / aspect
    np.testing.assert_allclose(1 - black.mean((1, 2, 3)), 1 / jnp.maximum(aspect, 1 / aspect)[:, 0], atol=0.01)


def test_it_compiles_once():
    traces = []

    @jax.jit
    def views(rng, batch):
        traces.append(0)
        return TwoCrops(size=8, jitter=0.0)(rng, batch)["views"]

    for seed in range(3):
        views(jax.random.key(seed), batch_of(4, seed=seed))
    assert len(traces) == 1


def test_eight_devices_make_what_one_makes_without_speaking_to_each_other():
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,))
    batch = batch_of(2 * devices)
    views = jax.jit(lambda rng, batch: (ASYMMETRIC(rng, batch)["views"], ASYMMETRIC.evaluation(batch)["views"]))
    expected = views(jax.random.key(0), batch)

    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    compiled = views.lower(rng, sharded).compile()
    assert not sent(compiled)
    result = compiled(rng, sharded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), result, expected)
    assert all(len(view.sharding.device_set) == devices for view in jax.tree.leaves(result))
    assert not any(view.sharding.is_fully_replicated for view in jax.tree.leaves(result)) or devices == 1


@pytest.mark.parametrize(("field", "value"), [("size", 0), ("flip", 2.0)])
def test_a_mistake_is_named(field, value):
    with pytest.raises(UserError, match=f"^views.{field}="):
        TwoCrops(**{field: value})


def test_evaluation_may_be_at_another_size():
    batch = {"image": np.zeros((2, 1, 20, 20, 3), np.uint8), "aspect": np.ones((2, 1), np.float32)}
    assert TwoCrops(size=16, evaluation_size=24).evaluation(batch)["views"][0].shape == (2, 24, 24, 3)
    assert TwoCrops(size=16).evaluation(batch)["views"][0].shape == (2, 16, 16, 3)


def test_natural_views_are_of_the_second_photo_in_their_share_of_items():
    image = jnp.stack([jnp.zeros((400, 8, 8, 3), jnp.uint8), jnp.full((400, 8, 8, 3), 255, jnp.uint8)], axis=1)
    batch = {"image": image, "aspect": jnp.ones((400, 2))}
    views = TwoCrops(size=4, jitter=0.0, blur=0.0, natural=0.3, mean=(0.0,) * 3, std=(1.0,) * 3)
    first, second = views(jax.random.PRNGKey(0), batch)["views"]
    assert not np.any(first)
    share = np.mean(np.asarray(second).mean((1, 2, 3)))
    assert 0.3 - 0.1 < share < 0.3 + 0.1  # 4 standard deviations
    with pytest.raises(
        UserError, match=r"views.natural=0.3 needs two photos of a listing: choose sampler=Listings\(\)"
    ):
        views(jax.random.PRNGKey(0), {"image": image[:, :1], "aspect": jnp.ones((400, 1))})
    with pytest.raises(UserError, match=r"views.share=0.0 is not a share"):
        TwoCrops(share=0.0)
    with pytest.raises(UserError, match=r"views.natural=1.5 is not a share"):
        TwoCrops(natural=1.5)
