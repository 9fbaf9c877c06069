"""The pairs of views that the literature names: what they do to photos."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.types import UserError
from ssljax.views import asymmetric_pair, symmetric_pair, weak_pair, weak_strong_pair

N = 300
PLAIN = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
COLOURS = ("brightness", "contrast", "saturation", "hue")


def photos():
    image = np.random.default_rng(0).integers(0, 256, (N, 1, 16, 16, 3), np.uint8)
    return {"image": jnp.asarray(image), "aspect": jnp.ones((N, 1))}


def raw(views, batch):
    """Both views, in [0, 1]."""
    made = jax.jit(lambda rng, batch: views(rng, batch)["views"])(jax.random.key(0), batch)
    return [np.asarray(views.pixels(view)) for view in made]


def test_weak_and_symmetric_are_two_views_alike_of_the_published_strengths():
    weak, strong = weak_pair(32), symmetric_pair(32)
    assert weak.second is None and strong.second is None
    assert [getattr(weak, c) for c in COLOURS] == [0.4, 0.4, 0.4, 0.1]
    assert [getattr(strong, c) for c in COLOURS] == [0.8, 0.8, 0.8, 0.2]
    assert weak.scale == strong.scale == (0.08, 1.0)
    assert weak.blur == strong.blur == 0.5 and weak.size == 32


def test_the_second_view_of_the_asymmetric_pair_is_solarised_one_time_in_five():
    batch = photos()
    off = raw(asymmetric_pair(16, **PLAIN, jitter=0.0, grey=0.0, solarise=0.0, blur=(0.0, 0.0)), batch)
    first, second = raw(asymmetric_pair(16, **PLAIN, jitter=0.0, grey=0.0, blur=(0.0, 0.0)), batch)
    np.testing.assert_allclose(first, off[0], atol=1e-5)
    changed = np.abs(second - off[1]).max((1, 2, 3)) > 1e-3
    assert abs(changed.mean() - 0.2) < 4 * (0.2 * 0.8 / N) ** 0.5
    np.testing.assert_allclose(second[changed], np.where(off[1] >= 0.5, 1 - off[1], off[1])[changed], atol=1e-4)


def test_the_first_view_of_the_asymmetric_pair_is_always_blurred_and_the_second_one_time_in_ten():
    batch = photos()
    off = dict(PLAIN, jitter=0.0, grey=0.0, solarise=0.0, blur_sigma=(1.0, 2.0))
    sharp = raw(asymmetric_pair(16, **off, blur=(0.0, 0.0)), batch)
    for view, without, share in zip(raw(asymmetric_pair(16, **off), batch), sharp, (1.0, 0.1), strict=True):
        changed = np.abs(view - without).max((1, 2, 3)) > 1e-3
        assert abs(changed.mean() - share) <= 4 * (0.1 * 0.9 / N) ** 0.5 * (share < 1)


def test_the_weak_view_of_the_weak_strong_pair_is_cropped_and_mirrored_alone():
    batch = photos()
    pair = weak_strong_pair(16, **PLAIN)
    first, second = raw(pair, batch)
    original = np.asarray(batch["image"][:, 0]) / 255
    np.testing.assert_allclose(second, original, atol=1e-4)
    assert (np.abs(first - original).max((1, 2, 3)) > 1e-3).mean() > 0.8
    assert weak_strong_pair(16).second.scale == weak_strong_pair(16).scale == (0.08, 1.0)
    assert weak_strong_pair(16, flip=0.0).second.flip == 0.0


@pytest.mark.parametrize("pair", [weak_pair, symmetric_pair, asymmetric_pair, weak_strong_pair])
def test_changes_hold_for_both_views_and_mistakes_are_named(pair):
    views = pair(32, scale=(0.2, 1.0))
    assert views.scale == (views.second or views).scale == (0.2, 1.0)
    with pytest.raises(UserError, match=r"^views\.scale="):
        pair(32, scale=(0.0, 1.0))
