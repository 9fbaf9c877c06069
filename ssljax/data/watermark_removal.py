"""Watermarks: finds the mark that lies over all photos of a seller in one place, and removes it. Needs no weights.

A photo with a mark is J = a W + (1 - a) I at each pixel: the mark's colour W with opacity a over the photo I. The
photos differ and the mark does not, so that the median over photos of the gradient of J is that of the mark, and about
zero elsewhere (Dekel et al. 2017, "On the Effectiveness of Visible Watermarks"). What follows is simpler than theirs:

- Photos of one kind of item have outlines in common, too. A mark differs from these in that it is at the same pixel in
  every photo: the edges found in four fifths of the photos are looked for in the last fifth, around their place, and
  count as a mark's where most photos have them exactly there.
- Under a mark photos differ less from each other, by the factor 1 - a, than beside it. That gives the opacity.
- Means over photos give the rest: mean J is known, mean I is mean J without the mark's edges (a Poisson equation), and
  I = mean I + (J - mean J) / (1 - a). Where a is near 1 nothing of the photo is left, and the gap is filled smoothly
  from its border (a Laplace equation).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

LEAST = 10  # photos, for a mark to be looked for
MOST = 64  # photos that it is looked for in
LONGEST = 480  # pixels of the longer side of the photos that it is looked for in
FOLDS = 5
REACH = 4  # pixels around its place in which an edge is looked for
SHARE = 0.85  # of the photos that must have the edges exactly at their place
SHARE_OF_PART = 0.5  # the same for each part of the mark, as small parts are easily missed
ALIKE = 0.4  # correlation of two photos' gradients from which on they are versions of one photo
STEP = 6 / 255  # the least edge
NOISE = 4 / 255  # the least deviation of a gradient, as pixels are rounded
SIGNIFICANT = 4.0  # standard errors of a median
SMALLEST = 12  # gradients of a part of a mark
LARGEST = 0.6  # share of the photo under a mark
FAINTEST = 0.1  # opacity of a mark
OPAQUE = 0.85  # from here on nothing of the photo can be got back
ANCHORS = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # down, across


@dataclasses.dataclass(frozen=True, eq=False)
class Mark:
    """A mark over photos, in a frame of h x w pixels."""

    side: int
    """the longer side of a photo, in the frame's pixels"""
    anchor: tuple[float, float]
    """where the frame lies in a photo of another shape, down and across: 0 at its beginning, 1 at its end"""
    mask: np.ndarray
    """bool[h, w]: where it is"""
    opacity: np.ndarray
    """f32[h, w]: a, 0 outside the mask"""
    marked: np.ndarray
    """f32[h, w, 3]: the mean of the photos with it, in [0, 1]"""
    clean: np.ndarray
    """f32[h, w, 3]: the same without it"""
    edges: np.ndarray
    """f32[h, w, 2]: its gradients in grey, downwards and to the right, 0 where there is no edge"""

    @property
    def strength(self) -> float:
        """Its opacity where it covers most: the 90th percentile within the mask."""
        return float(np.quantile(self.opacity[self.mask], 0.9))

    def picture(self) -> np.ndarray:
        """u8[h, w, 3]: the mark alone, over grey."""
        below = (1 - self.opacity[..., None]) * np.where(self.mask[..., None], self.clean, 0.5)
        alone = np.where(self.mask[..., None], self.marked - below, 0)
        return _bytes(alone + 0.5 * (1 - self.opacity[..., None]))

    def is_on(self, photo: np.ndarray) -> bool:
        """Whether a photo u8[H, W, 3] has the mark exactly in its place."""
        framed = _framed(photo, self.side, self.anchor, self.mask.shape)
        if framed is None:
            return False
        return bool(
            _at_their_place([(np.array([0]), self.edges)], _gradients(framed[None]), np.ones_like(self.mask))[0]
        )

    def remove(self, photo: np.ndarray) -> np.ndarray:
        """A photo u8[H, W, 3] without the mark; nothing changes outside the mask."""
        height, width = photo.shape[:2]
        scale = max(height, width) / self.side
        shape = [min(size, round(n * scale)) for size, n in zip((height, width), self.mask.shape, strict=True)]
        top, left = (round(a * (size - n)) for a, size, n in zip(self.anchor, (height, width), shape, strict=True))
        place = np.s_[top : top + shape[0], left : left + shape[1]]
        mask, opacity, marked, clean = (
            _resized(x, shape) for x in (self.mask.astype(np.float32), self.opacity, self.marked, self.clean)
        )
        covered = opacity > OPAQUE
        difference = (photo[place] / np.float32(255) - marked) / (1 - np.minimum(opacity, OPAQUE))[..., None]
        if covered.any():
            difference = Gap(covered).fill(difference)
        removed = photo.copy()
        removed[place] = np.where((mask > 0)[..., None], _bytes(clean + difference), photo[place])
        return removed


