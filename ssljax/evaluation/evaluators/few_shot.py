"""Few-shot classification: how well a handful of labelled photos of each class predict the labels of the rest."""

import dataclasses

import numpy as np

from ssljax.evaluation.evaluators.base import check_splits, labelled, named
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Predicts for each photo of `split` the class whose mean of n photos of `gallery` is nearest by cosine.

    Figures, for each n of `shots`: `<split>/<name>/<n>_shot`, the share predicted correctly, a mean over `draws` of the
    n photos, and `<n>_shot_std`, its standard deviation over the draws. All classes compete at once. Only classes with
    at least max(shots) labelled photos in `gallery` take part, so that every n has the same classes: `classes` is their
    number, `queries` that of the photos of `split` in these classes, and `queries_left_out` that of the others.
    Source: the nearest class mean of Mensink et al. 2013, on unit vectors as in SimpleShot (Wang et al. 2019).
    """

    shots: tuple[int, ...] = (1, 5, 10)
    """Labelled photos of each class."""
    draws: int = 10
    """How often the labelled photos are drawn."""
    seed: int = 0
    """Of the draws."""
    gallery: str = "train"
    """The split that labelled photos are drawn from."""
    split: str = "test"
    """The split whose labels are predicted."""
    name: str = "few_shot"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "FewShot", shots=1, draws=1, seed=0)
        if not self.shots:
            raise UserError("FewShot.shots=() is empty: try (1, 5, 10)")
        check_splits(self, "gallery", "split", because="photos would be their own example")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError as `check`."""
        examples, rows_of_class, queries, truth = self._parts(embed)
        examples, queries = normalise(examples), normalise(queries)
        rng = np.random.default_rng(self.seed)
        accuracies = np.zeros((self.draws, len(self.shots)))
        for draw in range(self.draws):
            rows = np.stack([rng.choice(rows, max(self.shots), replace=False) for rows in rows_of_class])
            for k, shots in enumerate(self.shots):
                means = normalise(examples[rows[:, :shots]].mean(axis=1))
                nearest, _ = top_k(queries, means, 1)
                accuracies[draw, k] = (nearest[:, 0] == truth).mean()
        figures: dict[str, float] = {}
        for shots, accuracy in zip(self.shots, accuracies.T, strict=True):
            figures |= {f"{shots}_shot": float(accuracy.mean()), f"{shots}_shot_std": float(accuracy.std())}
        left_out = len(embed(self.split)) - len(truth)
        figures |= {"classes": len(rows_of_class), "queries": len(truth), "queries_left_out": left_out}
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if there are no labels, too few photos of each class, or no queries."""
        self._parts(embed)

    def _parts(self, embed: Embed) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
        """The gallery's vectors and each class's rows in it; the queries' vectors and the places of their classes."""
        examples, labels = labelled("FewShot", embed(self.gallery), self.gallery)
        queries, truth = labelled("FewShot", embed(self.split), self.split)
        classes, sizes = np.unique(labels, return_counts=True)
        classes = classes[sizes >= max(self.shots)]
        judged = np.isin(truth, classes)
        if len(classes) < 2 or not judged.any():
            raise UserError(
                f"FewShot.shots={self.shots}: split {self.gallery!r} has {len(classes)} classes of {max(self.shots)} "
                f"photos or more, and {self.split!r} {int(judged.sum())} photos of these: try fewer shots"
            )
        rows = [np.flatnonzero(labels == c) for c in classes]
        return examples, rows, queries[judged], np.searchsorted(classes, truth[judged])
