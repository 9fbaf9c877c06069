"""Photos and titles as each other's answers: how often a photo finds its title, and a title its photo."""

import dataclasses

import numpy as np

from ssljax.data.text import comparable
from ssljax.evaluation.bootstrap import means_and_intervals
from ssljax.evaluation.evaluators.base import named, text_column
from ssljax.evaluation.metrics import PerQuery, cmc, is_relevant, relevant_items
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class PhotoToTitle:
    """Ranks the titles of a split for each photo, and its photos for each title, by cosine.

    Figures are called `<split>/[<name>/]photo-to-title/cmc@1`, `<split>/[<name>/]title-to-photo/cmc@1` and so on: the
    share of queries with a right answer among the first k, which is the Recall@k of CLIP and others. A photo's own
    title is a right answer, and so are those of the items that are relevant to it; the same for a title. Titles that
    are blank are neither queries nor answers, and one that several items share is there once. `queries_left_out` counts
    the photos, or the titles, without a right answer.

    It needs a method that embeds titles apart from photos, such as CLIP or SigLIP. What does not, such as raw pixels or
    a teacher, has no figures.
    """

    relevant: str | tuple[str, ...] = "title"
    """Items are relevant to each other if they agree in this column, or in all of these; case and outer blanks do not
    matter, and a blank agrees with nothing."""
    split: str = "test"
    """The split whose photos and titles are compared."""
    ks: tuple[int, ...] = (1, 5, 10)
    """The ranks k of CMC@k."""
    interval: float | None = None
    """Also report the ends of each figure's bootstrap interval of this level, such as 0.95; see `bootstrap`."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "PhotoToTitle", ks=1)
        if not self.ks:
            raise UserError("PhotoToTitle.ks=() is empty: try (1, 5, 10)")
        if self.interval is not None and not 0 < self.interval < 1:
            raise UserError(f"PhotoToTitle.interval={self.interval} must be between 0 and 1: try 0.95")
        if not self.relevant:
            raise UserError(f"PhotoToTitle.relevant={self.relevant!r} is empty: name a column")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`, none without embeddings of titles; raises UserError as `check`."""
        if embed(self.split).title_vectors is None:
            return {}
        figures = {}
        for direction, found in self.per_query(embed).items():
            means = means_and_intervals(found, self.interval)
            figures |= {f"{direction}/{name}": figure for name, figure in means.items()}
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if the method embeds no titles, a column is missing or nothing has a right answer."""
        self.per_query(embed)

    def per_query(self, embed: Embed) -> dict[str, PerQuery]:
        """ "photo-to-title" and "title-to-photo" → CMC@k of each query; raises UserError as `check`."""
        items = embed(self.split)
        if items.title_vectors is None:
            raise UserError(
                "PhotoToTitle compares photos with titles, and the method embeds no titles apart from photos: choose "
                "CLIP or SigLIP"
            )
        (groups,) = relevance(self.relevant, items, field="PhotoToTitle.relevant")
        titles = text_column(embed, self.split, "title", "PhotoToTitle")
        first: dict[tuple[str, int], int] = {}
        for row, (title, group) in enumerate(zip(titles, groups.tolist(), strict=True)):
            if key := comparable(title).casefold():
                first.setdefault((key, group), row)
        titled = np.array([*first.values()], int)
        photo = normalise(items.vectors), np.arange(len(items))
        title = normalise(items.title_vectors)[titled], titled
        found = {}
        for direction, (queries, rows), (gallery, places) in (
            ("photo-to-title", photo, title),
            ("title-to-photo", title, photo),
        ):
            asked = np.flatnonzero(relevant_items(groups[rows], groups[places]))
            if not len(asked):
                raise UserError(
                    f"PhotoToTitle.relevant={self.relevant!r}: no item of split {self.split!r} has both a title and a "
                    "value there"
                )
            nearest, _ = top_k(queries[asked], gallery, max(self.ks))
            own = groups[rows[asked]]
            right = is_relevant(own, groups[places], nearest)
            figures = {f"cmc@{k}": cmc(right, k) for k in self.ks}
            found[direction] = PerQuery(items.ids[rows[asked]], own, figures, left_out=len(rows) - len(asked))
        return found
