"""The page of `ssljax search --html`: photos, and the items that are nearest to each."""

import html
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.data.atomic_files import write_text
from ssljax.report.jpeg import img
from ssljax.report.shell import frame, section


class Found(NamedTuple):
    """An item that was found."""

    id: str
    caption: str
    score: float
    photo: np.ndarray
    """u8[h, w, 3]"""


class Query(NamedTuple):
    """A photo that was searched with."""

    name: str
    photo: np.ndarray
    """u8[h, w, 3]"""
    found: list[Found]
    """the nearest first"""


def write_search(path: Path, where: str, items: int, queries: list[Query]) -> None:
    """Writes one static file that loads nothing.

    Args:
      path: of the file.
      where: what was searched, to be named.
      items: how many were searched.
      queries: photos and what was found.
    """
    parts = "".join(_line(query) for query in queries)
    facts = {"items": f"{items:,}", "photos": f"{len(queries):,}"}
    note = "Each photo and the items nearest to it, with their scores."
    write_text(
        Path(path),
        frame(where, facts, f"ssljax search {shlex.quote(where)} PHOTO", [section("found", "Found", parts, note)]),
    )


def _line(query: Query) -> str:
    cards = "".join(
        f"<li>{img(item.photo, item.id)}<small>{item.score:.3f}</small><span>{html.escape(item.caption)}</span></li>"
        for item in query.found
    )
    asked = f"<div class=asked>{img(query.photo, query.name)}<p><span>{html.escape(query.name)}</span></p></div>"
    return f"<article class=found>{asked}<ol>{cards}</ol></article>"