def find_mark(photos: Sequence[np.ndarray]) -> Mark | None:
    """The mark that lies over most of the photos; None if none is certain.

    Photos are scaled to one length of the longer side. If their shapes differ, the mark must keep its distance from the
    center or from a corner.

    Args:
      photos: n photos u8[H, W, 3] of one seller. At most `MOST` are looked at; fewer than `LEAST` are too few.
    """
    if len(photos) < LEAST:
        return None
    photos = [photos[k] for k in np.unique(np.linspace(0, len(photos) - 1, MOST).astype(int))]
    side = min(LONGEST, int(np.median([max(photo.shape) for photo in photos])))
    shapes = np.array([_shape(photo, side) for photo in photos])
    shape = tuple(np.quantile(shapes, 0.1, axis=0, method="lower"))  # one panorama must not leave a strip to look at
    for anchor in ANCHORS if np.ptp(shapes, axis=0).any() else ANCHORS[:1]:
        frames = [f for photo in photos if (f := _framed(photo, side, anchor, shape)) is not None]
        mark = _find_in_frames(np.stack(frames), side, anchor) if len(frames) >= LEAST else None
        if mark is not None:
            return mark
    return None


def _shape(photo: np.ndarray, side: int) -> tuple[int, int]:
    """Height and width of a photo whose longer side becomes `side`."""
    height, width = photo.shape[:2]
    return max(1, round(height * side / max(height, width))), max(1, round(width * side / max(height, width)))


def _framed(photo: np.ndarray, side: int, anchor: tuple[float, float], shape: tuple[int, int]) -> np.ndarray | None:
    """f32[h, w, 3] in [0, 1]: the frame of a photo; None if the photo is too small for it."""
    height, width = _shape(photo, side)
    if height < shape[0] or width < shape[1]:
        return None
    if photo.shape[:2] != (height, width):
        photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))
    top, left = round(anchor[0] * (height - shape[0])), round(anchor[1] * (width - shape[1]))
    return photo[top : top + shape[0], left : left + shape[1]].astype(np.float32) / 255


def _find_in_frames(frames: np.ndarray, side: int, anchor: tuple[float, float]) -> Mark | None:
    """The mark over photos f32[n, h, w, 3]."""
    gradients = _gradients(frames)
    edges, folds = _common_edges(gradients), _held_out_edges(gradients)
    parts, count = ndimage.label(  # pyright: ignore[reportGeneralTypeIssues] it returns a pair
        ndimage.binary_dilation((edges != 0).any(-1), iterations=3)
    )
    kept = np.zeros(parts.shape, bool)
    for part in range(1, count + 1):
        inside = parts == part
        enough = np.count_nonzero(edges[inside]) >= SMALLEST
        if enough and _at_their_place(folds, gradients, inside).mean() >= SHARE_OF_PART:
            kept |= inside
    present = _at_their_place(folds, gradients, kept)
    edges = np.where(kept[..., None], edges, 0)
    mask = _filled(edges)
    if present.mean() < SHARE or mask.mean() > LARGEST or _alike(gradients[:, ~kept]):
        return None
    mark = _estimate(frames[present], side, anchor, mask, edges)
    return mark if mark.strength >= FAINTEST else None


def _gradients(photos: np.ndarray) -> np.ndarray:
    """f32[n, h, w, 2] of f32[n, h, w, 3]: in grey, the steps downwards and to the right from the pixel before."""
    return _steps(photos.mean(axis=-1))


def _steps(planes: np.ndarray) -> np.ndarray:
    """f32[n, h, w, 2] of f32[n, h, w]."""
    down, right = np.diff(planes, axis=1, prepend=planes[:, :1]), np.diff(planes, axis=2, prepend=planes[:, :, :1])
    return np.stack([down, right], axis=-1)


def _common_edges(gradients: np.ndarray) -> np.ndarray:
    """f32[h, w, 2]: the median over photos where it is a significant edge, else 0."""
    middle = np.median(gradients, axis=0)
    deviation = 1.4826 * np.median(np.abs(gradients - middle), axis=0)
    error = 1.253 * np.maximum(deviation, NOISE) / np.sqrt(len(gradients))  # of the median of a normal distribution
    return np.where(np.abs(middle) > np.maximum(STEP, SIGNIFICANT * error), middle, 0)


