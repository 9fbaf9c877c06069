"""Which index to use: measures all kinds on your own vectors, and recommends the fastest that is good enough.

    advice = index_advice(vectors, recall=0.95, updates_per_hour=1000)
    advice.builder, advice.reason, advice.rows

Queries are items that are held out. Each kind is measured at several efforts, which trade time for recall.
"""

import dataclasses
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssljax.evaluation.vectors import checked
from ssljax.search.index import Builder, Exact, Faiss, Metric, ScaNN
from ssljax.types import Array, UserError

K = 10
QUERIES = 1000
SINGLE = 300  # queries one by one
SECONDS = 0.5  # for which batches of queries are repeated
ALIKE = 0.95  # of the best speed counts as equally fast; then recall decides


@dataclasses.dataclass(frozen=True)
class Row:
    """Measurements of one kind of index at one effort."""

    kind: str
    builder: Builder
    """its settings"""
    recall: float
    """recall@10: the share of the true ten nearest that were found"""
    qps: float
    """queries a second, in one batch, over all cores"""
    p50_ms: float
    """of a single query, the median"""
    p99_ms: float
    """of a single query, the 99th percentile"""
    build_seconds: float
    memory_mib: float
    """of vectors and structure, as they are saved"""
    updates_per_hour: float
    """additions one by one that it can sustain, including the rebuilds that they cause"""


@dataclasses.dataclass(frozen=True)
class Advice:
    """The recommended index, and why."""

    builder: Builder
    reason: str
    rows: list[Row]
    shown: list[Row]
    """the best row of each kind; of the recommended kind, the recommended row"""


