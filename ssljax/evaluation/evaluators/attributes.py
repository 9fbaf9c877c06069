"""Attributes from neighbours: predicts any column of a catalogue by a vote of the nearest items, with no training.

    predicted = predict_attribute(new_photos, catalogue_photos, colours)
    predicted.values, predicted.confidence

Values are compared as people read them: case, blanks, most punctuation and the encoding of accents do not matter (see
`key`). Values such as "n/a" are missing. A missing value does not vote; a rare misspelling is outvoted.
"""

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ssljax.data.columns import text
from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.base import check_above_0, check_splits, named, text_column
from ssljax.evaluation.evaluators.knn import votes
from ssljax.evaluation.evaluators.linear_probe import LinearProbe
from ssljax.evaluation.nearest import top_k_chunks
from ssljax.evaluation.vectors import checked, normalise
from ssljax.types import Embed, UserError, check_fields

# letters and digits, with the minus of a number before them or the plus and # of a name behind them
WORD = re.compile(r"(?:(?<![^\W_])-(?=\d))?[^\W_]+(?:[+#]+(?![^\W_]))?")
MISSING = ("", "na", "n/a", "nan", "null", "unknown", "-", "?")
UNKNOWN = -2  # a value that no item of the gallery has
BINS = 15
SCALES = np.geomspace(0.1, 10, 41)  # temperatures that calibration chooses from


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted values of a column."""

    values: np.ndarray
    """object[Q] of str, in the gallery's most frequent spelling"""
    confidence: np.ndarray
    """f64[Q], the share of the votes, in (0, 1]"""


def predict_attribute(
    queries: np.ndarray,
    gallery: np.ndarray,
    values: Sequence[str] | np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.05,
    validation: tuple[np.ndarray, Sequence[str]] | None = None,
    missing: Sequence[str] = MISSING,
) -> Prediction:
    """The value that the nearest items of the gallery vote for, a cosine s having the vote exp(s / temperature).

    One more vote, as large as the nearest item's, is divided as the values are in the whole gallery. So rare values win
    no ties, and neighbours that agree are not certain unless the gallery has only one value. With `validation` the
    shares are raised to a power so that, on those items, a confidence is the share of answers that are right (see
    `NeighbourVote.fit_scale`).

    Args:
      queries: real [Q, D], of any length.
      gallery: real [n, D], of any length.
      values: str[n], the gallery's column.
      k: neighbours that vote; all, if fewer have a value.
      temperature: the lower, the more the nearest decide.
      validation: vectors real [m, D] and values str[m] of other items than the gallery's, or None.
      missing: values that mean that there is none.

    Raises:
      UserError: the vectors are not finite matrices of the same D; the values are not as many or all missing; or a
        setting is out of range.
    """
    gallery = checked(gallery, "gallery")
    queries = checked(queries, "queries", gallery.shape[1])
    vote = NeighbourVote.of(gallery, values, k=k, temperature=temperature, missing=missing)
    scale = 1.0
    if validation is not None:
        vectors, truth = validation
        if len(vectors) != len(truth):
            raise UserError(f"validation: there are {len(truth)} values for {len(vectors)} vectors")
        scale = vote.fit_scale(checked(vectors, "validation", gallery.shape[1]), vote.codes(truth))
    codes, confidence = vote.predict(queries, scale)
    return Prediction(text(vote.names[code] for code in codes), confidence)


