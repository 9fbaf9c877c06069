"""Free text from neighbours: the words that the nearest items' texts agree in, such as a title's.

    words = predict_words(new_photos, catalogue_photos, titles)     # [{"shirt": .97, "blue": .81}, ...]

A text that never repeats cannot be told as a whole by a vote, and its words can.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from ssljax.data.items import did_you_mean
from ssljax.evaluation.evaluators.attributes import key
from ssljax.evaluation.evaluators.knn import weights
from ssljax.evaluation.evaluators.retrieval import named
from ssljax.evaluation.top_k import top_k
from ssljax.evaluation.vectors import checked, normalise
from ssljax.types import Embed, UserError, check_fields

THRESHOLDS = np.arange(1, 20) / 20


def predict_words(
    queries: np.ndarray,
    gallery: np.ndarray,
    texts: Sequence[str],
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
      UserError: the vectors are not finite matrices of one D, the texts not as many, all blank, or out of range.
    """
    gallery = checked(gallery, "gallery")
    queries = checked(queries, "queries", gallery.shape[1])
    if not 0 < threshold <= 1:
        raise UserError(f"threshold={threshold} must be above 0 and at most 1: try 0.5")
    words = _Words.of(texts)
    shares = words.shares(queries, gallery, k, temperature)
    found = []
    for row in range(len(queries)):
        part = slice(*shares.indptr[row : row + 2])
        order = np.argsort(-shares.data[part], kind="stable")
        pairs = zip(shares.indices[part][order], shares.data[part][order], strict=True)
        found.append({words.names[word]: min(1.0, float(share)) for word, share in pairs if share >= threshold})
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Words:
    """The words of the texts of a gallery."""

    names: tuple[str, ...]
    contains: sparse.csr_array
    """f64[n, W], 1 where a text has a word"""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        """Raises UserError if all texts are blank."""
        split = [set(key(value).split()) for value in texts]
        names = tuple(sorted(set().union(*split)))
        if not names:
            raise UserError(f"texts: all {len(split)} of the gallery's are blank, so that no item can vote")
        return cls(names, cls._matrix(split, names))

    def matrix(self, texts: Sequence[str]) -> tuple[sparse.csr_array, np.ndarray]:
        """Of other texts: f64[m, W], 1 where one has a word; and i[m], how many words each has, unknown ones too."""
        split = [set(key(value).split()) for value in texts]
        known = set(self.names)
        return self._matrix([words & known for words in split], self.names), np.array([len(words) for words in split])

    @staticmethod
    def _matrix(split: list[set[str]], names: tuple[str, ...]) -> sparse.csr_array:
        code = {name: number for number, name in enumerate(names)}
        columns = [code[word] for words in split for word in sorted(words)]
        starts = np.concatenate([[0], np.cumsum([len(words) for words in split], dtype=int)])
        return sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(len(split), len(names)))

    def shares(self, queries: np.ndarray, gallery: np.ndarray, k: int, temperature: float) -> sparse.csr_array:
        """f64[Q, W]: the share of the votes for each word, for queries f32[Q, D] in the gallery f32[n, D]."""
        if k < 1 or not temperature > 0:
            raise UserError(f"k={k} must be at least 1, and temperature={temperature} above 0: try 20 and 0.05")
        if self.contains.shape[0] != len(gallery):
            raise UserError(f"texts: there are {self.contains.shape[0]} for a gallery of {len(gallery)} vectors")
        voters = np.flatnonzero(np.diff(self.contains.indptr))
        rows, scores = top_k(normalise(queries), normalise(gallery[voters]), min(k, len(voters)))
        given = weights(scores, temperature)
        given /= given.sum(axis=1, keepdims=True)
        starts = np.arange(0, rows.size + 1, rows.shape[1])
        votes = sparse.csr_array((given.ravel(), voters[rows].ravel(), starts), shape=(len(rows), len(gallery)))
        return (votes @ self.contains).tocsr()


@dataclasses.dataclass(frozen=True)
class Words:
    """How well the words of a column of free text are told by the neighbours in `gallery`.

    The words with a share of the votes of at least `threshold`, which is chosen on `validation` by F1, are compared
    with those of the text. Figures, called `<split>/<name>/<column>/f1` and so on, means over the `queries`, which are
    the items with a text (`queries_left_out` has none): precision (of no word told: 0), recall (over all words of the
    text, also those that no item of the gallery has), f1 (their harmonic mean, each query by itself). `frequent_f1` is
    that of telling everybody the gallery's most frequent words, as many as do best on `validation`.
    """

    column: str
    """Of the catalogue."""
    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.05
    """The lower, the more the nearest decide."""
    gallery: str = "train"
    """The split of the neighbours."""
    validation: str = "val"
    """The split that the threshold is chosen on."""
    split: str = "test"
    """The split that is told."""
    name: str = "words"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "Words")
        if self.k < 1 or not self.temperature > 0:
            raise UserError(f"Words.k={self.k} must be at least 1, and temperature={self.temperature} above 0")
        if len({self.gallery, self.validation, self.split}) < 3:
            raise UserError(
                f"Words.gallery={self.gallery!r}, validation={self.validation!r} and split={self.split!r} must differ"
            )

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError as `check`."""
        words = _Words.of(self._texts(embed, self.gallery))
        frequent = np.argsort(-words.contains.sum(axis=0), kind="stable")
        figures: dict[str, dict[float, tuple[float, ...]]] = {}
        same: dict[str, dict[int, tuple[float, ...]]] = {}
        for split in (self.validation, self.split):
            truth, sizes = words.matrix(self._texts(embed, split))
            asked = np.flatnonzero(sizes)
            truth, sizes = truth[asked], sizes[asked]
            shares = words.shares(embed(split).vectors[asked], embed(self.gallery).vectors, self.k, self.temperature)
            figures[split], same[split] = {}, {}
            for threshold in THRESHOLDS:
                told = shares.copy()
                told.data = (told.data >= threshold).astype(float)
                told.eliminate_zeros()
                figures[split][threshold] = _scores(told.multiply(truth).sum(axis=1), told.sum(axis=1), sizes)
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
                raise UserError(f"Words.column={self.column!r} is blank in all items of split {split!r}")

    def _texts(self, embed: Embed, split: str) -> np.ndarray:
        columns = embed(split).columns
        if self.column not in columns:
            raise UserError(
                f"Words.column={self.column!r} is no column of the data{did_you_mean(self.column, list(columns))}"
            )
        return columns[self.column]


def _scores(hits: np.ndarray, told: np.ndarray, there: np.ndarray) -> tuple[float, float, float]:
    """Mean precision, recall and F1 of hits, words told and words there, f64[Q] each."""
    f1 = 2 * hits / (told + there)
    return float((hits / np.maximum(told, 1)).mean()), float((hits / there).mean()), float(f1.mean())
