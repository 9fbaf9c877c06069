"""Photos of two listings with links coloured by distance: are they near within a listing and far between the two?"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ssljax.evaluation.evaluators.separation import pair_similarities
from ssljax.report.page import number, render
from ssljax.report.photos import THUMBNAIL
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
) -> Markup:
    """Random listings beside another random one, and beside the nearest other one.

    Args:
      vectors: f32[n, D], of unit length.
      groups: i32[n], the listings; -1 = none.
      photo: row -> u8[h, w, 3].
      captions: str[n].
      relevant: the page's words for photos of one listing.
      seed: of the draws.
    """
    try:
        pairs = pair_similarities(vectors, groups, seed=seed)
    except UserError:
        return render("listings.html", panels=None)
    # Half of the pairs are within listings, half between: so colours separate the two at any scale of distances.
    edges = np.quantile(1 - np.concatenate([pairs.within, pairs.between]), np.arange(1, FIFTHS) / FIFTHS)
    rng = np.random.default_rng(seed)
    rows = {group: np.flatnonzero(groups == group) for group in _several(groups, rng)}
    drawn, sample = list(rows)[: 2 * PANELS], list(rows)
    panels = [("Beside another", a, _other(a, sample, rng)) for a in drawn[:PANELS]]
    panels += [("Beside the nearest other", a, _nearest(a, rows, vectors)) for a in drawn[PANELS:]]
    return render(
        "listings.html",
        panels=[
            (t, *_links(rows[a][:PHOTOS], rows[b][:PHOTOS], vectors, edges)) for t, a, b in panels if b is not None
        ],
        ends=[f"below {number(edges[0])}", *(f"to {number(edge)}" for edge in edges[1:]), "above"],
        photo=photo,
        captions=captions,
        relevant=relevant,
        size={"width": WIDTH, "height": HEIGHT, "side": SIDE, "longest": THUMBNAIL},
    )


def _several(groups: np.ndarray, rng: np.random.Generator) -> list[int]:
    """At most NEAR_TO listings in random order, those with several photos first."""
    found, sizes = np.unique(groups[groups >= 0], return_counts=True)
    order = rng.permutation(len(found))
    order = order[np.argsort(sizes[order] < 2, kind="stable")]
    return found[order][:NEAR_TO].tolist()


def _other(group: int, sample: Sequence[int], rng: np.random.Generator) -> int | None:
    others = [other for other in sample if other != group]
    return int(rng.choice(others)) if others else None


def _nearest(group: int, rows: dict[int, np.ndarray], vectors: np.ndarray) -> int | None:
    """The other listing with the photo that is nearest to one of this listing's."""
    mine = vectors[rows[group]]
    near = {other: float((vectors[its] @ mine.T).max()) for other, its in rows.items() if other != group}
    return max(near, key=near.__getitem__, default=None)


def _links(
    first: np.ndarray, second: np.ndarray, vectors: np.ndarray, edges: np.ndarray
) -> tuple[list[dict[str, Any]], list[tuple[int, float, int]]]:
    """Links, the nearest last, and photos (row, left, top) of two lines.

    Links within a line are arcs beyond it, links between the lines are straight.
    """
    shown = [*first.tolist(), *second.tolist()]
    line = np.repeat([0, 1], [len(first), len(second)])
    place = np.concatenate([_places(len(first)), _places(len(second))])
    near = vectors[shown] @ vectors[shown].T
    links = []
    for i, j in itertools.combinations(range(len(shown)), 2):
        distance = 1 - float(near[i, j])
        if line[i] == line[j]:
            edge, away = (LINES[0], -1) if line[i] == 0 else (LINES[1] + SIDE, 1)
            bend = edge + away * (14 + 0.2 * (place[j] - place[i]))
            path = f"M{place[i]:.0f} {edge}C{place[i]:.0f} {bend:.0f} {place[j]:.0f} {bend:.0f} {place[j]:.0f} {edge}"
        else:
            path = f"M{place[i]:.0f} {LINES[0] + SIDE}L{place[j]:.0f} {LINES[1]}"
        level = int(np.searchsorted(edges, distance))
        links.append({"level": level, "path": path, "distance": distance, "within": bool(line[i] == line[j])})
    photos = [(row, x - SIDE / 2, LINES[at]) for row, x, at in zip(shown, place, line, strict=True)]
    return sorted(links, key=lambda link: -link["level"]), photos


def _places(count: int) -> np.ndarray:
    """f[count], the middles of photos in a line."""
    return WIDTH / 2 + (np.arange(count) - (count - 1) / 2) * (WIDTH - 10) / PHOTOS
