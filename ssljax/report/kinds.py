"""Queries by category: a line each that opens, those with the most to look at first."""

import html
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ssljax.data.text import comparable
from ssljax.evaluation.bootstrap import intervals
from ssljax.evaluation.evaluators.retrieval import BLANK
from ssljax.evaluation.metrics import PerQuery

KINDS = 30  # shown one by one; the others are pooled
LEVEL = 0.95  # of intervals


def by_kind(kinds: Sequence[str], noted: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Categories and their rows, i[k]: those with most `noted` rows (bool[m]) first, of `kinds` str[m], no more than
    KINDS; the rows of all others come last, together."""
    kinds = [comparable(str(kind)) or BLANK for kind in kinds]
    noted_of = Counter(kind for kind, at in zip(kinds, noted.tolist(), strict=True) if at)
    order = sorted(set(kinds), key=lambda kind: (-noted_of[kind], kind))
    shown = order if len(order) <= KINDS else order[: KINDS - 1]
    place = {kind: i for i, kind in enumerate(shown)}
    places = np.array([place.get(kind, len(shown)) for kind in kinds], int)
    for i, kind in enumerate(shown):
        yield kind, np.flatnonzero(places == i)
    if len(order) > len(shown):
        yield f"the {len(order) - len(shown):,} others", np.flatnonzero(places == len(shown))


def line(name: str, cells: Sequence[str], body: str, *, opened: bool) -> str:
    """A category; `cells` and `body` are HTML. Without a body there is nothing to open."""
    said = f"<span>{html.escape(name)}</span>" + "".join(f"<span>{cell}</span>" for cell in cells)
    if not body:
        return f"<p class=kind>{said}</p>"
    return f"<details{' open' * opened}><summary class=kind>{said}</summary>{body}</details>"


def share(found: PerQuery, style: str = "") -> str:
    """CMC@1 as a bar and a number with its interval."""
    value, ends = float(found.figures["cmc@1"].mean()), ""
    if len(np.unique(found.groups)) > 1:
        low, high = intervals(found, level=LEVEL)["cmc@1"]
        ends = f" <small>{100 * low:.0f} to {100 * high:.0f}</small>"
    return f"<b>{100 * value:.1f}<small> %</small></b>{ends}<i class='bar {style}' style='--v:{value:.4f}'></i>"