@dataclasses.dataclass(frozen=True, eq=False)
class NeighbourVote:
    """The items of a gallery that have a value, ready to vote: `predict_attribute`, in steps."""

    vectors: np.ndarray
    """f32[n, D], of unit length"""
    labels: np.ndarray
    """i32[n], the values' codes"""
    names: tuple[str, ...]
    """the value of code 0, 1, ..., in its most frequent spelling"""
    keys: dict[str, int]
    """`key` of a value → its code"""
    k: int
    temperature: float
    missing: frozenset[str]
    """`key` of the values that mean that there is none"""

    @classmethod
    def of(
        cls,
        vectors: np.ndarray,
        values: Sequence[str] | np.ndarray,
        *,
        k: int = 20,
        temperature: float = 0.05,
        missing: Sequence[str] = MISSING,
    ) -> "NeighbourVote":
        """Of vectors f32[n, D] and values str[n]; raises UserError as `predict_attribute`."""
        if k < 1 or not temperature > 0:
            raise UserError(f"k={k} must be at least 1, and temperature={temperature} above 0: try 20 and 0.05")
        if len(values) != len(vectors):
            raise UserError(f"values: there are {len(values)} for a gallery of {len(vectors)} vectors")
        blank = frozenset(map(key, missing))
        spellings: dict[str, Counter[str]] = {}
        for value in values:
            if (same := key(value)) not in blank:
                spellings.setdefault(same, Counter())[str(value).strip()] += 1
        if not spellings:
            raise UserError(f"values: all {len(values)} of the gallery's are missing, so that no item can vote")
        keys = {same: code for code, same in enumerate(sorted(spellings))}
        codes = np.array([keys.get(key(value), -1) for value in values], np.int32)
        names = tuple(spellings[same].most_common(1)[0][0] for same in keys)
        return cls(normalise(vectors[codes >= 0]), codes[codes >= 0], names, keys, k, temperature, blank)

    def codes(self, values: Sequence[str] | np.ndarray) -> np.ndarray:
        """i32[m]: the codes of values; -1 = missing, -2 = not in the gallery."""
        same = map(key, values)
        return np.array([-1 if s in self.missing else self.keys.get(s, UNKNOWN) for s in same], np.int32)

    def fewer(self, rows: np.ndarray) -> "NeighbourVote":
        """The same with only the items at `rows`; values that none of them has keep their codes."""
        return dataclasses.replace(self, vectors=self.vectors[rows], labels=self.labels[rows])

    def shares(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """For queries f32[Q, D], a chunk at a time: its slice, and the shares of the votes f64[q, values]."""
        prior = np.bincount(self.labels, minlength=len(self.names)) / len(self.labels)
        for part, rows, scores in top_k_chunks(normalise(queries), self.vectors, min(self.k, len(self.labels))):
            given = votes(self.labels[rows], scores, self.temperature, len(self.names)) + prior[None]
            yield part, given / given.sum(axis=1, keepdims=True)

    def predict(self, queries: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Codes i32[Q] and confidences f64[Q] for queries f32[Q, D], with shares p as p^(1 / scale), normalised."""
        codes, confidence = np.zeros(len(queries), np.int32), np.zeros(len(queries))
        for part, p in self.shares(queries):
            codes[part], confidence[part] = p.argmax(axis=1), _confidence(p, scale)
        return codes, confidence

    def fit_scale(self, queries: np.ndarray, truth: np.ndarray) -> float:
        """The scale between 0.1 and 10 under which the answers to these queries are likeliest.

        Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2), with the
        likelihood of the answers being right or wrong, because the true value may have no share.

        Args:
          queries: f32[Q, D].
          truth: i32[Q], their `codes`; -1 are left out.

        Raises:
          UserError: all are missing.
        """
        queries, truth = queries[truth != -1], truth[truth != -1]
        if not len(truth):
            raise UserError("validation: all values are missing, so that confidences cannot be calibrated")
        loss = np.zeros(len(SCALES))
        for part, p in self.shares(queries):
            right = p.argmax(axis=1) == truth[part]
            for j, scale in enumerate(SCALES):
                c = np.clip(_confidence(p, scale), 1e-9, 1 - 1e-9)
                loss[j] -= np.log(np.where(right, c, 1 - c)).sum()
        return float(SCALES[loss.argmin()])


def key(value: str | None) -> str:
    """What all spellings of a value share: "T-Shirt " and "t shirt" are one, and so are "É" as one character or two.

    "-5" and "5" are two, and so are "C", "C++" and "C#". None counts as blank.
    """
    plain = unicodedata.normalize("NFKC", "" if value is None else str(value)).casefold().replace("\u2212", "-")
    # a value of signs alone, such as "++", is kept
    return " ".join(WORD.findall(plain)) or plain.strip()


def _confidence(p: np.ndarray, scale: float) -> np.ndarray:
    """f64[q]: the largest of p^(1 / scale) f64[q, C], normalised."""
    return 1 / np.power(p / p.max(axis=1, keepdims=True), 1 / scale).sum(axis=1)


def coverage_accuracy(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage f64[m], rising, and accuracy f64[m] of the answers at or above each confidence.

    Args:
      confidence: f64[Q].
      right: bool[Q].
    """
    if not len(confidence):
        return np.empty(0), np.empty(0)
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences are answered together
    counts = np.arange(1, len(order) + 1)
    return counts[last] / len(order), (np.cumsum(right[order]) / counts)[last]


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE: the mean over the answers of |accuracy - mean confidence| in their bin, one of 15 of equal width.

    Source: Guo et al. 2017, equation 3; Naeini et al. 2015.

    Args:
      confidence: f64[Q], 0 to 1.
      right: bool[Q].
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(place, right - confidence, minlength=BINS)).sum() / len(right))


