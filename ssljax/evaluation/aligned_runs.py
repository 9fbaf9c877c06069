"""Two runs' embeddings of the items that both have, so that both answer the same queries in the same gallery."""

import dataclasses

import numpy as np

from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.retrieval import Retrieval
from ssljax.evaluation.ranking import Ranking, relevance
from ssljax.types import Embed, UserError


@dataclasses.dataclass(frozen=True)
class Paired:
    """Split name → embeddings of run A and of run B, of the same items in the same order."""

    retrieval: Retrieval
    """the evaluator that compares them"""
    a: dict[str, Embeddings]
    b: dict[str, Embeddings]
    left_out: dict[str, tuple[int, int]]
    """split → how many items only A has, and only B"""

    @classmethod
    def of(cls, retrieval: Retrieval, a: Embed, b: Embed) -> "Paired":
        """Raises UserError if no item is in both runs, or if an item's groups differ between them."""
        parts_a, parts_b, left_out = {}, {}, {}
        for split in dict.fromkeys((retrieval.split, retrieval.searched)):
            one, other = a(split), b(split)
            row_of = {item: row for row, item in enumerate(other.ids)}
            rows = np.array([row for row, item in enumerate(one.ids) if item in row_of], int)
            if not len(rows):
                raise UserError(
                    f"no item of split {split!r} is in both runs (one has {one.ids[0]!r}, the other {other.ids[0]!r}): "
                    "compare runs on the same data"
                )
            parts_a[split] = one.select(rows)
            parts_b[split] = other.select(np.array([row_of[item] for item in one.ids[rows]]))
            left_out[split] = len(one) - len(rows), len(other) - len(rows)
        for split, part in parts_a.items():
            groups, others = relevance(retrieval.relevant, part, parts_b[split])
            # The numbers of listings may differ between runs: only the groups that they form must agree.
            if not _same_partition(groups, others):
                raise UserError(
                    f"the runs' items of split {split!r} differ in {' and '.join(retrieval.columns)}, which says which "
                    "answers are right: compare runs on the same data"
                )
        return cls(retrieval, parts_a, parts_b, left_out)

    def rankings(self) -> tuple[Ranking, Ranking]:
        """The ranking of each run, with the groups of run A."""
        ranking, b = self.retrieval.ranking(self.a.__getitem__), self.b
        queries, gallery = b[self.retrieval.split].vectors, b[self.retrieval.searched].vectors
        return ranking, dataclasses.replace(ranking, queries=queries, gallery=gallery)


def _same_partition(groups: np.ndarray, others: np.ndarray) -> bool:
    """Whether two numberings i32[n] form the same groups; -1 must agree too."""
    if ((groups < 0) != (others < 0)).any():
        return False
    pairs = len(np.unique(np.stack([groups, others]), axis=1).T)
    return pairs == len(np.unique(groups)) == len(np.unique(others))
