"""How far the metrics are from other libraries' own; `parity.py` runs it, and writes results/benchmark_metrics.json.

Random searches go through each metric here and in the peer: half of them with distinct scores, each library ranking for
itself, and half with duplicates and ties, where a metric depends on the order of equal items: there the peer is given
the ranking, or scores, that this library's rule for ties makes. Each search has queries without a relevant item and
items in no group, and in half of them the queries are the gallery. A difference is of a mean over queries, or of what
each query scored where the peer says that, the largest over the searches; all lie between 0 and 1.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ssljax.evaluation import KNN, Embeddings, pair_ap, per_query_figures, top_k
from ssljax.evaluation.matching import Candidates, Judged
from ssljax.evaluation.metrics import PerQuery, relevant_items
from ssljax.evaluation.vectors import normalise

ITEMS, QUERIES, GROUPS, DEPTH = 40, 15, 12, 5
Row = tuple[str, Any, Any, str]  # metric, ours, theirs, convention


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """Queries f32[Q, D] and a gallery f32[n, D] of unit length, their groups (-1 = none), and what follows of them."""

    queries: np.ndarray
    query_groups: np.ndarray
    gallery: np.ndarray
    gallery_groups: np.ndarray
    own: np.ndarray | None
    ties: bool

    @classmethod
    def random(cls, seed: int) -> "Search":
        rng = np.random.default_rng(seed)
        own, ties = bool(seed % 2), bool(seed // 2 % 2)
        # with ties each vector lies along an axis, so that there are three cosines, and no rounding
        make = axes if ties else gaussian
        gallery, groups = make(rng, ITEMS), rng.integers(-1, GROUPS, ITEMS).astype(np.int32)
        if own:
            return cls(gallery, groups, gallery, groups, np.arange(ITEMS), ties)
        return cls(
            make(rng, QUERIES), rng.integers(-1, GROUPS + 3, QUERIES).astype(np.int32), gallery, groups, None, ties
        )

    @property
    def found(self) -> PerQuery:
        """Our figures, of whole rankings too."""
        return per_query_figures(
            *(self.queries, self.query_groups, self.gallery, self.gallery_groups),
            own=self.own,
            ks=(1, DEPTH),
            depths=(self.others,),
            recalls=(DEPTH,),
        )

    @property
    def others(self) -> int:
        """Items that are ranked for a query."""
        return ITEMS - (self.own is not None)

    @property
    def ranking(self) -> np.ndarray:
        """i32[Q, others], gallery rows, of equal scores the lower first."""
        return top_k(self.queries, self.gallery, self.others, exclude=self.own)[0]

    @property
    def relevant(self) -> np.ndarray:
        """bool[Q, n], whether each item of the gallery is relevant to each query."""
        same = self.query_groups[:, None] == self.gallery_groups[None]
        return same & (self.query_groups >= 0)[:, None] & ~self.itself

    @property
    def itself(self) -> np.ndarray:
        """bool[Q, n]"""
        shape = (len(self.queries), ITEMS)
        return np.zeros(shape, bool) if self.own is None else np.arange(ITEMS)[None] == self.own[:, None]


def gaussian(rng: np.random.Generator, count: int) -> np.ndarray:
    """f32[count, 6] of unit length."""
    return normalise(rng.standard_normal((count, 6), np.float32))


def axes(rng: np.random.Generator, count: int) -> np.ndarray:
    """f32[count, 6], one entry 1 or -1, the others 0."""
    return np.eye(6, dtype=np.float32)[rng.integers(0, 6, count)] * rng.choice([-1, 1], (count, 1)).astype(np.float32)


def first(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """bool[Q, n]: the first counts[q] of each ranking."""
    chosen = np.zeros((len(rows), ITEMS), bool)
    for mask, row, count in zip(chosen, rows, counts, strict=True):
        mask[row[:count]] = True
    return chosen


def by_pytorch_metric_learning(search: Search) -> Iterator[Row]:
    """pytorch-metric-learning's AccuracyCalculator, with faiss as its search if scores are distinct."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    def given(query: Any, k: int, reference: Any, itself: bool) -> tuple[None, Any]:
        return None, torch.tensor(search.ranking[:, :k].astype(np.int64))

    names = {
        "cmc@1": "precision_at_1",
        "r-precision": "r_precision",
        "map@r": "mean_average_precision_at_r",
        f"map@{search.others}-over-min(r,{search.others})": "mean_average_precision",
    }
    calculator = AccuracyCalculator(
        include=tuple(names.values()), device=torch.device("cpu"), knn_func=given if search.ties else None
    )
    # it has no items without a group: each becomes one of its own
    alone = np.where(search.gallery_groups < 0, 1000 + np.arange(ITEMS), search.gallery_groups)
    if search.own is None:
        labels = np.where(search.query_groups < 0, 2000, search.query_groups)
        theirs = calculator.get_accuracy(search.queries, labels, search.gallery, alone)
    else:
        theirs = calculator.get_accuracy(search.gallery, alone)
    ours = search.found.means()
    for name, their_name in names.items():
        label = "map@n-over-min(r,n), n all" if "over" in name else name
        yield label, ours[name], theirs[their_name], their_name


