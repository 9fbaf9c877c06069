"""The page of `ssljax match --html` and `ssljax duplicates --html`: groups of items, doubtful ones first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.decode import thumbnail_or_grey
from ssljax.evaluation import Embeddings
from ssljax.evaluation.matching import Groups, MatchLists
from ssljax.report.page import write_page
from ssljax.report.photos import THUMBNAIL

MOST_GROUPS, MOST_ITEMS = 200, 22  # shown: a page of all groups of a large catalogue could not be opened


class Member(NamedTuple):
    """An item of a group."""

    id: str
    caption: str
    photo: np.ndarray
    """u8[h, w, 3]"""
    score: float
    """of its best match; NaN if only others match it"""
    margin: float
    marks: str
    """classes of the style sheet"""


class Shown(NamedTuple):
    """A group on the page."""

    size: int
    margin: float
    links: int
    members: list[Member]
    note: str


def write_groups(
    path: Path,
    name: str,
    items: Embeddings,
    matches: MatchLists,
    groups: Groups,
    photo: Callable[[str], Any],
    facts: dict[str, str],
    command: str,
    notes: dict[int, str] | None = None,
) -> None:
    """Writes the page.

    Args:
      path: the file.
      name: the catalogue's.
      items: n items, with their titles.
      matches: of the items.
      groups: that the matches make.
      photo: id → what `decode` reads, or None.
      facts: what was done, for the line below the name.
      command: the command line that did it.
      notes: group number → what else to say of it.
    """
    order = groups.doubtful_first
    titles = items.columns.get("title", items.ids)
    scores, margins = (np.where(matches.rows >= 0, x, np.nan)[:, 0] for x in (matches.scores, matches.margins))
    by_group = np.argsort(groups.number, kind="stable")
    starts = np.append(0, np.cumsum(groups.sizes))

    def member(row: int, marks: str) -> Member:
        id = str(items.ids[row])
        picture = thumbnail_or_grey(photo(id), THUMBNAIL)
        return Member(id, str(titles[row]) or id, picture, float(scores[row]), float(margins[row]), marks)

    shown = []
    for g in order[:MOST_GROUPS].tolist():
        rows = by_group[starts[g] : starts[g + 1]]
        rows = _both_parts(rows, groups.parts[rows], groups.weakest[g])
        marks = _marks(rows, groups.parts[rows], groups.weakest[g])
        members = [member(row, own) for row, own in zip(rows.tolist(), marks, strict=True)]
        note = (notes or {}).get(g, "")
        shown.append(Shown(int(groups.sizes[g]), float(groups.margins[g]), int(groups.links[g]), members, note))
    alone = int((groups.sizes == 1).sum())
    left_out = {"groups": len(order) - len(shown), "alone": alone}
    write_page(path, "groups.html", title=name, facts=facts, command=command, groups=shown, left_out=left_out)


def _both_parts(rows: np.ndarray, parts: np.ndarray, weakest: np.ndarray) -> np.ndarray:
    """The rows of the first part and then those of the second, as many as are shown, the weakest pair among them."""
    pair = np.isin(rows, weakest)
    kept = np.flatnonzero(np.argsort(np.argsort(~pair, kind="stable"), kind="stable") < MOST_ITEMS)
    return rows[kept][np.argsort(parts[kept], kind="stable")]


def _marks(rows: np.ndarray, parts: np.ndarray, weakest: np.ndarray) -> list[str]:
    """The classes of each row: "weak" for the weakest pair, "late" where the second part begins; none for a pair."""
    if len(rows) <= 2:
        return [""] * len(rows)
    late = np.diff(parts, prepend=0) > 0
    return [
        " ".join(["weak"] * bool(weak) + ["late"] * bool(begins))
        for weak, begins in zip(np.isin(rows, weakest), late, strict=True)
    ]
