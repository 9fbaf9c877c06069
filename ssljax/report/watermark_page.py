"""The page about watermarks that were removed: each seller's mark, and photos before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssljax.report.page import write_page


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A seller whose mark was removed."""

    seller: str
    """empty if all photos count as one seller's"""
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
      command: the command line that did it.
    """
    title = f"{name}, without watermarks"
    write_page(path, "watermarks.html", title=title, facts=facts, command=command, cleaned=cleaned)
