"""Revisited Oxford and Paris (Radenović et al. 2018, "Revisiting Oxford and Paris"): easy, medium and hard."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from ssljax.evaluation.evaluators.base import named
from ssljax.evaluation.evaluators.ground_truth import LISTS, GroundTruth, read_ground_truth
from ssljax.evaluation.metrics import PerQuery, trapezoid_ap
from ssljax.evaluation.nearest import top_k_chunks
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields

# The lists that are right at each level; the others are junk.
LEVELS = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}


def revisited_query(ranks: np.ndarray, positives: int, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """The figures of one query at one level, of its whole ranking.

    - trapezoid-map-over-r: `metrics.trapezoid_ap`.
    - p@k-over-min(last,k): hits in the first min(last, k), over that; last is the rank of the last relevant item. The
      paper's mP@k, so that a query with few relevant items can reach 1.

    Args:
      ranks: i[H], of the relevant items, from 1, rising, once junk is taken out; at least one.
      positives: R.
      ks: see above.
    """
    figures = {"trapezoid-map-over-r": trapezoid_ap(ranks, positives)}
    for k in ks:
        depth = min(int(ranks[-1]), k)
        figures[f"p@{k}-over-min(last,{k})"] = float((ranks <= depth).sum() / depth)
    return figures


@dataclasses.dataclass(frozen=True)
class Revisited:
    """Ranks the whole gallery for each query. Figures are called `<split>/[<name>/]<level>/trapezoid-map-over-r` etc.

    `revisited_query` defines them, for each level: easy (hard photos are junk), medium (easy and hard photos are
    right), hard (easy photos are junk). "queries_left_out" have nothing right at that level.

    Photos are matched to the ground truth by their file names, without folders and extensions. Cut the queries to the
    ground truth's boxes first, as the protocol demands: `read_ground_truth(path).boxes`. Photos of the gallery that the
    ground truth does not list are distractors: wrong for each query.
    """

    ground_truth: str
    """The published file, gnd_roxford5k.pkl or gnd_rparis6k.pkl."""
    split: str = "queries"
    """The split of the queries."""
    gallery: str = "gallery"
    """The split that is searched."""
    ks: tuple[int, ...] = (1, 5, 10)
    """The ranks k of mP@k."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Revisited", ks=1)

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if the file cannot be read or lists a photo that is missing."""
        figures = {
            f"{level}/{name}": value
            for level, found in self.per_query(embed).items()
            for name, value in found.means().items()
        }
        return named(figures, self.split, self.name)

    def per_query(self, embed: Embed) -> dict[str, PerQuery]:
        """Level → the figures of each query, with its id; queries of one building are a group. Raises as a call does.

        Levels at which no query has a right item are missing.
        """
        truth, query_rows, gallery_rows = self._truth(embed)
        queries, gallery = embed(self.split), embed(self.gallery)
        figures: dict[str, dict[int, dict[str, float]]] = {level: {} for level in LEVELS}
        vectors = normalise(queries.vectors[query_rows])
        for part, rankings, _ in top_k_chunks(vectors, normalise(gallery.vectors), len(gallery)):
            for query, ranking in enumerate(rankings, start=part.start):
                kind = np.zeros(len(gallery), np.uint8)
                for name in reversed(LISTS):  # a photo in two lists counts as right
                    kind[gallery_rows[getattr(truth, name)[query]]] = 1 + LISTS.index(name)
                places = np.flatnonzero(kind[ranking])
                kinds = kind[ranking[places]]
                for level, right in LEVELS.items():
                    relevant = np.isin(kinds, [1 + LISTS.index(name) for name in right])
                    ranks = (places + 1 - np.cumsum(~relevant))[relevant]  # less the junk before
                    if len(ranks):
                        figures[level][query] = revisited_query(ranks, len(ranks), self.ks)
        buildings = np.unique([name.rpartition("_")[0] or name for name in truth.queries], return_inverse=True)[1]
        return {
            level: PerQuery(
                queries.ids[query_rows[list(found)]],
                buildings[list(found)],
                {name: np.array([row[name] for row in found.values()]) for name in next(iter(found.values()))},
                left_out=len(truth.queries) - len(found),
            )
            for level, found in figures.items()
            if found
        }

    def check(self, embed: Embed) -> None:
        """Raises UserError if the file cannot be read or lists a photo that is missing."""
        self._truth(embed)

    def _truth(self, embed: Embed) -> tuple[GroundTruth, np.ndarray, np.ndarray]:
        """The file's content, and the rows of its queries and of its gallery in the splits."""
        truth = read_ground_truth(Path(self.ground_truth))
        rows = []
        for split, names in ((self.split, truth.queries), (self.gallery, truth.gallery)):
            place = {PurePath(i).stem: row for row, i in enumerate(embed(split).ids)}
            if missing := [name for name in names if name not in place]:
                raise UserError(
                    f"Revisited: split {split!r} lacks {len(missing)} of the {len(names)} photos of "
                    f"{self.ground_truth}: the first is {missing[0]!r}"
                )
            rows.append(np.array([place[name] for name in names]))
        return truth, *rows
