"""Search: indexes of embeddings, collections that remember what is known of their items, and the HTTP service.

Nothing here trains or evaluates a run.
"""

from ssljax.search.advice import index_advice
from ssljax.search.collection import Collection, Item, save_collection
from ssljax.search.index import Builder, Exact, Faiss, Index, ScaNN, build_for_all, default_index, open_index

__all__ = [
    "Builder",
    "Collection",
    "Exact",
    "Faiss",
    "Index",
    "Item",
    "ScaNN",
    "build_for_all",
    "default_index",
    "index_advice",
    "open_index",
    "save_collection",
]
