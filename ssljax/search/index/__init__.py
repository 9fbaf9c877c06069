"""Indexes: the best items of a catalogue for a query, under the items' own ids.

    index = ScaNN().build(ids, vectors)
    ids, scores = index.search(queries, k=10)
    index.save("index"); index = open_index("index")

`Exact`, `ScaNN` and `Faiss` are settings, which build an `Index`. The libraries end the process or return wrong ids on
bad input, so `base` checks everything before it calls them, and keeps ids and changes itself.
"""

import importlib.util
from pathlib import Path

from ssljax.search.index.base import Builder, Id, Index, Metric, Structure
from ssljax.search.index.exact import Exact
from ssljax.search.index.faiss import Faiss
from ssljax.search.index.scann import ScaNN

KINDS = {kind.__name__: kind for kind in (Exact, ScaNN, Faiss)}


def open_index(folder: Path) -> Index:
    """Opens the index saved in `folder`; raises UserError if there is none, or it is damaged."""
    return Index.open(folder, KINDS)


def default_index() -> Builder:
    """ScaNN where it is installed (Linux), otherwise Exact."""
    return ScaNN() if importlib.util.find_spec("scann") else Exact()


__all__ = ["Builder", "Exact", "Faiss", "Id", "Index", "Metric", "ScaNN", "Structure", "default_index", "open_index"]
