"""Watermarks from a folder, and drawn; and folders that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssljax.types import UserError
from ssljax.views import Scribble, Watermark

GREY = jnp.full((40, 3, 32, 32), 0.5)


@pytest.fixture
def pool(tmp_path):
    """A folder with a red mark twice as wide as high, opaque but for its surroundings."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[10:30, 10:50] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "mark.png")
    return tmp_path


def laid(watermark, strength=1.0):
    return np.asarray(jax.jit(watermark.disturb)(jax.random.key(0), GREY, jnp.full(40, strength)))


def test_a_mark_keeps_its_shape_and_its_colour(pool):
    result = laid(Watermark(pool=str(pool), tiled=0.0, opacity=(1.0, 1.0), scale=(0.5, 0.5)))
    marked = result[:, 1] < 0.25  # green gives way to red
    high, wide = marked.any(2).sum(1), marked.any(1).sum(1)
    assert np.all(np.abs(wide - 16) <= 1) and np.all(np.abs(high - 8) <= 1)
    assert np.all(np.abs(result[:, 0][marked] - 1) < 0.35) and len({tuple(m.any(1)) for m in marked}) > 5


def test_a_tiling_covers_more_and_strength_makes_it_stronger(pool):
    once = np.abs(laid(Watermark(pool=str(pool), tiled=0.0)) - 0.5)
    tiled = np.abs(laid(Watermark(pool=str(pool), tiled=1.0)) - 0.5)
    assert (tiled > 0.02).any(1).mean() > 1.2 * (once > 0.02).any(1).mean()
    weak = np.abs(laid(Watermark(pool=str(pool), tiled=0.0), 0.3) - 0.5)
    assert 0 < weak.mean() < once.mean()


def empty(folder):
    (folder / "mark.png").unlink()


def without_alpha(folder):
    Image.new("RGB", (8, 8)).save(folder / "plain.png")


def transparent(folder):
    Image.new("RGBA", (8, 8)).save(folder / "nothing.png")


def no_image(folder):
    (folder / "notes.txt").write_text("not a mark")


WRONG = {
    "holds no file": empty,
    "plain.png has no alpha channel": without_alpha,
    "nothing.png is transparent all over": transparent,
    "notes.txt cannot be read as PNG or WebP": no_image,
}


@pytest.mark.parametrize("sentence, spoil", WRONG.items(), ids=WRONG)
def test_a_folder_that_is_no_pool_is_told_before_training(sentence, spoil, pool):
    spoil(pool)
    watermark = Watermark(pool=str(pool))
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda: watermark(jax.random.key(0), GREY))
    assert sentence in str(caught.value) and "Watermark.pool=" in str(caught.value)


def test_mistakes_are_named(pool):
    with pytest.raises(UserError, match=r"Watermark.pool='nowhere' is not there"):
        jax.eval_shape(lambda: Watermark(pool="nowhere")(jax.random.key(0), GREY))
    with pytest.raises(UserError, match=r"Watermark.opacity=\(0.5, 2.0\)"):
        Watermark(opacity=(0.5, 2.0))
    with pytest.raises(UserError, match=r"Watermark.tiled=2"):
        Watermark(tiled=2.0)
    with pytest.raises(UserError, match=r"Scribble.most=0"):
        Scribble(most=0)
