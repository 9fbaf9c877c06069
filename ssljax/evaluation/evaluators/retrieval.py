"""Retrieval as an evaluator: how often the same item, or one like it, is found."""

import dataclasses
from typing import Any

import numpy as np

from ssljax.evaluation.bootstrap import means_and_intervals
from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.base import named
from ssljax.evaluation.metrics import PerQuery, per_query_figures
from ssljax.evaluation.ranking import Ranking, compared_values, relevance
from ssljax.types import Embed, UserError, check_fields, short

MOST_VALUES = 100  # of a column that figures are broken down by: more rows than that nobody reads
BLANK = "(blank)"


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Ranks a gallery by cosine for each query. Figures are called `<split>/[<name>/]cmc@1` and so on.

    Queries are the items of `split` that have a relevant item in the gallery; `metrics` defines the figures. Those of
    a part of the queries (see `by`) are called `<split>/[<name>/]<column>=<value>/cmc@1`, and the ends of an interval
    (see `interval`) `cmc@1-low` and `cmc@1-high`. `per_query` gives the figures of each query.
    """

    relevant: str | tuple[str, ...] = "listing"
    """Items are relevant to each other if they agree in this column, or in all of these; case and outer blanks do not
    matter, and a blank agrees with nothing. "listing" and "label" work without a column of that name."""
    split: str = "test"
    """The split that the queries come from."""
    gallery: str | None = None
    """The split that is searched; None: the split of the queries, each left out of its own ranking."""
    ks: tuple[int, ...] = (1, 5, 10)
    """The ranks k of CMC@k and P@k."""
    caps: tuple[int, ...] = ()
    """Also report MAP@min(R, c) for these c, to compare with figures from a search no deeper than c."""
    depths: tuple[int, ...] = ()
    """Also report Google Landmarks' mAP@d, the average precision of the first d over min(R, d), for these d: (100,)."""
    recalls: tuple[int, ...] = ()
    """Also report information retrieval's recall at these k: hits in the first k, over R."""
    by: str | None = None
    """Also report the figures for the queries of each value of this column, which has at most 100 values."""
    interval: float | None = None
    """Also report the ends of each figure's bootstrap interval of this level, such as 0.95; see `bootstrap`. There is
    no interval if all queries are in one group."""
    after: tuple[Any, ...] = ()
    """Post-processing of the unit vectors, in this order: Whitening, QueryExpansion, ..."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Retrieval", ks=1, caps=1, depths=1, recalls=1)
        if not self.ks:
            raise UserError("Retrieval.ks=() is empty: try (1, 5, 10)")
        if self.interval is not None and not 0 < self.interval < 1:
            raise UserError(f"Retrieval.interval={self.interval} must be between 0 and 1: try 0.95")
        if not self.relevant:
            raise UserError(f"Retrieval.relevant={self.relevant!r} is empty: name a column")
        for step in self.after:
            if not (callable(step) and hasattr(step, "check")):
                raise UserError(
                    f"Retrieval.after={short(step)} must be a post-processing step, such as Whitening(dim=128)"
                )

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or no query has a relevant item."""
        found = self._found(embed)
        figures = means_and_intervals(found, self.interval)
        if self.by is None:
            return named(figures, self.split, self.name)
        values = np.array(self._parts(embed(self.split), self.by), object)[found.ids]
        for value in sorted(set(values.tolist())):
            part = means_and_intervals(found.select(values == value), self.interval)
            del part["queries_left_out"]
            figures |= {f"{self.by}={value}/{name}": figure for name, figure in part.items()}
        return named(figures, self.split, self.name)

    def per_query(self, embed: Embed) -> PerQuery:
        """The figures of each query, with its id, as `bootstrap.compare` takes them; raises as a call does."""
        found = self._found(embed)
        return dataclasses.replace(found, ids=embed(self.split).ids[found.ids])

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items cannot be judged, whatever their vectors."""
        for step in self.after:
            step.check(len(embed(self.searched)), embed)
        if not len(self.ranking(embed).asked):
            raise UserError(
                f"Retrieval.relevant={self.relevant!r}: no item of split {self.split!r} has a relevant one in the "
                "gallery, as its values never repeat: name a column that related items share"
            )
        if self.by is not None:
            self._parts(embed(self.split), self.by)

    @property
    def first_figure(self) -> str:
        """The name of CMC@k at the first of `ks`, the figure that compares networks."""
        return next(iter(named({f"cmc@{self.ks[0]}": 0.0}, self.split, self.name)))

    @property
    def searched(self) -> str:
        """The split that is searched."""
        return self.split if self.gallery is None else self.gallery

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that relevant items agree in."""
        return (self.relevant,) if isinstance(self.relevant, str) else self.relevant

    @property
    def meaning(self) -> str:
        """What relevant items are, as the end of a sentence: "of the same gender, articleType and baseColour"."""
        *first, last = self.columns
        return "of the same " + (f"{', '.join(first)} and {last}" if first else last)

    def ranking(self, embed: Embed) -> Ranking:
        """Queries and gallery, before any step of `after`."""
        return Ranking.of(embed, self.relevant, self.split, self.gallery)

    def groups(self, embeddings: Embeddings) -> np.ndarray:
        """i32[n]: the number that items relevant to each other share; -1 = relevant to none."""
        return relevance(self.relevant, embeddings)[0]

    def _found(self, embed: Embed) -> PerQuery:
        """The figures of each query, with its row in the split."""
        ranking = self.ranking(embed)
        if ranking.queries.shape[1] != ranking.gallery.shape[1]:
            raise UserError(
                f"the embeddings of splits {self.split!r} and {self.gallery!r} differ in their number of dimensions"
            )
        queries, gallery = ranking.units
        for step in self.after:
            queries, gallery = step(queries, gallery, ranking.own, embed)
        try:
            return per_query_figures(
                queries,
                ranking.query_groups,
                gallery,
                ranking.gallery_groups,
                own=ranking.own,
                ks=self.ks,
                caps=self.caps,
                depths=self.depths,
                recalls=self.recalls,
            )
        except UserError as error:
            raise UserError(f"Retrieval.relevant={self.relevant!r} on split {self.split!r}: {error}") from None

    def _parts(self, queries: Embeddings, by: str) -> list[str]:
        """The value of `by` of each query, as it is compared."""
        values = [BLANK if v is None else str(v) for v in compared_values(queries, by, "Retrieval.by")]
        if len(set(values)) > MOST_VALUES:
            raise UserError(
                f"Retrieval.by={self.by!r} has {len(set(values)):,} values: name a column of at most {MOST_VALUES}"
            )
        return values
