"""Queries whose nearest item is a wrong one, by category: the most confident mistakes first."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup

from ssljax.data.text import comparable
from ssljax.evaluation.bootstrap import intervals
from ssljax.evaluation.evaluators.retrieval import BLANK
from ssljax.evaluation.metrics import PerQuery
from ssljax.evaluation.ranking import Finds, Ranking
from ssljax.report.page import cosine, number, render
from ssljax.report.photos import Thumbnails

KINDS = 30  # shown one by one; the others are pooled
Case = tuple[Markup, list[tuple[bool, Markup, str]]]  # a query, and what it found: whether it is right, photo, caption


def failures(
    ranking: Ranking, finds: Finds, kinds: Sequence[str], thumbnails: Thumbnails, *, relevant: str, most: int
) -> Markup:
    """CMC@1 of each category, and `most` of its mistakes, those of the largest cosine first.

    Args:
      ranking: of the queries.
      finds: the nearest item of each of m queries.
      kinds: str[m], the category of each query.
      thumbnails: the query of row q is photo q; where the gallery is another split, its row g is photo Q + g.
      relevant: the page's words for a hit, such as "of the same listing".
      most: how many cases of a category are shown.
    """
    offset = photos_before(ranking)

    def case(m: int) -> Case:
        query = int(finds.queries[m])
        right, rank = ranking.right(query)
        wrong = False, thumbnails(offset + int(finds.first[m])), cosine(finds.score[m])
        return thumbnails(query), [wrong, (True, thumbnails(offset + right), f"rank {number(rank)}")]

    parts = []
    for name, rows in by_kind(kinds, ~finds.hit):
        wrong = surest(finds, rows[~finds.hit[rows]])
        shown = [case(m) for m in wrong[:most].tolist()]
        found = share(finds.per_query.select(rows))
        parts.append({"name": name, "queries": len(rows), "share": found, "wrong": len(wrong), "cases": shown})
    return render("failures.html", relevant=relevant, kinds=parts, style=thumbnails.style())


def share(found: PerQuery) -> dict[str, float | None]:
    """CMC@1 of some queries, and its 95 % interval where there is one."""
    low, high = intervals(found, level=0.95)["cmc@1"] if len(np.unique(found.groups)) > 1 else (None, None)
    return {"value": float(found.figures["cmc@1"].mean()), "low": low, "high": high}


def photos_before(ranking: Ranking) -> int:
    """The thumbnail of gallery row 0: 0, or where the gallery is another split, the number of queries."""
    return 0 if ranking.own is not None else len(ranking.queries)


def surest(finds: Finds, rows: np.ndarray) -> np.ndarray:
    """`rows` i[k], those with the largest cosine first."""
    return rows[np.argsort(-finds.score[rows], kind="stable")]


def by_kind(kinds: Sequence[str], noted: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The categories in `kinds` str[m], each with its rows i[k]: those with the most `noted` rows (bool[m]) first.

    There are at most KINDS; if there are more, the last one pools the rest.
    """
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
