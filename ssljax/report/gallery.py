"""Queries with their nearest neighbours: some at random, and those that fail worst."""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ssljax.evaluation.ranking import Ranking
from ssljax.report.failures import cosine, key
from ssljax.report.jpeg import THUMBNAIL, img

NEIGHBOURS = 10
SAMPLE = 500  # queries whose rankings are looked at


@dataclass(frozen=True)
class Answer:
    """What one query found: itself left out."""

    query: int
    rows: np.ndarray  # i[k], the nearest first
    scores: np.ndarray  # f32[k], their cosine similarity
    first_hit: int  # the row of the first relevant item
    rank: int  # its rank, from 1


def answers(ranking: Ranking, queries: np.ndarray) -> Iterator[Answer]:
    """For each of `queries` i[q] of the gallery itself: its nearest, and its first hit however late."""
    for query, scores in ranking.scores(queries):
        order = np.argsort(-scores, kind="stable")[:-1]
        at = int(np.argmax(ranking.gallery_groups[order] == ranking.query_groups[query]))
        nearest = order[:NEIGHBOURS].copy()  # a view would keep the whole order
        yield Answer(query, nearest, scores[nearest], int(order[at]), at + 1)


def choose(found: list[Answer], groups: np.ndarray, many: int = 10) -> tuple[list[Answer], list[Answer]]:
    """The first `many` of `found`, and of the others those whose first hit comes last, one a group."""
    drawn, failures = found[:many], {}
    for answer in sorted(found[many:], key=lambda answer: -answer.rank):
        if answer.rank > 1:
            failures.setdefault(int(groups[answer.query]), answer)
    return drawn, list(failures.values())[:many]


def gallery(ranking: Ranking, photo: Callable[[int], np.ndarray], captions: list[str], relevant: str) -> str:
    """HTML: ten queries drawn at random with a fixed seed, and of SAMPLE those whose first hit comes last.

    The gallery is the queries themselves, each left out of its own ranking.
    """
    queries, groups = ranking.asked, ranking.gallery_groups
    if not len(queries):
        return "<p class=note>No two items are relevant to each other, so there is nothing to look for.</p>"
    sample = np.random.default_rng(0).permutation(queries)[:SAMPLE]
    drawn, failures = choose(list(answers(ranking, sample)), groups)

    def thumbnail(row: int) -> str:
        return img(photo(row), captions[row], THUMBNAIL)

    def card(row: int, below: str, group: int, late: str = "") -> str:
        kind, mark = ("hit", "✓") if groups[row] == group else ("miss", "&times;")
        return f"<li class='{kind} {late}'>{thumbnail(row)}<b>{mark}</b><small>{below}</small></li>"

    def line(answer: Answer) -> str:
        group = groups[answer.query]
        scores = [cosine(score) for score in answer.scores]
        cards = [card(row, score, group) for row, score in zip(answer.rows, scores, strict=True)]
        if answer.rank > NEIGHBOURS:
            cards.append(card(answer.first_hit, f"rank {answer.rank:,}", group, "late"))
        caption = f"<span>{html.escape(captions[answer.query])}</span><em>first hit at rank {answer.rank:,}</em>"
        asked = f"<div class=asked>{thumbnail(answer.query)}<p>{caption}</p></div>"
        return f"<article>{asked}<ol>{''.join(cards)}</ol></article>"

    parts = [key(relevant), "<h3>Drawn at random</h3>", *map(line, drawn)]
    if failures:
        parts += [f"<h3>First hit latest, of {len(sample) - len(drawn):,} others</h3>", *map(line, failures)]
    return "".join(parts)
