"""Watermarks: found at their place, not found where there are none, and removed."""

import numpy as np
import pytest
from PIL import Image
from stamped import HEIGHT, WIDTH, mark, photos, stamp

from ssljax.data.watermark_removal import LEAST, Gap, find_mark


def psnr(a, b, where):
    return -10 * np.log10(np.mean(((a[:, where].astype(float) - b[:, where]) / 255) ** 2))


@pytest.mark.parametrize("opacity", (0.3, 0.6, 0.8))
def test_a_mark_is_found_at_its_place_and_removed(opacity):
    clean, (laid, colour) = photos(24), mark(opacity)
    marked = stamp(clean, laid, colour)
    found = find_mark(list(marked))
    where = laid > 0
    assert (found.mask & where).sum() > 0.95 * where.sum() and (found.mask & ~where).sum() < where.sum()
    assert abs(np.median(found.opacity[where]) - opacity) < 0.1
    assert all(found.is_on(photo) for photo in marked)
    removed = np.stack([found.remove(photo) for photo in marked])
    np.testing.assert_array_equal(removed[:, ~found.mask], marked[:, ~found.mask])
    assert psnr(removed, clean, where) > psnr(marked, clean, where) + 6


def test_an_opaque_mark_is_filled_from_around():
    clean, (laid, colour) = photos(24), mark(1.0)
    marked = stamp(clean, laid, colour)
    found = find_mark(list(marked))
    removed = np.stack([found.remove(photo) for photo in marked])
    assert found.strength > 0.9 and psnr(removed, clean, laid > 0) > psnr(marked, clean, laid > 0) + 3


@pytest.mark.parametrize("n", (LEAST, 15, 30))
def test_no_mark_is_found_where_there_is_none(n):
    assert not any(find_mark(list(photos(n, seed))) for seed in range(5))


def test_outlines_that_most_photos_share_are_no_mark():
    rng = np.random.default_rng(0)
    boxes = np.full((30, HEIGHT, WIDTH, 3), 255, np.uint8)
    for box in boxes:  # an item on white, as shops show it: never quite at one place
        top, left = rng.integers(10, 14, 2)
        box[top : top + 46, left : left + 36] = rng.integers(0, 200, 3)
    assert find_mark(list(boxes)) is None


def test_versions_of_one_photo_are_no_mark():
    scene = photos(1)[0]
    rng = np.random.default_rng(0)
    tinted = [np.clip(scene * rng.uniform(0.6, 1, 3), 0, 255).astype(np.uint8) for _ in range(20)]
    assert find_mark(tinted) is None


def test_few_photos_are_too_few():
    marked = stamp(photos(LEAST - 1), *mark(0.8))
    assert find_mark(list(marked)) is None and find_mark([]) is None


def test_photos_without_the_mark_are_told_apart():
    clean = photos(34)
    found = find_mark(list(np.concatenate([stamp(clean[:30], *mark()), clean[30:]])))
    assert not any(found.is_on(photo) for photo in clean) and not found.is_on(clean[0][:30])


def test_a_mark_that_keeps_its_distance_from_a_corner_is_found_in_photos_of_all_shapes():
    laid, colour = mark(0.7)
    marked, where = [], []
    for k in range(20):
        width = WIDTH + k % 3
        photo = photos(1, seed=k, width=width)[0]
        a = np.zeros((HEIGHT, width), np.float32)
        a[:, width - WIDTH :] = laid
        marked.append(stamp(photo[None], a, colour)[0])
        where.append(a > 0)
    found = find_mark(marked)
    assert found.anchor[1] == 1 and all(found.is_on(photo) for photo in marked)
    for photo, there in zip(marked, where, strict=True):
        assert (found.remove(photo) != photo).any(axis=-1)[there].mean() > 0.9


def test_one_photo_of_another_shape_does_not_hide_the_mark():
    marked = stamp(photos(20), *mark())
    found = find_mark([*marked, photos(1, height=10, width=90)[0]])
    assert found.mask.shape == (HEIGHT, WIDTH) and found.is_on(marked[0])


def test_a_large_photo_is_cleaned_by_what_was_found_in_small_ones():
    clean, (laid, colour) = photos(20), mark(0.7)
    marked = stamp(clean, laid, colour)
    found = find_mark(list(marked))
    enlarge = [np.asarray(Image.fromarray(x).resize((3 * WIDTH, 3 * HEIGHT))) for x in (marked[0], clean[0])]
    assert found.is_on(enlarge[0])
    where = np.kron(laid > 0, np.ones((3, 3))).astype(bool)
    removed = found.remove(enlarge[0])
    assert psnr(removed[None], enlarge[1][None], where) > psnr(enlarge[0][None], enlarge[1][None], where) + 6


def test_a_gap_is_filled_with_what_is_linear_around_it():
    y, x = np.mgrid[:12, :15]
    image = np.stack([2 * y + x, 5.0 - y], axis=-1)
    mask = np.zeros((12, 15), bool)
    mask[3:9, 4:11] = True
    np.testing.assert_allclose(Gap(mask).fill(np.where(mask[..., None], 0, image)), image, atol=1e-9)


def test_a_gap_is_filled_by_given_steps():
    image = np.random.default_rng(0).random((9, 10, 1))
    steps = np.stack([np.diff(image, axis=k, prepend=0) for k in (0, 1)], axis=-1)
    mask = np.zeros((9, 10), bool)
    mask[2:, 3:] = True  # to the photo's border
    np.testing.assert_allclose(Gap(mask).fill(np.where(mask[..., None], 0, image), steps), image, atol=1e-9)
