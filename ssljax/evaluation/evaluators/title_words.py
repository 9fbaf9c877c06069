"""Free text from neighbours: predicts the words, of a title for example, that the nearest items' texts share.

    words = predict_words(new_photos, catalogue_photos, titles)     # [{"shirt": .97, "blue": .81}, ...]

A text that never repeats cannot be predicted as a whole by a vote, but its words can.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from ssljax.evaluation.evaluators.attributes import key
from ssljax.evaluation.evaluators.base import check_above_0, check_splits, named, text_column
from ssljax.evaluation.evaluators.knn import weights
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.vectors import checked, normalise
from ssljax.types import Embed, UserError, check_fields

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

THRESHOLDS = np.arange(1, 20) / 20


def predict_words(
    queries: np.ndarray,
    gallery: np.ndarray,
    texts: Sequence[str] | np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.05,
    threshold: float = 0.5,
) -> list[dict[str, float]]:
    """For each query the words, and their confidences, that at least `threshold` of its neighbours' votes have.

    A cosine s has the vote exp(s / temperature); case and punctuation do not matter; blank texts do not vote.

    Args:
      queries: real [Q, D], of any length.
      gallery: real [n, D], of any length.
      texts: str[n], the gallery's column.
      k: neighbours that vote; all, if fewer have a text.
      temperature: the lower, the more the nearest decide.
      threshold: above 0, at most 1.

    Raises:
      UserError: the vectors are not finite matrices of the same D; the texts are not as many or all blank; or a setting
        is out of range.
    """
    gallery = checked(gallery, "gallery")
    queries = checked(queries, "queries", gallery.shape[1])
    if not 0 < threshold <= 1:
        raise UserError(f"threshold={threshold} must be above 0 and at most 1: try 0.5")
    vectorizer, contains = _fit(texts)
    names, shares = vectorizer.get_feature_names_out(), _shares(queries, gallery, contains, k, temperature)
    found = []
    for row in range(len(queries)):
        part = slice(*shares.indptr[row : row + 2])
        given, words = np.asarray(shares.data[part], float), shares.indices[part]
        order = np.argsort(-given, kind="stable")
        pairs = zip(words[order], given[order], strict=True)
        found.append({str(names[word]): min(1.0, float(share)) for word, share in pairs if share >= threshold})
    return found


def _words(text: str) -> list[str]:
    return key(text).split()


def _fit(texts: Sequence[str] | np.ndarray) -> "tuple[CountVectorizer, sparse.csr_array]":
    """The vocabulary of the texts, and f64[n, W], 1 where a text has a word; UserError if all texts are blank."""
    from sklearn.feature_extraction.text import CountVectorizer  # a second to import

    settings: dict[str, Any] = {"analyzer": _words, "binary": True, "dtype": np.float64}  # stubs know no callable here
    vectorizer = CountVectorizer(**settings)
    try:
        return vectorizer, sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # an empty vocabulary
        raise UserError(f"texts: all {len(texts)} of the gallery's are blank, so that no item can vote") from None


def _shares(
    queries: np.ndarray, gallery: np.ndarray, contains: sparse.csr_array, k: int, temperature: float
) -> sparse.csr_array:
    """f64[Q, W]: the share of the votes for each word, for queries f32[Q, D] in the gallery f32[n, D]."""
    if k < 1 or not temperature > 0:
        raise UserError(f"k={k} must be at least 1, and temperature={temperature} above 0: try 20 and 0.05")
    words = np.diff(contains.indptr)  # of each text
    if len(words) != len(gallery):
        raise UserError(f"texts: there are {len(words)} for a gallery of {len(gallery)} vectors")
    voters = np.flatnonzero(words)
    rows, scores = top_k(normalise(queries), normalise(gallery[voters]), min(k, len(voters)))
    given = weights(scores, temperature)
    given /= given.sum(axis=1, keepdims=True)
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    votes = sparse.csr_array((given.ravel(), voters[rows].ravel(), starts), shape=(len(rows), len(gallery)))
    return sparse.csr_array(votes @ contains)


@dataclasses.dataclass(frozen=True)
class TitleWords:
    """How well the neighbours in `gallery` predict the words of a column of free text.

    The words with a share of the votes of at least `threshold`, which is chosen on `validation` by F1, are compared
    with those of the text. Figures, called `<split>/<name>/<column>/f1` and so on, are means over the `queries`, the
    items with a text (`queries_left_out` have none): precision (0 if no word is predicted), recall (over all words of
    the text, also those that no item of the gallery has), and f1 (their harmonic mean, query by query). `frequent_f1`
    is that of always predicting the gallery's most frequent words, as many as do best on `validation`.
    """

    column: str
    """A column of the catalogue."""
    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.05
    """The lower, the more the nearest decide."""
    gallery: str = "train"
    """The split of the neighbours."""
    validation: str = "val"
    """The split that the threshold is chosen on."""
    split: str = "test"
    """The split whose words are predicted."""
    name: str = "words"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "TitleWords", k=1)
        check_above_0(self, "temperature")
        check_splits(self, "gallery", "validation", "split", because="an item would vote for itself")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError as `check`."""
        vectorizer, contains = _fit(self._texts(embed, self.gallery))
        frequent = np.argsort(-contains.sum(axis=0), kind="stable")
        figures: dict[str, dict[float, tuple[float, ...]]] = {}
        same: dict[str, dict[int, tuple[float, ...]]] = {}
        for split in (self.validation, self.split):
            texts = self._texts(embed, split)
            sizes = np.array([len(set(_words(text))) for text in texts])
            asked = np.flatnonzero(sizes)
            truth, sizes = sparse.csr_array(vectorizer.transform(texts[asked])), sizes[asked]
            queries, gallery = embed(split).vectors[asked], embed(self.gallery).vectors
            shares = _shares(queries, gallery, contains, self.k, self.temperature)
            figures[split], same[split] = {}, {}
            for threshold in THRESHOLDS:
                predicted = shares.copy()
                predicted.data = (predicted.data >= threshold).astype(float)
                predicted.eliminate_zeros()
                figures[split][threshold] = _scores(predicted.multiply(truth).sum(axis=1), predicted.sum(axis=1), sizes)
            for many in range(1, min(20, len(frequent)) + 1):
                hits = truth[:, frequent[:many]].sum(axis=1)
                same[split][many] = _scores(hits, np.full(len(sizes), float(many)), sizes)
        best = max(THRESHOLDS, key=lambda t: figures[self.validation][t][2])
        many = max(same[self.validation], key=lambda m: same[self.validation][m][2])
        found = dict(zip(("precision", "recall", "f1"), figures[self.split][best], strict=True))
        found |= {"threshold": float(best), "frequent_f1": same[self.split][many][2]}
        found |= {"queries": len(sizes), "queries_left_out": len(embed(self.split)) - len(sizes)}
        return named({f"{self.column}/{name}": value for name, value in found.items()}, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if the column is not there, or blank in all items of a split."""
        for split in (self.gallery, self.validation, self.split):
            if not any(map(key, self._texts(embed, split))):
                raise UserError(f"TitleWords.column={self.column!r} is blank in all items of split {split!r}")

    def _texts(self, embed: Embed, split: str) -> np.ndarray:
        return text_column(embed, split, self.column, "TitleWords.column")


def _scores(hits: np.ndarray, predicted: np.ndarray, there: np.ndarray) -> tuple[float, float, float]:
    """Mean precision, recall and F1 of the numbers of hits, of words predicted and of words there, f64[Q] each."""
    f1 = 2 * hits / (predicted + there)
    return float((hits / np.maximum(predicted, 1)).mean()), float((hits / there).mean()), float(f1.mean())
