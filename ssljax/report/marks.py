"""The page about watermarks that were removed: each seller's mark, and photos before and after."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssljax.data.atomic_files import write_text
from ssljax.report.jpeg import img
from ssljax.report.shell import frame, section

FOUND = (
    "What lies at one place over most photos of a seller, over grey, with its opacity, and photos before and after. "
    "Look at all of them before you train on the result: if a pattern of the photos was taken for a mark, or what is "
    "left disturbs more than the mark did, copy again with <code>--leave</code> and that seller's name."
)


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A seller whose mark was removed."""

    seller: str
    """blank if all photos are taken for one seller's"""
    photos: int
    cleaned: int
    """of these"""
    opacity: float
    mark: np.ndarray
    """u8[h, w, 3]: the mark alone"""
    examples: Sequence[tuple[str, np.ndarray, np.ndarray]]
    """name of a photo, and u8[H, W, 3] before and after"""


def write_before_after(path: Path, name: str, facts: dict[str, str], cleaned: Sequence[Cleaned], command: str) -> None:
    """Writes the page.

    Args:
      path: the file.
      name: the catalogue's.
      facts: what was done, for the line below the name.
      cleaned: sellers with a mark.
      command: of the command line.
    """
    body = "".join(map(_seller, cleaned)) or "<p class=note>No mark was found: all photos are as they were.</p>"
    sections = [section("marks", "Marks", body, FOUND if cleaned else "")]
    write_text(path, frame(f"{name}, without watermarks", facts, command, sections))


def _seller(found: Cleaned) -> str:
    title = html.escape(found.seller or "All photos")
    opacity = f"opacity {found.opacity:.2f}, on {found.cleaned:,} of {found.photos:,} photos"
    mark = f"<figure class=panel><ol><li>{img(found.mark, 'the mark')}<small>the mark</small></li></ol></figure>"
    pairs = "".join(
        f"<figure class=panel><ol><li>{img(before, name)}<small>before</small></li>"
        f"<li>{img(after, name)}<small>after</small></li></ol></figure>"
        for name, before, after in found.examples
    )
    return f"<h3>{title}</h3><p class=note>{opacity}</p><div class=pairs>{mark}{pairs}</div>"
