"""Queries with their nearest neighbours: random ones, and those whose first hit comes latest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ssljax.evaluation.ranking import Ranking
from ssljax.report.page import render
from ssljax.report.photos import THUMBNAIL

NEIGHBOURS = 10
SAMPLE = 500  # queries whose rankings are looked at


@dataclass(frozen=True)
class Answer:
    """What one query found, without itself."""

    query: int
    rows: np.ndarray  # i[k], the nearest first
    scores: np.ndarray  # f32[k], their cosine similarity
    first_hit: int  # the row of the first relevant item
    rank: int  # its rank, from 1


def answers(ranking: Ranking, queries: np.ndarray) -> Iterator[Answer]:
    """For each of `queries` i[q], which are in the gallery: its nearest items, and its first hit at any rank."""
    for query, scores in ranking.scores(queries):
        order = np.argsort(-scores, kind="stable")[:-1]
        at = int(np.argmax(ranking.gallery_groups[order] == ranking.query_groups[query]))
        nearest = order[:NEIGHBOURS].copy()  # a view would keep the whole order
        yield Answer(query, nearest, scores[nearest], int(order[at]), at + 1)


def choose(found: list[Answer], groups: np.ndarray, many: int = 10) -> tuple[list[Answer], list[Answer]]:
    """The first `many` of `found`, and those of the others whose first hit comes latest, one of each group."""
    drawn, failures = found[:many], {}
    for answer in sorted(found[many:], key=lambda answer: -answer.rank):
        if answer.rank > 1:
            failures.setdefault(int(groups[answer.query]), answer)
    return drawn, list(failures.values())[:many]


def neighbours(ranking: Ranking, photo: Callable[[int], np.ndarray], captions: list[str], relevant: str) -> Markup:
    """Ten random queries (with a fixed seed), and of SAMPLE queries those whose first hit comes latest.

    The gallery is the queries themselves, each left out of its own ranking.
    """
    sample = np.random.default_rng(0).permutation(ranking.asked)[:SAMPLE]
    drawn, failures = choose(list(answers(ranking, sample)), ranking.gallery_groups)
    return render(
        "neighbours.html",
        drawn=drawn,
        failures=failures,
        others=len(sample) - len(drawn),
        groups=ranking.gallery_groups,
        photo=photo,
        captions=captions,
        relevant=relevant,
        longest=THUMBNAIL,
    )
