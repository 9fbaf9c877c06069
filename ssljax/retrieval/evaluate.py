"""Retrieval as an evaluator: how often the same, or a like, item is found."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ssljax.fields import check_fields, short
from ssljax.retrieval.embeddings import Embeddings
from ssljax.retrieval.metrics import retrieval_figures
from ssljax.retrieval.vectors import normalise
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Ranks a gallery by cosine for each query. Figures are called `<split>/[<name>/]cmc@1` and so on.

    Queries are the items of `split` that have a relevant item in the gallery; `metrics.per_query` defines the figures.
    """

    relevant: str | tuple[str, ...] = "listing"
    """Items are relevant to each other if they agree in this column, or in all of these, case and outer blanks ignored;
    a blank agrees with nothing. "listing" and "label" are the data's own if there is no column of that name."""
    split: str = "test"
    """The split that the queries come from."""
    gallery: str | None = None
    """The split that is searched; None: the split of the queries, each left out of its own ranking."""
    ks: tuple[int, ...] = (1, 5, 10)
    """The ranks k of CMC@k and P@k."""
    caps: tuple[int, ...] = ()
    """Also report MAP@min(R, c) for these c, to compare with figures from a search no deeper than c."""
    after: tuple[Any, ...] = ()
    """Steps from unit vectors to those that are compared, in this order: Whitening, QueryExpansion, ..."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Retrieval")
        if not self.ks or min(self.ks) < 1:
            raise UserError(f"Retrieval.ks={self.ks} must be ranks, at least 1: try (1, 5, 10)")
        if min(self.caps, default=1) < 1:
            raise UserError(f"Retrieval.caps={self.caps} must be at least 1: try (100,)")
        if not self.relevant:
            raise UserError("Retrieval.relevant is empty: name a column")
        for step in self.after:
            if not (callable(step) and hasattr(step, "check")):
                raise UserError(f"Retrieval.after={short(step)} must be steps, such as Whitening(dim=128)")

    def __call__(self, embed: Callable[[str], Embeddings]) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or no query has a relevant item."""
        queries, gallery = embed(self.split), embed(self.searched)
        if queries.vectors.shape[1] != gallery.vectors.shape[1]:
            raise UserError(
                f"the embeddings of {self.split!r} and {self.gallery!r} differ in their number of dimensions"
            )
        query_groups, gallery_groups = relevance(self.columns, queries, gallery)
        own = np.arange(len(queries)) if self.searched == self.split else None
        query_vectors, gallery_vectors = normalise(queries.vectors), normalise(gallery.vectors)
        for step in self.after:
            query_vectors, gallery_vectors = step(query_vectors, gallery_vectors, own, embed)
        try:
            figures = retrieval_figures(
                query_vectors,
                query_groups,
                gallery_vectors,
                gallery_groups,
                own=own,
                ks=self.ks,
                caps=self.caps,
            )
        except UserError as error:
            raise UserError(f"Retrieval.relevant={self.relevant!r} on split {self.split!r}: {error}") from None
        prefix = f"{self.split}/{self.name}/" if self.name else f"{self.split}/"
        return {prefix + name: value for name, value in figures.items()}

    def check(self, embed: Callable[[str], Embeddings]) -> None:
        """Raises UserError if these items cannot be judged so, whatever their vectors: to be known before training."""
        queries, gallery = (
            part[part >= 0] for part in relevance(self.columns, embed(self.split), embed(self.searched))
        )
        for step in self.after:
            step.check(len(embed(self.searched)), embed)
        repeated = np.bincount(queries).max(initial=0) > 1
        if not (repeated if self.searched == self.split else np.isin(queries, gallery).any()):
            raise UserError(
                f"Retrieval.relevant={self.relevant!r}: no item of split {self.split!r} has a relevant one in the "
                "gallery, as its values never repeat: name a column that related items share"
            )

    @property
    def searched(self) -> str:
        """The split that is searched."""
        return self.split if self.gallery is None else self.gallery

    @property
    def columns(self) -> tuple[str, ...]:
        """What relevant items agree in."""
        return (self.relevant,) if isinstance(self.relevant, str) else self.relevant

    @property
    def meaning(self) -> str:
        """What a relevant item is, to end a sentence: "of the same gender, articleType and baseColour"."""
        *first, last = self.columns
        return "of the same " + (f"{', '.join(first)} and {last}" if first else last)

    def groups(self, embeddings: Embeddings) -> np.ndarray:
        """i32[n]: the number that items relevant to each other share; -1 = relevant to none."""
        return relevance(self.columns, embeddings)[0]


def relevance(columns: tuple[str, ...], *embeddings: Embeddings) -> tuple[np.ndarray, ...]:
    """For each of the embeddings, i32[n]: equal numbers where all `columns` agree, also between them; -1 for a blank.

    Raises UserError if a column is missing, naming those there are.
    """
    number: dict[tuple, int] = {}
    groups = []
    for part in embeddings:
        keys = zip(*(_values(part, column) for column in columns), strict=True)
        groups.append(np.array([-1 if None in k else number.setdefault(k, len(number)) for k in keys], np.int32))
    return tuple(groups)


def _values(embeddings: Embeddings, column: str) -> list[Any]:
    """What items agree in; None where it is missing."""
    if column in embeddings.columns:
        return [value.strip().casefold() or None for value in embeddings.columns[column]]
    own = {"label": embeddings.label, "listing": embeddings.listing}
    there = list(dict.fromkeys([*embeddings.columns, *(name for name, values in own.items() if values is not None)]))
    if column not in there:
        raise UserError(f"Retrieval.relevant={column!r} is no column of the data: it has {', '.join(there) or 'none'}")
    return [number if number >= 0 else None for number in own[column].tolist()]
