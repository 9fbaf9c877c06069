"""Products from matches: items that matches connect are one group."""

import dataclasses
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ssljax.evaluation.matching.lists import MatchLists
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """n items in G groups, with what holds each group together."""

    number: np.ndarray
    """i32[n], the group of each item, in the order of their first items"""
    sizes: np.ndarray
    """i64[G], how many items each has"""
    margins: np.ndarray
    """f32[G], how far the threshold may rise before the group falls apart; inf for a group of one item"""
    links: np.ndarray
    """i64[G], how many pairs connect the two parts that it then falls into; 0 for a group of one item"""
    weakest: np.ndarray
    """i32[G, 2], the pair of the largest margin among these; -1 for a group of one item"""
    parts: np.ndarray
    """i32[n], which of the two parts each item is in: 0, that of the group's first item, or 1"""

    @property
    def doubtful_first(self) -> np.ndarray:
        """i64[m], the groups of several items: first those that one pair holds together, the smallest margin first."""
        several = np.flatnonzero(self.sizes > 1)
        one_pair = (self.links == 1) & (self.sizes > 2)
        return several[np.lexsort((self.margins[several], ~one_pair[several]))]


def group(matches: MatchLists, by: Literal["components", "mutual"] = "components") -> Groups:
    """The groups of items that matches connect, directly or through others.

    Args:
      matches: of n items.
      by: "components" takes a pair if either has the other among its matches, "mutual" only if both have.

    Raises:
      UserError: `by` is something else.
    """
    if by not in ("components", "mutual"):
        raise UserError(f"groups={by!r}: choose components or mutual")
    low, high, margins = _edges(matches, mutual=by == "mutual")
    count = len(matches)
    number = _components(low, high, count)
    sizes = np.bincount(number)
    # The pairs of a maximum spanning tree are the last to go as the threshold rises, so its weakest pair says when the
    # group falls apart. SciPy takes a weight of 0 for no edge.
    weights = 1 + (margins.max(initial=0) - margins.astype(np.float64))
    tree = csgraph.minimum_spanning_tree(sparse.csr_array((weights, (low, high)), shape=(count, count))).tocoo()
    order = np.lexsort((tree.data, number[tree.row]))
    last = np.append(np.diff(number[tree.row][order]) > 0, True)[: len(order)]
    weakest = order[last]
    held = np.full(len(sizes), np.inf, np.float32)
    held[number[tree.row[weakest]]] = margins.max(initial=0) - (tree.data[weakest] - 1)
    rest = np.delete(np.arange(len(tree.row)), weakest)
    halves = _components(tree.row[rest], tree.col[rest], count)
    links = np.bincount(number[low[halves[low] != halves[high]]], minlength=len(sizes))
    pairs = np.full((len(sizes), 2), -1, np.int32)
    pairs[number[tree.row[weakest]]] = np.stack([tree.row[weakest], tree.col[weakest]], axis=1)
    _, first = np.unique(number, return_index=True)
    parts = (halves != halves[first[number]]).astype(np.int32) if count else number
    return Groups(number, sizes, held, links, pairs, parts)


def _edges(matches: MatchLists, *, mutual: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs low < high, each once, with the larger margin of the two directions, or the smaller if both must match."""
    items, others, margins = matches.pairs
    low, high = np.minimum(items, others).astype(np.int64), np.maximum(items, others).astype(np.int64)
    order = np.lexsort((margins if mutual else -margins, high, low))
    low, high, margins = low[order], high[order], margins[order]
    same = np.append(False, (low[1:] == low[:-1]) & (high[1:] == high[:-1]))
    kept = np.append(same[1:], False)[: len(same)] if mutual else ~same
    kept = kept[: len(low)]
    return low[kept], high[kept], margins[kept]


def _components(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """i32[count], the connected component of each item, numbered in the order of their first items."""
    graph = sparse.csr_array((np.ones(len(low), np.int8), (low, high)), shape=(count, count))
    _, found = csgraph.connected_components(graph, directed=False)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int32)
    place[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    return place[inverse]
