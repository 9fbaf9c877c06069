"""What a smaller export costs: neighbours that it no longer finds among the photos of a run's gallery."""

import numpy as np

from ssljax.data.decode import BadImage, decode
from ssljax.evaluation import Embeddings
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.restore import Restored
from ssljax.export.onnx import Session
from ssljax.types import UserError

MEASURED = 1000  # photos of the gallery, spread evenly
NEIGHBOURS = 10
BATCH = 32


def recall_of(restored: Restored, sessions: dict[str, Session]) -> dict[str, dict[str, float]]:
    """Export → `recall@10`, the share of the ten nearest photos by the first export that are among its own ten.

    And CMC@k of the run's first Retrieval, if that searches the gallery. Both are of the same MEASURED photos at most.
    Raises UserError if there are fewer than two photos.
    """
    experiment = restored.experiment
    split = experiment.gallery[0]
    items = restored.load(split)
    decoded, rows = [], []
    for row in np.unique(np.linspace(0, len(items) - 1, MEASURED).astype(int)):
        try:
            decoded.append(decode(items.photos[row], experiment.photo_size))
            rows.append(row)
        except BadImage:
            continue
    if len(rows) < 2:
        raise UserError(f"the gallery {split} has fewer than two photos that can be read: recall cannot be measured")
    found = items.select(np.array(rows))
    vectors = {name: _embedded(session, decoded) for name, session in sessions.items()}
    nearest = {name: _nearest(v) for name, v in vectors.items()}
    first, retrieval = next(iter(nearest.values())), experiment.retrieval
    table: dict[str, dict[str, float]] = {}
    for name, own in nearest.items():
        shared = [len(np.intersect1d(a, b)) for a, b in zip(first, own, strict=True)]
        table[name] = {f"recall@{first.shape[1]}": float(np.mean(shared) / first.shape[1])}
        if retrieval is not None and {retrieval.split, retrieval.searched} == {split}:
            embeddings = Embeddings.of(found, vectors[name])
            figures = retrieval(lambda split, embeddings=embeddings: embeddings)
            table[name][retrieval.first_figure] = figures[retrieval.first_figure]
    return table


def _embedded(session: Session, decoded: list[tuple[np.ndarray, float]]) -> np.ndarray:
    parts = []
    for start in range(0, len(decoded), BATCH):
        images, aspects = zip(*decoded[start : start + BATCH], strict=True)
        parts.append(session(np.stack(images), np.array(aspects, np.float32)))
    return np.concatenate(parts)


def _nearest(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    k = min(NEIGHBOURS, len(unit) - 1)
    return top_k(unit, unit, k, exclude=np.arange(len(unit), dtype=np.int32))[0]
