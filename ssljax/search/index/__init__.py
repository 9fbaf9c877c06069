"""Indexes: the best items of a catalogue for a query, under the items' own ids.

    index = ScaNN().build(ids, vectors)
    ids, scores = index.search(queries, k=10)
    index.save("index"); index = open_index("index")

`Exact`, `ScaNN` and `Faiss` are settings, which build an `Index`. The libraries end the process or return wrong ids on
bad input, so `base` checks everything before it calls them, and keeps ids and changes itself.
"""

import importlib.util
from pathlib import Path

from ssljax.evaluation.nearest import Build
from ssljax.search.index.base import Builder, Id, Index, Metric, Structure
from ssljax.search.index.exact import Exact
from ssljax.search.index.faiss import Faiss
from ssljax.search.index.scann import ScaNN

COMPARED = 20_000
LEAF, LEAVES = 500, 30  # items of a leaf on average, and leaves that are searched

KINDS = {kind.__name__: kind for kind in (Exact, ScaNN, Faiss)}


def open_index(folder: Path) -> Index:
    """Opens the index saved in `folder`; raises UserError if there is none, or it is damaged."""
    return Index.open(folder, KINDS)


def default_index() -> Builder:
    """ScaNN where it is installed (Linux), otherwise Exact."""
    return ScaNN() if importlib.util.find_spec("scann") else Exact()


def build_for_all(items: int) -> Build | None:
    """What finds the neighbours of every one of so many items: for `evaluation.matching`.

    None up to 20,000 items, which are compared with each other in half a minute on two cores. Above that an index whose
    leaves do not grow with the items, and of which as many are searched whatever their number, so that time is linear
    in the items; the default of `ScaNN` searches a tenth of the leaves. Without ScaNN all items are compared.
    """
    if items <= COMPARED or not isinstance(default_index(), ScaNN):
        return None
    builder = ScaNN(leaves=items // LEAF, leaves_to_search=LEAVES)
    return lambda vectors: builder.structure(vectors).search


__all__ = [
    "Builder",
    "Exact",
    "Faiss",
    "Id",
    "Index",
    "Metric",
    "ScaNN",
    "Structure",
    "build_for_all",
    "default_index",
    "open_index",
]