@dataclasses.dataclass(frozen=True)
class Attributes:
    """How well the neighbours in `gallery`, and a linear classifier, predict columns from few labels and from all.

    Figures, called `<split>/<name>/<column>/accuracy` and so on:
    - accuracy: the share of `queries` whose value is predicted; majority: that of always predicting the gallery's
      most frequent value.
    - coverage@accuracy=0.9 (for each of `accuracies`): the largest share of queries that can be answered, the most
      confident first, with that share of the answers right.
    - area: the mean accuracy over all coverages.
    - ece and ece_uncalibrated: calibration errors, with the `scale` fitted on `validation`, and with 1.
    - accuracy@1% and linear@1% (for each of `shares`): with only that share of the gallery's values; the second by a
      linear classifier on the same vectors and values (`LinearProbe`).
    - queries, queries_left_out (no value) and queries_unknown (asked, but their value is not in the gallery, so that
      every answer is wrong); values and voters, the numbers of values and of items with one in the gallery.
    """

    columns: tuple[str, ...]
    """Columns of the catalogue."""
    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.05
    """The lower, the more the nearest decide."""
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    """Shares of the gallery's values, drawn by the seed; a smaller share is part of a larger one."""
    accuracies: tuple[float, ...] = (0.9, 0.95)
    """Shares of right answers for which the coverage is reported."""
    linear_steps: int = 1000
    """Of SGD, for the linear classifier; 0 for none."""
    probe: LinearProbe = LinearProbe(learning_rates=(0.003, 0.01, 0.03, 0.1, 0.3))
    """The linear classifier; the fields here decide its splits and epochs."""
    missing: tuple[str, ...] = MISSING
    """Values that mean that there is none."""
    seed: int = 0
    """Decides which values are known."""
    gallery: str = "train"
    """The split of the neighbours."""
    validation: str | None = "val"
    """The split that confidences are calibrated on; None leaves them."""
    split: str = "test"
    """The split whose values are predicted."""
    name: str = "attributes"
    """Part of the figures' names."""

    def __post_init__(self):
        check_fields(self, "Attributes", k=1, linear_steps=0, seed=0)
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise UserError(f"Attributes.columns={self.columns} must name columns, each once")
        check_above_0(self, "temperature", "shares", "accuracies")
        for field in ("shares", "accuracies"):
            if max(getattr(self, field), default=1) > 1:
                raise UserError(f"Attributes.{field}={getattr(self, field)} must be at most 1")
        check_splits(self, "gallery", "validation", "split", because="an item would vote for itself")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures, of embeddings by split; raises UserError as `check`."""
        figures: dict[str, float] = {}
        for column in self.columns:
            figures |= {f"{column}/{name}": value for name, value in self._figures(column, embed).items()}
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if a column is not there, has too few values, or none in a split."""
        for column in self.columns:
            vote = self._voters(column, embed)
            for split in filter(None, (self.validation, self.split)):
                self._asked(column, vote, embed, split)
            for share in self.shares if self.linear_steps else ():
                probe, parts = self._linear(vote, self._known(vote, share), vote.vectors[:1], vote.labels[:1])
                try:
                    probe.check(parts.__getitem__)
                except UserError:
                    raise UserError(
                        f"Attributes.shares={self.shares}: {share:g} of the {len(vote.labels)} items with "
                        f"{column!r} in split {self.gallery!r} are too few to train a classifier: choose larger shares"
                    ) from None

    def _voters(self, column: str, embed: Embed) -> NeighbourVote:
        values = text_column(embed, self.gallery, column, "Attributes.columns")
        settings = {"k": self.k, "temperature": self.temperature, "missing": self.missing}
        try:
            vote = NeighbourVote.of(embed(self.gallery).vectors, values, **settings)
        except UserError as error:
            raise UserError(f"Attributes.columns: {column!r} of split {self.gallery!r}: {error}") from None
        if len(vote.names) == 1:
            raise UserError(
                f"Attributes.columns: {column!r} is always {vote.names[0]!r} in split {self.gallery!r}: "
                "name a column with several values"
            )
        return vote

    def _asked(self, column: str, vote: NeighbourVote, embed: Embed, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Vectors f32[Q, D] and codes i32[Q] of the items of `split` that have a value."""
        codes = vote.codes(text_column(embed, split, column, "Attributes.columns"))
        if not (codes != -1).any():
            raise UserError(f"Attributes.columns: {column!r} is missing in all items of split {split!r}")
        return embed(split).vectors[codes != -1], codes[codes != -1]

    def _known(self, vote: NeighbourVote, share: float) -> np.ndarray:
        """The rows of the voters whose values are known, rising: of equal neighbours the lower row still votes."""
        order = np.random.default_rng(self.seed).permutation(len(vote.labels))
        return np.sort(order[: max(1, round(share * len(order)))])

    def _figures(self, column: str, embed: Embed) -> dict[str, float]:
        vote = self._voters(column, embed)
        queries, truth = self._asked(column, vote, embed, self.split)
        scale = 1.0 if self.validation is None else vote.fit_scale(*self._asked(column, vote, embed, self.validation))
        predicted, confidence = vote.predict(queries, scale)
        _, uncalibrated = vote.predict(queries)
        right = predicted == truth
        coverage, accuracy = coverage_accuracy(confidence, right)
        figures = {
            "accuracy": float(right.mean()),
            "majority": float((truth == np.bincount(vote.labels).argmax()).mean()),
            **{f"coverage@accuracy={a:g}": float(coverage[accuracy >= a].max(initial=0)) for a in self.accuracies},
            "area": float(np.sum(np.diff(coverage, prepend=0) * accuracy)),
            "ece": calibration_error(confidence, right),
            "ece_uncalibrated": calibration_error(uncalibrated, right),
            "scale": scale,
        }
        for share in self.shares:
            known = self._known(vote, share)
            predicted, _ = vote.fewer(known).predict(queries)
            figures[f"accuracy@{100 * share:g}%"] = float((predicted == truth).mean())
            if self.linear_steps:
                probe, parts = self._linear(vote, known, queries, truth)
                figures[f"linear@{100 * share:g}%"] = probe(parts.__getitem__)["test/probe/accuracy"]
        return figures | {
            "queries": len(truth),
            "queries_left_out": len(embed(self.split)) - len(truth),
            "queries_unknown": int((truth == UNKNOWN).sum()),
            "values": len(vote.names),
            "voters": len(vote.labels),
        }

    def _linear(
        self, vote: NeighbourVote, known: np.ndarray, queries: np.ndarray, truth: np.ndarray
    ) -> tuple[LinearProbe, dict[str, Embeddings]]:
        """The linear classifier, and its splits: the voters at `known`, and queries f32[Q, D] with codes i32[Q]."""
        vectors, labels = vote.vectors[known], vote.labels[known]
        trained = len(labels) - round(self.probe.validation * len(labels))
        steps = max(1, trained // max(1, min(self.probe.batch_size, trained)))
        epochs = max(1, round(self.linear_steps / steps))
        probe = dataclasses.replace(self.probe, epochs=epochs, train="train", split="test", name="probe")
        # a value that the gallery lacks gets a number above all others, which is never predicted
        truth = np.where(truth == UNKNOWN, len(vote.names), truth)
        parts = {"train": (vectors, labels), "test": (normalise(queries), truth)}
        return probe, {split: Embeddings(np.arange(len(x)), x, label=y) for split, (x, y) in parts.items()}
