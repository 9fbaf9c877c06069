"""Photos of pairs of listings, and links between them coloured by distance: near within a listing, far between two?"""

import html
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ssljax.evaluation.pair_similarities import pair_similarities
from ssljax.report import charts
from ssljax.report.jpeg import THUMBNAIL, jpeg
from ssljax.types import UserError

PANELS = 3  # of each kind
PHOTOS = 4  # of a listing
FIFTHS = 5  # colours
NEAR_TO = 500  # listings among which the nearest other one is looked for
WIDTH, HEIGHT = 340, 310
SIDE = 62  # of a photo, as the panel shows it
LINES = (50, 200)  # top of the two lines of photos


def listings(
    vectors: np.ndarray,
    groups: np.ndarray,
    photo: Callable[[int], np.ndarray],
    captions: Sequence[str],
    relevant: str,
    *,
    seed: int = 0,
) -> str:
    """HTML: listings drawn at random beside another one drawn at random, and beside the nearest other one.

    Args:
      vectors: f32[n, D], of unit length.
      groups: i32[n], the listings; -1 = of none.
      photo: row -> u8[h, w, 3].
      captions: str[n].
      relevant: how the page says what photos of one listing are.
      seed: decides which.
    """
    try:
        pairs = pair_similarities(vectors, groups, seed=seed)
    except UserError:
        return "<p class=note>There are no pairs within and between groups to compare.</p>"
    # Half of the pairs are within listings, half between: colours then tell the two apart wherever distances lie.
    edges = np.quantile(1 - np.concatenate([pairs.within, pairs.between]), np.arange(1, FIFTHS) / FIFTHS)
    rng = np.random.default_rng(seed)
    rows = {group: np.flatnonzero(groups == group) for group in _several(groups, rng)}
    drawn, sample = list(rows)[: 2 * PANELS], list(rows)
    panels = [("Beside another", a, _other(a, sample, rng)) for a in drawn[:PANELS]]
    panels += [("Beside the nearest other", a, _nearest(a, rows, vectors)) for a in drawn[PANELS:]]
    figures = "".join(
        _panel(title, rows[a][:PHOTOS], rows[b][:PHOTOS], vectors, edges, photo, captions, html.escape(relevant))
        for title, a, b in panels
        if b is not None
    )
    return f"{_key(edges)}<div class='panels listings'>{figures}</div>"


def _several(groups: np.ndarray, rng: np.random.Generator) -> list[int]:
    """At most NEAR_TO listings in an order drawn at random; those of several photos first."""
    found, sizes = np.unique(groups[groups >= 0], return_counts=True)
    order = rng.permutation(len(found))
    order = order[np.argsort(sizes[order] < 2, kind="stable")]
    return found[order][:NEAR_TO].tolist()


def _other(group: int, sample: Sequence[int], rng: np.random.Generator) -> int | None:
    others = [other for other in sample if other != group]
    return int(rng.choice(others)) if others else None


def _nearest(group: int, rows: dict[int, np.ndarray], vectors: np.ndarray) -> int | None:
    """The listing that has the nearest photo to one of this one's."""
    mine = vectors[rows[group]]
    near = {other: float((vectors[its] @ mine.T).max()) for other, its in rows.items() if other != group}
    return max(near, key=near.__getitem__, default=None)


def _panel(
    title: str,
    first: np.ndarray,
    second: np.ndarray,
    vectors: np.ndarray,
    edges: np.ndarray,
    photo: Callable[[int], np.ndarray],
    captions: Sequence[str],
    relevant: str,
) -> str:
    """Two lines of photos; links within a line are arcs beyond it, links between the lines are straight."""
    shown = [*first.tolist(), *second.tolist()]
    line = np.repeat([0, 1], [len(first), len(second)])
    place = np.concatenate([_places(len(first)), _places(len(second))])
    near = vectors[shown] @ vectors[shown].T
    links = []
    for i, j in itertools.combinations(range(len(shown)), 2):
        distance = 1 - float(near[i, j])
        level = int(np.searchsorted(edges, distance))
        if line[i] == line[j]:
            edge, away = (LINES[0], -1) if line[i] == 0 else (LINES[1] + SIDE, 1)
            bend = edge + away * (14 + 0.2 * (place[j] - place[i]))
            path = f"M{place[i]:.0f} {edge}C{place[i]:.0f} {bend:.0f} {place[j]:.0f} {bend:.0f} {place[j]:.0f} {edge}"
        else:
            path = f"M{place[i]:.0f} {LINES[0] + SIDE}L{place[j]:.0f} {LINES[1]}"
        said = f"{charts.number(distance)}, " + (relevant if line[i] == line[j] else "of others")
        links.append((level, f"<path class='link d{level}' d='{path}'><title>{said}</title></path>"))
    links = "".join(mark for _, mark in sorted(links, key=lambda link: -link[0]))  # the nearest on top
    photos = "".join(
        _image(photo(row), captions[row], x, LINES[at]) for row, x, at in zip(shown, place, line, strict=True)
    )
    return (
        f"<figure class=panel><figcaption><h3>{title}</h3></figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{title}'>{links}{photos}</svg></figure>"
    )


def _places(count: int) -> np.ndarray:
    """f[count], the middles of photos in a line."""
    return WIDTH / 2 + (np.arange(count) - (count - 1) / 2) * (WIDTH - 10) / PHOTOS


def _image(pixels: np.ndarray, caption: str, middle: float, top: int) -> str:
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    box = f"x={middle - SIDE / 2:.1f} y={top} width={SIDE} height={SIDE}"
    return f"<image {box} href='{jpeg(image)}'><title>{html.escape(caption)}</title></image>"


def _key(edges: np.ndarray) -> str:
    ends = [f"below {charts.number(edges[0])}", *(f"to {charts.number(edge)}" for edge in edges[1:]), "above"]
    return f"<div class=linkkeys>{''.join(f'<span class=d{i}>{end}</span>' for i, end in enumerate(ends))}</div>"