def _held_out_edges(gradients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each fold its photos i[m], and the common edges f32[h, w, 2] of all others."""
    order = np.random.default_rng(0).permutation(len(gradients))
    folds = [order[k::FOLDS] for k in range(FOLDS)]
    return [(fold, _common_edges(np.delete(gradients, fold, axis=0))) for fold in folds]


def _at_their_place(
    folds: Sequence[tuple[np.ndarray, np.ndarray]], gradients: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """bool[n]: photos that match their fold's edges in a region bool[h, w] better in place than when shifted."""
    found = np.zeros(len(gradients), bool)
    padded = np.pad(gradients, ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    side = 2 * REACH + 1
    for fold, edges in folds:
        y, x, axis = np.nonzero(edges * inside[..., None])
        if len(y) < SMALLEST:
            continue
        values = edges[y, x, axis]
        limit = 3 * np.median(np.abs(values))  # one strong edge of the photo must not outweigh all of the mark
        shifts = [(down, across) for down in range(side) for across in range(side)]
        near = (padded[fold[:, None], y + down, x + across, axis] for down, across in shifts)
        match = np.stack([np.clip(steps, -limit, limit) @ values for steps in near])
        place = side * side // 2
        found[fold] = match[place] > np.maximum(np.delete(match, place, axis=0).max(axis=0), 0)
    return found


def _alike(gradients: np.ndarray) -> bool:
    """Whether the photos are versions of a few, by their gradients f32[n, m, 2] beside the mark."""
    rows = np.clip(gradients, -0.15, 0.15).reshape(len(gradients), -1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    correlation = rows @ rows.T
    np.fill_diagonal(correlation, 0)
    return bool(np.median(correlation.max(axis=1)) > ALIKE)


def _filled(edges: np.ndarray) -> np.ndarray:
    """bool[h, w]: the pixels on both sides of the edges, what they enclose, and one more around."""
    seen = (edges != 0).any(-1)
    seen[:-1] |= edges[1:, :, 0] != 0
    seen[:, :-1] |= edges[:, 1:, 1] != 0
    closed = ndimage.binary_closing(np.pad(seen, 2), np.ones((3, 3)))[2:-2, 2:-2]
    return ndimage.binary_dilation(ndimage.binary_fill_holes(closed))


def _estimate(photos: np.ndarray, side: int, anchor: tuple[float, float], mask: np.ndarray, edges: np.ndarray) -> Mark:
    """The mark of photos f32[n, h, w, 3] that have it."""
    gap = Gap(mask)
    spread = photos.std(axis=0).mean(axis=-1)
    beside = gap.fill(spread[..., None])[..., 0]
    opacity = np.where(mask, np.clip(1 - spread / np.maximum(beside, NOISE), 0, 1), 0)
    marked = photos.mean(axis=0)
    # The steps of the mark are the medians, as those of clean photos have a median of about 0; beside it there is none.
    steps = np.stack([np.median(_steps(photos[..., colour]), axis=0) for colour in range(3)], axis=2)
    laid = gap.fill(np.zeros_like(marked), steps)
    return Mark(side, anchor, mask, opacity, marked, marked - laid, edges)


def _bytes(photo: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(photo, 0, 1)).astype(np.uint8)


def _resized(plane: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """f32[h, w] or f32[h, w, 3] at another size."""
    if plane.shape[:2] == tuple(shape):
        return plane
    if plane.ndim == 3:
        return np.stack([_resized(plane[..., k], shape) for k in range(plane.shape[-1])], axis=-1)
    return np.asarray(Image.fromarray(plane).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


class Gap:
    """A region of pixels to be filled from its border."""

    def __init__(self, mask: np.ndarray):
        """Prepares the filling of bool[h, w], which is not True everywhere."""
        self._mask = mask
        number = np.full(mask.shape, -1)
        number[mask] = np.arange(np.count_nonzero(mask))
        self._at = np.nonzero(mask)
        count = np.zeros(len(self._at[0]))
        self._links, rows, columns = [], [], []
        for axis, way in ((0, -1), (0, 1), (1, -1), (1, 1)):
            there = [at + way * (k == axis) for k, at in enumerate(self._at)]
            own = np.flatnonzero((there[axis] >= 0) & (there[axis] < mask.shape[axis]))
            y, x = (at[own] for at in there)
            count[own] += 1
            unknown = mask[y, x]
            rows.append(own[unknown])
            columns.append(number[y, x][unknown])
            self._links.append((axis, way, own, (y, x), ~unknown))
        rows, columns = np.concatenate(rows), np.concatenate(columns)
        neighbours = sparse.csc_array((np.ones(len(rows)), (rows, columns)), (len(count), len(count)))
        self._solve = splu((sparse.diags_array(count) - neighbours).tocsc()).solve

    def fill(self, image: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
        """An image f32[h, w, C] with the gap filled: with the steps f32[h, w, C, 2] (down and to the right, from the
        pixel before), or as smoothly as can be, as near as both can be had (least squares: Poisson's equation)."""
        right = np.zeros((len(self._at[0]), image.shape[-1]))
        for axis, way, own, there, known in self._links:
            right[own[known]] += image[there][known]
            if steps is not None:
                right[own] += steps[*self._at, :, axis][own] if way < 0 else -steps[*there, :, axis]
        filled = image.copy()
        filled[self._mask] = self._solve(right)
        return filled
