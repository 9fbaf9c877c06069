"""The kNN classifier of self-supervised learning: how well neighbours predict the label, without training.

scikit-learn's KNeighborsClassifier would hold the distances on the host; here a chunk of them is on the device.
"""

import dataclasses

import numpy as np

from ssljax.evaluation.evaluators.base import check_above_0, check_splits, labelled, named
from ssljax.evaluation.nearest import top_k_chunks
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, check_fields


@dataclasses.dataclass(frozen=True)
class KNN:
    """Predicts the labels of `split` by the `k` nearest in `gallery`; a cosine s has the vote exp(s / temperature).

    Figures: `<split>/<name>/accuracy`, the share predicted correctly; `queries` and `queries_left_out`, the photos with
    and without a label; and `k`, lowered to the number of labelled photos in `gallery` if there are fewer. Photos
    without a label do not vote; of labels with equal votes the lower number wins.
    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4.
    FAIR's and lightly's evaluations on CIFAR are this with k = 200, T = 0.1; DINO's with k = 20, T = 0.07.
    """

    k: int = 200
    """Neighbours that vote."""
    temperature: float = 0.1
    """The lower, the more the nearest decide."""
    gallery: str = "train"
    """The split of the neighbours."""
    split: str = "test"
    """The split whose labels are predicted."""
    name: str = "knn"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "KNN", k=1)
        check_above_0(self, "temperature")
        check_splits(self, "gallery", "split", because="a photo would vote for itself")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError if a split has no labels."""
        (gallery, labels), (queries, truth) = (
            labelled("KNN", embed(split), split) for split in (self.gallery, self.split)
        )
        gallery, queries = normalise(gallery), normalise(queries)
        names, labels = np.unique(labels, return_inverse=True)  # votes are counted in a table of Q x classes
        k = min(self.k, len(labels))
        right = 0
        for part, rows, scores in top_k_chunks(queries, gallery, k):
            right += int((names[vote(labels[rows], scores, self.temperature)] == truth[part]).sum())
        figures = {
            "accuracy": right / len(truth),
            "queries": len(truth),
            "queries_left_out": len(embed(self.split)) - len(truth),
            "k": k,
        }
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items have no labels."""
        for split in (self.gallery, self.split):
            labelled("KNN", embed(split), split)


def vote(labels: np.ndarray, scores: np.ndarray, temperature: float) -> np.ndarray:
    """i32[Q]: each query's label with the most votes, of its neighbours' labels i32[Q, k] and cosines f32[Q, k]."""
    return votes(labels, scores, temperature, int(labels.max()) + 1).argmax(axis=1).astype(np.int32)


def votes(labels: np.ndarray, scores: np.ndarray, temperature: float, classes: int) -> np.ndarray:
    """f64[Q, classes]: the votes for each label, that of the nearest neighbour being 1; arguments as for `vote`."""
    each = weights(scores, temperature)
    cells = np.arange(len(labels))[:, None] * classes + labels
    return np.bincount(cells.ravel(), each.ravel(), minlength=len(labels) * classes).reshape(len(labels), classes)


def weights(scores: np.ndarray, temperature: float) -> np.ndarray:
    """f64[Q, k]: the vote of each neighbour, exp(s / temperature) over that of the nearest; best first, f32[Q, k]."""
    # relative to the nearest, so that a low temperature does not overflow
    return np.exp((scores - scores[:, :1]) / np.float64(temperature))
