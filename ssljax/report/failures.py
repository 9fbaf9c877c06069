"""Queries whose first find is wrong, by category: the most confident mistakes first."""

import html
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.ranking import Finds, Ranking
from ssljax.report import charts
from ssljax.report.kinds import by_kind, line, share
from ssljax.report.thumbnails import Thumbnails

MARKS = {"hit": "<b>✓</b>", "miss": "<b>&times;</b>"}


def failures(
    ranking: Ranking, finds: Finds, kinds: Sequence[str], thumbnails: Thumbnails, *, relevant: str, most: int
) -> str:
    """HTML: CMC@1 of each category, and `most` of its mistakes, those of the largest cosine first.

    Args:
      ranking: of the queries.
      finds: its first finds, m.
      kinds: str[m], the category of each of them.
      thumbnails: the query of row q is photo q; where the gallery is another split, its row g is photo Q + g.
      relevant: how the page says what a hit is.
      most: cases a category.
    """
    offset = 0 if ranking.own is not None else len(ranking.queries)
    parts = []
    for name, rows in by_kind(kinds, ~finds.hit):
        wrong = rows[~finds.hit[rows]]
        wrong = wrong[np.argsort(-finds.score[wrong], kind="stable")]
        cards = []
        for m in wrong[:most].tolist():
            query = int(finds.queries[m])
            right, rank = ranking.right(query)
            cards.append(
                case(
                    asked(thumbnails(query)),
                    photo("miss", thumbnails(offset + int(finds.first[m])), cosine(finds.score[m])),
                    photo("hit", thumbnails(offset + right), f"rank {rank:,}"),
                )
            )
        cells = (share(finds.per_query.select(rows)), f"{len(wrong):,} of {len(rows):,} wrong")
        more = f"<p class=note>{len(wrong) - most:,} more.</p>" if len(wrong) > most else ""
        body = f"<ol class=cases>{''.join(cards)}</ol>{more}" if cards else ""
        parts.append(line(name, cells, body, opened=not parts))
    return f"{key(relevant)}<div class=kinds>{''.join(parts)}</div>{thumbnails.style()}"


def key(relevant: str) -> str:
    """What the marks mean."""
    said = f"<li class=hit>{MARKS['hit']} {html.escape(relevant)}</li><li class=miss>{MARKS['miss']} another</li>"
    return f"<ul class=marks>{said}</ul>"


def case(*photos: str) -> str:
    """A query and what there is to see beside it."""
    return f"<li>{''.join(photos)}</li>"


def asked(thumbnail: str) -> str:
    """The query of a case."""
    return f"<span class=query>{thumbnail}<small>query</small></span>"


def photo(kind: str, thumbnail: str, below: str) -> str:
    """A find of a case, "hit" or "miss"."""
    return f"<span class={kind}><em>{thumbnail}{MARKS[kind]}</em><small>{below}</small></span>"


def cosine(value: float) -> str:
    """A cosine as a caption."""
    return f"{value:.2f}".replace("-", charts.MINUS)
