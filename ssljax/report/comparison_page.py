"""The page of two runs on the same queries: figures with intervals, and what one run finds and the other misses."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssljax.evaluation.bootstrap import Difference, compare
from ssljax.evaluation.ranking import Finds, Ranking
from ssljax.report.failures import Case, by_kind, photos_before, share, surest
from ssljax.report.page import cosine, number, points, write_page
from ssljax.report.photos import Thumbnails


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """Runs A and B on the same m queries."""

    names: tuple[str, str]
    facts: dict[str, str]
    """what was asked of which photos; empty ones are not shown"""
    rankings: tuple[Ranking, Ranking]
    finds: tuple[Finds, Finds]
    means: tuple[dict[str, float], dict[str, float]]
    """figure → mean, of each run"""
    differences: dict[str, Difference]
    """figure → B less A"""
    kinds: Sequence[str]
    """str[m], the category of each query"""
    relevant: str
    """what a hit is, as the end of a sentence"""

    @property
    def alone(self) -> dict[str, dict[str, int]]:
        """Category → how many queries it has, and how many only A and only B find; the rare ones are pooled."""
        a, b = (finds.hit for finds in self.finds)
        return {
            kind: {"queries": len(rows), "a": int((a & ~b)[rows].sum()), "b": int((b & ~a)[rows].sum())}
            for kind, rows in by_kind(self.kinds, a != b)
        }

    @property
    def statement(self) -> str:
        """Which run finds more, how sure that is, and on how many queries: two sentences."""
        found, (a, b) = self.differences["cmc@1"], self.names
        if found.low > 0:
            said = f"{b} finds a right one first more often than {a}"
        elif found.high < 0:
            said = f"{b} finds a right one first less often than {a}"
        else:
            said = f"{b} and {a} cannot be told apart by what they find first"
        return (
            f"{said}: {points(found.mean)} points of CMC@1 (95 % interval {points(found.low)} to {points(found.high)}; "
            f"p {p_value(found.p_value)}). {found.better:,} queries are found by {b} alone and {found.worse:,} by {a} "
            f"alone, of {found.queries:,} in {found.groups:,} groups."
        )


def write_comparison(path: Path, compared: Compared, thumbnails: Thumbnails, *, command: str, most: int) -> None:
    """Writes the page.

    Args:
      path: the file.
      compared: the two runs.
      thumbnails: the query of row q is photo q; where the gallery is another split, its row g is photo Q + g.
      command: the command line that writes it again.
      most: how many cases of a category are shown for each run.
    """
    first, second = compared.finds
    kinds = []
    for name, rows in by_kind(compared.kinds, first.hit != second.hit):
        a, b = first.per_query.select(rows), second.per_query.select(rows)
        several = len(np.unique(a.groups)) > 1
        kinds.append(
            {
                "name": name,
                "queries": len(rows),
                "shares": [share(a), share(b)],
                "mean": float((b.figures["cmc@1"] - a.figures["cmc@1"]).mean()),
                "difference": compare(a, b, "cmc@1", draws=1000) if several else None,
                "sides": [_found_alone(compared, rows, finder, thumbnails, most) for finder in (0, 1)],
            }
        )
    write_page(
        path,
        "comparison.html",
        title=" and ".join(compared.names),
        facts=compared.facts,
        command=command,
        compared=compared,
        kinds=kinds,
        p_value=p_value,
        style=thumbnails.style(),
    )


def _found_alone(compared: Compared, rows: np.ndarray, finder: int, thumbnails: Thumbnails, most: int) -> dict:
    """The queries of `rows` that run `finder` finds and the other run misses, the latter's surest mistakes first."""
    found, missed, other = compared.finds[finder], compared.finds[1 - finder], compared.rankings[1 - finder]
    offset = photos_before(other)

    def case(m: int) -> Case:
        query = int(found.queries[m])
        caption = f"{cosine(missed.score[m])}, right at {number(other.right(query)[1])}"
        hit = True, thumbnails(offset + int(found.first[m])), cosine(found.score[m])
        return thumbnails(query), [hit, (False, thumbnails(offset + int(missed.first[m])), caption)]

    lost = surest(missed, rows[found.hit[rows] & ~missed.hit[rows]])
    return {"total": len(lost), "cases": [case(m) for m in lost[:most].tolist()]}


def p_value(value: float) -> str:
    """A p-value to three digits."""
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"
