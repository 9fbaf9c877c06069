"""Copydays: is an attacked photo's original found, among originals and distractors?"""

import dataclasses
from pathlib import PurePath

import numpy as np

from ssljax.data.columns import text
from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.base import check_splits, named
from ssljax.evaluation.metrics import PerQuery, cmc, is_relevant, trapezoid_ap
from ssljax.evaluation.nearest import top_k_chunks
from ssljax.evaluation.ranking import Ranking
from ssljax.types import Embed, UserError, check_fields

BLOCK = "block"
DIGITS = 4  # of a file's name, which give the block


@dataclasses.dataclass(frozen=True)
class Copydays:
    """Ranks the whole gallery for each query. Figures are called `<split>/[<name>/]trapezoid-map-over-r` and so on.

    - trapezoid-map-over-r: the mean of `metrics.trapezoid_ap`; R is the number of originals in the query's block: one.
    - cmc@1: how often an original of the block is first.
    - queries, queries_left_out: those with an original in the gallery, and those without.

    INRIA's file names give the block: "200001.jpg" is an attack on "200000.jpg". The published figure of the strong
    attacks is over 229 queries (Douze et al. 2009, "Evaluation of GIST descriptors"); DINO adds 10,000 distractors.
    """

    split: str = "strong"
    """The attacked photos."""
    gallery: str = "original"
    """The originals, and distractors if there are any."""
    block: str | None = None
    """The column that a query and its original agree in; None: the first four characters of the file's name."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Copydays")
        check_splits(self, "gallery", "split", because="a photo would find itself")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if no query has an original in the gallery."""
        return named(self.per_query(embed).means(), self.split, self.name)

    def per_query(self, embed: Embed) -> PerQuery:
        """The figures of each query, with its id; raises as a call does."""
        ranking = self._ranking(embed)
        asked, positives, (queries, gallery) = ranking.asked, ranking.positives, ranking.units
        figures = {"trapezoid-map-over-r": np.empty(len(asked)), "cmc@1": np.empty(len(asked))}
        for part, rows, _ in top_k_chunks(queries[asked], gallery, len(gallery)):
            relevant = is_relevant(ranking.query_groups[asked[part]], ranking.gallery_groups, rows)
            figures["trapezoid-map-over-r"][part] = [
                trapezoid_ap(np.flatnonzero(row) + 1, r)
                for row, r in zip(relevant, positives[asked[part]], strict=True)
            ]
            figures["cmc@1"][part] = cmc(relevant, 1)
        ids, groups = embed(self.split).ids[asked], ranking.query_groups[asked]
        return PerQuery(ids, groups, figures, left_out=len(queries) - len(asked))

    def check(self, embed: Embed) -> None:
        """Raises UserError if no query has an original in the gallery."""
        self._ranking(embed)

    def _ranking(self, embed: Embed) -> Ranking:
        def with_blocks(split: str) -> Embeddings:
            part = embed(split)
            if self.block is not None:
                return part
            return dataclasses.replace(part, columns={BLOCK: text(PurePath(i).name[:DIGITS] for i in part.ids)})

        ranking = Ranking.of(with_blocks, self.block or BLOCK, self.split, self.gallery, field="Copydays.block")
        if not len(ranking.asked):
            raise UserError(
                f"Copydays: no item of split {self.split!r} has its original in {self.gallery!r}: name the column "
                "`block` that they share"
            )
        return ranking