def index_advice(
    vectors: Array | np.ndarray,
    *,
    recall: float = 0.95,
    updates_per_hour: float = 0,
    metric: Metric = "cosine",
    seed: int = 0,
    progress: Callable[[str], None] = lambda kind: None,
) -> Advice:
    """Measures all installed kinds of index.

    Args:
      vectors: [n, D], at least 20. A tenth of them, at most 1,000, are the queries; the rest is searched.
      recall: the required recall@10, in (0, 1].
      updates_per_hour: how many items are added or changed.
      metric: the metric of the index.
      seed: chooses the queries.
      progress: called with each kind before it is measured.

    Returns:
      The index with the most queries a second that has the recall and keeps up with the updates; of those within 5 % of
      it, the one with the best recall. `Exact` always has the recall. If none keeps up, the one that comes nearest.

    Raises:
      UserError: there are too few vectors, an index would refuse them, or a value is out of range.
    """
    vectors = checked(vectors, "vectors")
    if len(vectors) < 2 * K:
        raise UserError(f"there are {len(vectors)} vectors: measuring needs at least {2 * K}")
    if not 0 < recall <= 1:
        raise UserError(f"recall={recall} must be above 0 and at most 1")
    if not 0 <= updates_per_hour < math.inf:
        raise UserError(f"updates_per_hour={updates_per_hour} must be 0 or more")
    order = np.random.default_rng(seed).permutation(len(vectors))
    held_out = min(QUERIES, len(vectors) // 10)
    queries, items = vectors[order[:held_out]], vectors[order[held_out:]]
    ids = range(len(items))
    truth, _ = Exact(metric).build(ids, items).search(queries, K)
    rows = []
    for kind, builders in contestants(len(items), metric).items():
        progress(kind)
        rows += _measured(kind, builders, items, queries, truth)
    return recommended(rows, recall, updates_per_hour)


def contestants(items: int, metric: Metric) -> dict[str, Sequence[Builder]]:
    """Kind → settings for this many items, from little effort to much; they differ only in how they search."""
    kinds: dict[str, Sequence[Builder]] = {"Exact": [Exact(metric)]}
    leaves = max(2, round(math.sqrt(items)))
    searched = sorted({max(1, leaves // part) for part in (160, 80, 40, 20, 10, 5)})
    depths = (30, 100, 300)
    if importlib.util.find_spec("scann"):
        kinds["ScaNN, brute force"] = [ScaNN(metric, brute=True)]
        kinds["ScaNN, AH"] = [ScaNN(metric, leaves=1, reorder=depth) for depth in depths]
        trees = [(count, depth) for count in searched for depth in depths]
        kinds["ScaNN, tree + AH"] = [ScaNN(metric, leaves, *tree) for tree in trees]
        if metric != "l2":
            kinds["ScaNN, tree + AH, SOAR"] = [ScaNN(metric, leaves, *tree, soar=True) for tree in trees]
    if importlib.util.find_spec("faiss"):
        kinds["FAISS, flat"] = [Faiss(metric, "flat")]
        kinds["FAISS, HNSW"] = [Faiss(metric, "hnsw", effort) for effort in (16, 32, 64, 128, 256)]
        kinds["FAISS, IVF-PQ"] = [Faiss(metric, "ivfpq", effort) for effort in searched]
    return kinds


def choice(rows: list[Row], recall: float, updates_per_hour: float) -> Row:
    """The fastest row that has the recall and keeps up; of those within 5 %, the one with the best recall.

    If none keeps up, the one that comes nearest; if none has the recall, the one with the best.
    """
    enough = [row for row in rows if row.recall >= recall]
    keep_up = [row for row in enough if row.updates_per_hour >= updates_per_hour]
    if not enough:
        return max(rows, key=lambda row: (row.recall, row.qps))
    if not keep_up:
        return max(enough, key=lambda row: row.updates_per_hour)
    quickest = max(row.qps for row in keep_up)
    return max((row for row in keep_up if row.qps >= ALIKE * quickest), key=lambda row: (row.recall, row.qps))


def recommended(rows: list[Row], recall: float, updates_per_hour: float) -> Advice:
    """The recommended row, a sentence that says why, and the best rows of the other kinds."""
    best = choice(rows, recall, updates_per_hour)
    kinds = {kind: [row for row in rows if row.kind == kind] for kind in dict.fromkeys(row.kind for row in rows)}
    kinds[best.kind] = [best]
    shown = [choice(own, recall, updates_per_hour) for own in kinds.values()]
    if best.updates_per_hour < updates_per_hour:
        return Advice(
            best.builder,
            f"none keeps up with {updates_per_hour:,.0f} updates an hour; {best.kind} comes nearest, "
            f"with {best.updates_per_hour:,.0f}",
            rows,
            shown,
        )
    wanted = f"at least {recall:g}" + f" that keep up with {updates_per_hour:,.0f} updates an hour" * (
        updates_per_hour > 0
    )
    others = [
        row for row in shown if row is not best and row.recall >= recall and row.updates_per_hour >= updates_per_hour
    ]
    rival = max(others, key=lambda row: row.qps, default=None)
    if rival is not None and rival.qps > best.qps:
        why = f"as quick within 5 % as {rival.kind} ({rival.qps:,.0f} at {rival.recall:.3f}), and finds more"
    else:
        why = f"the most of those with {wanted}" + (f"; next is {rival.kind}, {rival.qps:,.0f}" if rival else "")
    reason = f"{best.kind} answers {best.qps:,.0f} queries a second at recall@{K} {best.recall:.3f}, {why}"
    return Advice(best.builder, reason, rows, shown)


def plot(rows: list[Row], file: Path | BinaryIO) -> None:
    """Draws recall against queries a second as a PNG: one line for each kind, one point for each effort."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for marker, kind in zip("osD^v<>P*X", dict.fromkeys(row.kind for row in rows), strict=False):
        points = sorted((row.recall, row.qps) for row in rows if row.kind == kind)
        front = [p for p in points if not any(other[0] >= p[0] and other[1] > p[1] for other in points)]
        axes.plot(*zip(*front, strict=True), marker=marker, label=kind)
    axes.set(xlabel=f"recall@{K}", ylabel="queries a second", yscale="log")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(file, format="png", dpi=120)


def _measured(
    kind: str, builders: Sequence[Builder], items: np.ndarray, queries: np.ndarray, truth: np.ndarray
) -> list[Row]:
    ids = range(len(items))
    began = time.perf_counter()
    index = builders[0].build(ids, items)
    build_seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        memory = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
    rows = []
    for builder in builders:
        tuned = index.at(builder)
        found, _ = tuned.search(queries, K)
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)])
        rounds, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < SECONDS:
            tuned.search(queries, K)
            rounds += 1
        single = []
        tuned.search(queries[:1], K)
        for k in range(SINGLE):
            start = time.perf_counter()
            tuned.search(queries[[k % len(queries)]], K)
            single.append(1000 * (time.perf_counter() - start))
        rate, (median, slow) = rounds * len(queries) / passed, np.percentile(single, [50, 99]).tolist()
        rows.append(Row(kind, builder, float(recall), rate, median, slow, build_seconds, memory, 0.0))
    # last, as it changes the index: additions, and their share of the structures that they make necessary
    new = [f"new {k}" for k in range(min(200, len(queries)))]
    began = time.perf_counter()
    for k, item in enumerate(new):
        index.add([item], queries[[k]])
    each = (time.perf_counter() - began) / len(new) + build_seconds / index.patience
    return [dataclasses.replace(row, updates_per_hour=3600 / each) for row in rows]
