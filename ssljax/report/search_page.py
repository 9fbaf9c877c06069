"""The page of `ssljax search --html`: photos and words, and the items that are nearest to each."""

import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.report.page import write_page


class Found(NamedTuple):
    """An item that was found."""

    id: str
    caption: str
    score: float
    photo: np.ndarray
    """u8[h, w, 3]"""


class Query(NamedTuple):
    """A photo that was searched with, words, or both."""

    name: str | None
    """of the photo's file; None for words alone"""
    text: str | None
    """the words; None for a photo alone"""
    photo: np.ndarray | None
    """u8[h, w, 3]"""
    found: list[Found]
    """the nearest first"""


def write_search(path: Path, where: str, items: int, queries: list[Query]) -> None:
    """Writes the page.

    Args:
      path: the file.
      where: the name of what was searched.
      items: how many items were searched.
      queries: what was searched with, and what was found.
    """
    facts = {"items": f"{items:,}", "queries": f"{len(queries):,}"}
    given = " PHOTO" * any(query.name for query in queries) + " --text WORDS" * any(query.text for query in queries)
    command = f"ssljax search {shlex.quote(where)}{given}"
    write_page(Path(path), "search.html", title=where, facts=facts, command=command, queries=queries)
