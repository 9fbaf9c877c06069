"""Indexes: the best items of a catalogue for a query, under the items' own ids.

    index = ScaNN().build(ids, vectors)
    ids, scores = index.search(queries, k=10)
    index.save("index"); index = open_index("index")

`Exact`, `ScaNN` and `Faiss` are settings; what they build is searched, changed and saved. The libraries end the process
or give wrong ids on bad input, so `base` checks everything before they are called, and keeps ids and changes itself.
"""

import importlib.util
from pathlib import Path

from ssljax.search.index.base import Builder, Id, Index, Metric, Structure
from ssljax.search.index.exact import Exact
from ssljax.search.index.faiss import Faiss
from ssljax.search.index.scann import ScaNN

KINDS = {kind.__name__: kind for kind in (Exact, ScaNN, Faiss)}


def open_index(folder: Path) -> Index:
    """The index that was saved in `folder`; raises UserError if it is not one, or not as it was saved."""
    return Index.open(folder, KINDS)


def default_index() -> Builder:
    """ScaNN where its package is installed (Linux), and else Exact."""
    return ScaNN() if importlib.util.find_spec("scann") else Exact()


__all__ = ["Builder", "Exact", "Faiss", "Id", "Index", "Metric", "ScaNN", "Structure", "default_index", "open_index"]
