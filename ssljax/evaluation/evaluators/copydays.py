"""Copydays: is an attacked photo's original found, among originals and distractors?"""

import dataclasses
from pathlib import PurePath

import numpy as np

from ssljax.data.items import text
from ssljax.evaluation.evaluators.retrieval import named, relevance
from ssljax.evaluation.metrics import PerQuery, relevant_items
from ssljax.evaluation.top_k import top_k_chunks
from ssljax.evaluation.trapezoid import trapezoid_ap
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields

BLOCK = "block"
DIGITS = 4  # of a file's name, which say the block


@dataclasses.dataclass(frozen=True)
class Copydays:
    """Ranks the whole gallery for each query. Figures are called `<split>/[<name>/]trapezoid-map-over-r` and so on.

    - trapezoid-map-over-r: the mean of `trapezoid.trapezoid_ap`, with R the originals of the query's block: one.
    - cmc@1: how often an original of the block is first.
    - queries, queries_left_out: those with an original in the gallery, and those without.

    INRIA's names say the block: "200001.jpg" is an attack on "200000.jpg". The published figure of the strong attacks
    is over 229 queries (Douze et al. 2009, "Evaluation of GIST descriptors"); DINO adds 10,000 distractors.
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
        if self.gallery == self.split:
            raise UserError(f"Copydays.gallery and Copydays.split are both {self.split!r}: a photo would find itself")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if no query has an original in the gallery."""
        return named(self.per_query(embed).means(), self.split, self.name)

    def per_query(self, embed: Embed) -> PerQuery:
        """The figures of each query, with its id; raises as a call does."""
        queries, gallery = embed(self.split), embed(self.gallery)
        query_blocks, gallery_blocks, positives = self._truth(embed)
        asked = np.flatnonzero(positives)
        figures = {"trapezoid-map-over-r": np.empty(len(asked)), "cmc@1": np.empty(len(asked))}
        vectors = normalise(queries.vectors[asked])
        for part, rows, _ in top_k_chunks(vectors, normalise(gallery.vectors), len(gallery)):
            query = asked[part]
            relevant = gallery_blocks[rows] == query_blocks[query][:, None]
            figures["trapezoid-map-over-r"][part] = [
                trapezoid_ap(np.flatnonzero(row) + 1, r) for row, r in zip(relevant, positives[query], strict=True)
            ]
            figures["cmc@1"][part] = relevant[:, 0]
        return PerQuery(queries.ids[asked], query_blocks[asked], figures, left_out=len(queries) - len(asked))

    def check(self, embed: Embed) -> None:
        """Raises UserError if no query has an original in the gallery: to be known before training."""
        self._truth(embed)

    def _truth(self, embed: Embed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blocks of the queries and of the gallery, and how many originals each query has."""
        parts = [embed(self.split), embed(self.gallery)]
        if self.block is None:
            names = [text(PurePath(i).name[:DIGITS] for i in part.ids) for part in parts]
            parts = [
                dataclasses.replace(part, columns={BLOCK: blocks}) for part, blocks in zip(parts, names, strict=True)
            ]
        query_blocks, gallery_blocks = relevance((self.block or BLOCK,), *parts, field="Copydays.block")
        positives = relevant_items(query_blocks, gallery_blocks)
        if not positives.any():
            raise UserError(
                f"Copydays: no item of split {self.split!r} has its original in {self.gallery!r}: name the column "
                "`block` that they share"
            )
        return query_blocks, gallery_blocks, positives