def by_scikit_learn(search: Search) -> Iterator[Row]:
    """scikit-learn's scores: of one ranking, of multilabel predictions, of all pairs; and its kNN classifier."""
    from sklearn import metrics
    from sklearn.neighbors import KNeighborsClassifier

    found, asked = search.found, search.found.ids
    truth, rows = search.relevant[asked], search.ranking[asked]
    places = np.full(truth.shape, ITEMS)
    np.put_along_axis(places, rows, np.arange(search.others)[None], axis=1)
    ranked = ~search.itself[asked]
    yield (
        "map@n-over-min(r,n), n all",
        found.figures[f"map@{search.others}-over-min(r,{search.others})"],
        [metrics.average_precision_score(t[r], -p[r]) for t, p, r in zip(truth, places, ranked, strict=True)],
        "average_precision_score of a query, the rank as the score",
    )
    top, top_r = first(rows, np.full(len(rows), DEPTH)), first(rows, truth.sum(axis=1))
    for name, score, predicted in [
        (f"p@{DEPTH}", metrics.precision_score, top),
        (f"recall@{DEPTH}-over-r", metrics.recall_score, top),
        ("r-precision", metrics.precision_score, top_r),
    ]:
        theirs = score(truth, predicted, average="samples", zero_division=0)
        yield name, found.figures[name].mean(), theirs, f"{score.__name__}, average='samples'"

    scores = search.queries @ search.gallery.T
    pairs = ~search.itself
    flat = list(zip((-scores[pairs]).tolist(), search.relevant[pairs].tolist(), strict=True))
    place = np.argsort(sorted(range(len(flat)), key=flat.__getitem__))  # of equal scores the true ones last
    positives = int(relevant_items(search.query_groups, search.gallery_groups, search.own).sum())
    yield (
        "uap",
        pair_ap(scores[pairs], search.relevant[pairs], positives),
        metrics.average_precision_score(search.relevant[pairs], -place),
        "average_precision_score of all pairs, the rank as the score",
    )
    if search.own is not None:
        for threshold in (0.2, 0.7):
            predicted = (scores >= threshold) | search.itself
            yield (
                "row-f1",
                Judged.of(Candidates.of(search.gallery, ITEMS - 1), search.gallery_groups).f1(threshold).mean(),
                metrics.f1_score(search.relevant | search.itself, predicted, average="samples"),
                "f1_score, average='samples'",
            )
    elif not search.ties:
        known, asked = search.gallery_groups >= 0, search.query_groups >= 0
        classifier = KNeighborsClassifier(
            7, weights=lambda d: np.exp((1 - d) / 0.1), metric="cosine", algorithm="brute"
        )
        classifier.fit(search.gallery[known], search.gallery_groups[known])
        ids = np.arange(ITEMS).astype(object)
        splits = {
            "train": Embeddings(ids, search.gallery, label=search.gallery_groups),
            "test": Embeddings(ids[:QUERIES], search.queries, label=search.query_groups),
        }
        theirs = classifier.score(search.queries[asked], search.query_groups[asked])
        yield (
            "kNN accuracy",
            KNN(k=7)(splits.get)["test/knn/accuracy"],
            theirs,
            "KNeighborsClassifier, weights=exp(s/T)",
        )


def by_faiss(search: Search) -> Iterator[Row]:
    """faiss's exact index: its scores, and CMC and recall of its neighbours."""
    import faiss

    index = faiss.IndexFlatIP(search.gallery.shape[1])
    index.add(search.gallery)
    extra = search.own is not None
    their_scores, their_rows = index.search(search.queries, DEPTH + extra)
    _, scores = top_k(search.queries, search.gallery, DEPTH + extra)
    yield f"scores of the top {DEPTH}", scores, their_scores, "IndexFlatIP"
    if search.ties:
        return  # which of equal items it finds is its own affair
    asked = search.found.ids
    keep = their_rows != (search.own[:, None] if extra else -1)
    their_rows = np.stack([row[k][:DEPTH] for row, k in zip(their_rows, keep, strict=True)])
    hits = np.take_along_axis(search.relevant, their_rows, axis=1)[asked]
    positives = search.relevant[asked].sum(axis=1)
    figures = search.found.figures
    yield f"cmc@{DEPTH}", figures[f"cmc@{DEPTH}"], hits.any(axis=1), "any hit among its neighbours"
    yield f"recall@{DEPTH}-over-r", figures[f"recall@{DEPTH}-over-r"], hits.sum(axis=1) / positives, "hits / R"


PEERS: dict[str, Callable[[Search], Iterator[Row]]] = {
    "pytorch-metric-learning": by_pytorch_metric_learning,
    "scikit-learn": by_scikit_learn,
    "faiss-cpu": by_faiss,
}
NUMBERS = ("distinct_scores", "ties_and_duplicates")


def compare_metrics(searches: int) -> dict[str, dict[str, Any]]:
    """Peer → metric → the largest differences over the searches with distinct scores, and over those with ties."""
    table: dict[str, dict[str, Any]] = {}
    for peer, rows in PEERS.items():
        table[peer] = {}
        try:
            for seed in range(searches):
                search = Search.random(seed)
                for metric, ours, theirs, convention in rows(search):
                    row = table[peer].setdefault(metric, dict.fromkeys(NUMBERS) | {"theirs": convention})
                    column = NUMBERS[search.ties]
                    difference = float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float))))
                    row[column] = max(row[column] or 0.0, difference)
        except ImportError as error:
            table[peer] = {"": f"not run ({error})"}
    return table
