"""TF-IDF between titles: how far words alone go, the baseline of the price-match competition's winners.

    tfidf = TFIDF().fit(train_titles)
    rows, scores = top_k(tfidf(titles), tfidf(titles), 50, exclude=np.arange(len(titles)))

Rows are sparse, and neighbours come from products of a few rows at a time with the gallery: memory is bounded, and
the answers are exact. Time grows with the product of the numbers of queries and items; for millions of both, search
vectors in an index.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from ssljax.data.titles.tokenizers import character_ngrams, clean
from ssljax.evaluation.embeddings import Embeddings
from ssljax.types import Embed, UserError, check_fields

WORD = re.compile(r"\w+")
SCORES_AT_ONCE = 2**21  # of 8 bytes; more at a time were measured slower
ROW = "TF-IDF of titles"  # the name of `embed_by_tfidf` in tables


@dataclasses.dataclass(frozen=True)
class TFIDF:
    """Titles as rows of term frequencies times inverse document frequencies, of words and of n-grams of characters.

    The weight of a term that comes f times in a title, and in d of the n titles that were learnt from, is
    (1 + ln f) (1 + ln((1 + n) / (1 + d))). Words and n-grams each make a part of equal length, so that the product of
    two rows is the mean of their two cosines. Titles are read by `clean`, without case and punctuation. scikit-learn's
    `TfidfVectorizer` does the counting.
    """

    words: bool = True
    """Compare words."""
    ngrams: tuple[int, ...] = (3, 4)
    """Compare runs of so many characters too, within words, where < and > stand before and after; () compares words
    alone"""
    least_titles: int = 1
    """Leave out terms that fewer titles have; 2 saves memory where only those learnt from are compared."""

    def __post_init__(self):
        check_fields(self, "TFIDF", ngrams=1, least_titles=1)
        if not (self.words or self.ngrams):
            raise UserError("TFIDF.words=False and TFIDF.ngrams=() compare nothing: try TFIDF()")

    def fit(self, titles: Sequence[str]) -> "FittedTFIDF":
        """Counts the terms of `titles`, which may hold blanks; raises UserError if no title has a term."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second to import

        analyzers: list[Any] = [_words] * self.words
        if self.ngrams:
            analyzers.append(functools.partial(_ngrams, sizes=self.ngrams))
        settings: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32, "min_df": self.least_titles}
        try:
            parts = tuple(TfidfVectorizer(analyzer=a, **settings).fit(titles) for a in analyzers)
        except ValueError:  # an empty vocabulary
            least = f" that at least {self.least_titles} have" if self.least_titles > 1 else ""
            raise UserError(
                f"titles: {len(titles):,} titles have not one word{least}, so that TF-IDF cannot compare them: name "
                "the column in the data's `title`"
            ) from None
        return FittedTFIDF(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedTFIDF:
    """The terms that were counted, with their frequencies."""

    parts: tuple[Any, ...]
    """the `TfidfVectorizer` of words, of n-grams, or both"""

    def __call__(self, titles: Sequence[str]) -> sparse.csr_array:
        """f32[n, W] of unit length; shorter if all words or all n-grams of a title are unknown, 0 for a blank title."""
        rows = [part.transform(titles) for part in self.parts]
        return sparse.csr_array(sparse.hstack(rows, "csr", np.float32) * np.float32(len(rows) ** -0.5))

    def projected(self, titles: Sequence[str], dim: int = 2048) -> np.ndarray:
        """f32[n, dim], whose dot products are nearly those of the sparse rows, for what takes dense vectors.

        Each term is added to one dimension or subtracted from it, which a fixed seed decides, so that a product has its
        sparse value plus noise of about dim^-1/2 (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask
        Learning", arXiv:0902.2206).
        """
        rows, rng = self(titles), np.random.default_rng(0)
        shape: Any = rows.shape  # whose stubs know no numbers
        terms = shape[1]
        signs = rng.choice(np.array([-1, 1], np.float32), terms)
        hashing = sparse.csr_array((signs, rng.integers(dim, size=terms), np.arange(terms + 1)), shape=(terms, dim))
        return sparse.csr_array(rows @ hashing).toarray()


def embed_by_tfidf(embed: Embed, titles: Sequence[str], *, dim: int = 2048) -> Embed:
    """Split → TF-IDF of its items' titles in place of their vectors, as a row of a table beside networks.

    Args:
      embed: gives the items of a split, with the column `title`.
      titles: those to learn from, of the train split.
      dim: see `FittedTFIDF.projected`.

    Raises:
      UserError: see `TFIDF.fit`; or, by the function that is returned, a split has no titles.
    """
    fitted = TFIDF().fit(titles)

    @functools.cache
    def by_words(split: str) -> Embeddings:
        items = embed(split)
        if "title" not in items.columns:
            raise UserError(f"TF-IDF needs titles, and split {split!r} has none: name the column in the data's `title`")
        vectors = fitted.projected(items.columns["title"].tolist(), dim)
        return dataclasses.replace(items, vectors=vectors, title_vectors=None, origin=None)

    return by_words


def top_k(
    queries: sparse.csr_array, gallery: sparse.csr_array, k: int, *, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` gallery rows with the largest dot product with each query; of equal ones the lower row first.

    As `nearest.top_k`, but of sparse rows without negative values, and only rows that share a term with the query are
    found.

    Args:
      queries: f32[Q, W].
      gallery: f32[n, W].
      k: how many neighbours, at least 1. If there are fewer, the remaining rows are -1 and scores -inf.
      exclude: i32[Q], for each query a gallery row to leave out: itself, where queries are in the gallery.

    Returns:
      rows i32[Q, k] and scores f32[Q, k], best first.

    Raises:
      UserError: queries and gallery differ in W.
    """
    shapes: list[Any] = [queries.shape, gallery.shape]
    (count, terms), (items, known) = shapes
    if terms != known:
        raise UserError(f"the queries have {terms} terms and the gallery {known}: make both by one fit")
    rows, scores = np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32)
    chunk, by_term = max(1, SCORES_AT_ONCE // max(items, 1)), sparse.csr_array(gallery.T)
    for start in range(0, count, chunk):
        found = sparse.csr_array(queries[start : start + chunk] @ by_term)
        for row, (first, end) in enumerate(zip(found.indptr, found.indptr[1:], strict=False), start):
            own = -1 if exclude is None else exclude[row]
            best, score = _largest(found.indices[first:end], found.data[first:end], k, own)
            rows[row, : len(best)], scores[row, : len(best)] = best, score
    return rows, scores


def _largest(items: np.ndarray, scores: np.ndarray, k: int, exclude: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of one query's positive scores, best first."""
    kept = (scores > 0) & (items != exclude)
    items, scores = items[kept], scores[kept]
    if len(scores) > k:  # a part of them first: sorting all takes longer than the product
        kept = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        items, scores = items[kept], scores[kept]
    order = np.lexsort((items, -scores))[:k]
    return items[order], scores[order]


def _words(title: str) -> list[str]:
    return WORD.findall(clean(title).casefold())


def _ngrams(title: str, sizes: tuple[int, ...]) -> list[str]:
    return [ngram for word in _words(title) for ngram in character_ngrams(word, sizes)]
