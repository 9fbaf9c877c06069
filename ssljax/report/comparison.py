"""The page of two runs on the same queries: figures with intervals, and what one finds that the other misses."""

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssljax.data.atomic_files import write_text
from ssljax.evaluation.bootstrap import Difference, compare
from ssljax.evaluation.metrics import PerQuery
from ssljax.evaluation.ranking import Finds, Ranking
from ssljax.report import charts
from ssljax.report.failures import asked, case, cosine, key, photo
from ssljax.report.kinds import by_kind, line, share
from ssljax.report.shell import frame, section
from ssljax.report.thumbnails import Thumbnails

FIGURES = (
    "Means over the same queries. The interval, of 95 %, and p are of the difference on each query: runs may differ "
    "though their own intervals overlap. In bold what is apart from 0. They speak of other queries, not of another "
    "seed of training."
)
CASES = (
    "Queries of which one run finds a right photo first and the other a wrong one, by category, the category with most "
    "of them first; beside a category CMC@1 of both runs and their difference, with 95 % intervals. Each line: the "
    "query, what the one run finds, and what the other finds, with cosine similarities, and the rank of the right one. "
    "The most confident mistakes come first."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """Runs A and B on the same m queries."""

    names: tuple[str, str]
    facts: dict[str, str]
    """who was asked for what; blank ones do not count"""
    rankings: tuple[Ranking, Ranking]
    finds: tuple[Finds, Finds]
    means: tuple[dict[str, float], dict[str, float]]
    """figure → mean, of each run"""
    differences: dict[str, Difference]
    """figure → B less A"""
    kinds: Sequence[str]
    """str[m], the category of each query"""
    relevant: str
    """what a hit is, to end a sentence"""

    @property
    def alone(self) -> dict[str, dict[str, int]]:
        """Category → how many queries it has, and how many A alone and B alone find; the rare ones are pooled."""
        a, b = (finds.hit for finds in self.finds)
        return {
            kind: {"queries": len(rows), "a": int((a & ~b)[rows].sum()), "b": int((b & ~a)[rows].sum())}
            for kind, rows in by_kind(self.kinds, a != b)
        }

    @property
    def statement(self) -> str:
        """Who finds more, how surely, and on which queries, in a sentence or two."""
        found, (a, b) = self.differences["cmc@1"], self.names
        ends, sure = (_points(found.low), _points(found.high)), f"p {_p(found.p_value)}"
        alone = f"{found.better:,} queries are found by {b} alone and {found.worse:,} by {a} alone"
        if found.low > 0:
            said = f"{b} finds a right one first more often than {a}"
        elif found.high < 0:
            said = f"{b} finds a right one first less often than {a}"
        else:
            said = f"{b} and {a} cannot be told apart by what they find first"
        return (
            f"{said}: {_points(found.mean)} points of CMC@1 (95 % interval {' to '.join(ends)}; {sure}). "
            f"{alone}, of {found.queries:,} in {found.groups:,} groups."
        )


def write_comparison(path: Path, compared: Compared, thumbnails: Thumbnails, *, command: str, most: int) -> None:
    """Writes the page.

    Args:
      path: the file.
      compared: the two runs.
      thumbnails: the query of row q is photo q; where the gallery is another split, its row g is photo Q + g.
      command: what writes it again.
      most: cases a category, of each kind.
    """
    a, b = compared.names
    sections = [
        section(
            "figures", "Figures", f"<p class=statement>{html.escape(compared.statement)}</p>{_table(compared)}", FIGURES
        ),
        section("cases", "Found by one alone", _cases(compared, thumbnails, most), CASES),
    ]
    write_text(path, frame(f"{a} and {b}", compared.facts, command, sections))


def _table(compared: Compared) -> str:
    heads = ("metric", *compared.names, "difference", "95 % interval", "p", "better", "worse")
    rows = []
    for figure, found in compared.differences.items():
        apart = found.low > 0 or found.high < 0
        style = "up" if found.mean > 0 else "down"
        points = f"<b class='apart {style}'>{_points(found.mean)}</b>" if apart else _points(found.mean)
        cells = [f"{100 * means[figure]:.1f}<small> %</small>" for means in compared.means]
        cells += [points, f"{_points(found.low)} to {_points(found.high)}", _p(found.p_value)]
        cells += [f"{found.better:,}", f"{found.worse:,}"]
        rows.append(f"<tr><th scope=row>{html.escape(figure)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in heads)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _cases(compared: Compared, thumbnails: Thumbnails, most: int) -> str:
    first, second = compared.finds
    parts = []
    for name, rows in by_kind(compared.kinds, first.hit != second.hit):
        sides, alone = [], []
        for finder in (0, 1):
            found, missed = compared.finds[finder], compared.finds[1 - finder]
            lost = rows[found.hit[rows] & ~missed.hit[rows]]
            lost = lost[np.argsort(-missed.score[lost], kind="stable")]
            cards = "".join(_case(compared, m, finder, thumbnails) for m in lost[:most].tolist())
            title = f"found by {compared.names[finder]}, missed by {compared.names[1 - finder]}: {len(lost):,}"
            more = f"<p class=note>{len(lost) - most:,} more.</p>" if len(lost) > most else ""
            cards = f"<ol class=cases>{cards}</ol>" if cards else ""
            sides.append(f"<div><h3>{html.escape(title)}</h3>{cards}{more}</div>")
            alone.append(len(lost))
        parts_found = [finds.per_query.select(rows) for finds in compared.finds]
        cells = (
            *(share(part, f"s{i}") for i, part in enumerate(parts_found)),
            _difference(*parts_found),
            f"{alone[0]:,} and {alone[1]:,} alone, of {len(rows):,}",
        )
        body = f"<div class=sides>{''.join(sides)}</div>" if any(alone) else ""
        parts.append(line(name, cells, body, opened=not parts))
    a, b = (html.escape(name) for name in compared.names)
    runs = f"<ul class=runs><li><span class='key s0'>{a}</span></li><li><span class='key s1'>{b}</span></li></ul>"
    return f"{runs}{key(compared.relevant)}<div class='kinds two'>{''.join(parts)}</div>{thumbnails.style()}"


def _case(compared: Compared, m: int, finder: int, thumbnails: Thumbnails) -> str:
    found, missed, other = compared.finds[finder], compared.finds[1 - finder], compared.rankings[1 - finder]
    query = int(found.queries[m])
    offset = 0 if other.own is not None else len(other.queries)
    return case(
        asked(thumbnails(query)),
        photo("hit", thumbnails(offset + int(found.first[m])), cosine(found.score[m])),
        photo(
            "miss",
            thumbnails(offset + int(missed.first[m])),
            f"{cosine(missed.score[m])}, right at {other.right(query)[1]:,}",
        ),
    )


def _difference(a: PerQuery, b: PerQuery) -> str:
    mean = float((b.figures["cmc@1"] - a.figures["cmc@1"]).mean())
    if len(np.unique(a.groups)) < 2:
        return _points(mean)
    found = compare(a, b, "cmc@1", draws=1000)
    text = f"{_points(mean)} <small>{_points(found.low)} to {_points(found.high)}</small>"
    return f"<b>{text}</b>" if found.low > 0 or found.high < 0 else text


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", charts.MINUS)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"
