"""A 2-D map of embeddings: near points are similar photos."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageOps

from ssljax.report.page import render

POINTS = 1000
COLOURS = 8
PIXELS = 56


def embedding_map(
    vectors: np.ndarray, photo: Callable[[int], np.ndarray], captions: list[str], kinds: Sequence[str] | None
) -> Markup:
    """A t-SNE of a sample; each point has its place in one picture of thumbnails, shown on hover or all at once."""
    rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:POINTS]).tolist()
    if len(rows) < 5 or np.ptp(vectors[rows], axis=0).max() < 1e-6:
        return render("map.html", points=None)
    xy, aspect = _flat(vectors[rows])
    kinds = ["" if kinds is None else str(kinds[row]) for row in rows]
    common = [kind for kind, _ in Counter(k for k in kinds if k).most_common(COLOURS)]
    columns = math.ceil(math.sqrt(len(rows)))
    lines = math.ceil(len(rows) / columns)
    sprite = Image.new("RGB", (columns * PIXELS, lines * PIXELS))
    points = []
    for place, (row, (x, y), kind) in enumerate(zip(rows, xy, kinds, strict=True)):
        line, column = divmod(place, columns)
        tile = ImageOps.fit(Image.fromarray(np.asarray(photo(row))), (PIXELS, PIXELS))
        sprite.paste(tile, (column * PIXELS, line * PIXELS))
        colour = common.index(kind) if kind in common else "x" if common else 0
        caption = captions[row] + (f"\n{kind}" if kind else "")
        points.append({"x": x, "y": y, "column": column, "line": line, "colour": colour, "caption": caption})
    others = bool(common) and len(set(kinds)) > len(common)
    size = f"aspect-ratio:{aspect:.3f};--columns:{columns};--lines:{lines}"
    return render("map.html", points=points, common=common, others=others, size=size, sprite=sprite)


def _flat(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """f32[n, D] -> f[n, 2] in percent of a frame, and the frame's width / height, by t-SNE started from PCA."""
    from sklearn.decomposition import PCA  # a second to import, and only the map needs it
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # threads that wait by spinning take ten times as long on a busy machine
        few = PCA(min(50, *vectors.shape), random_state=0).fit_transform(vectors)
        few = np.pad(few, ((0, 0), (0, max(0, 2 - few.shape[1]))))
        start = few[:, :2] / few[:, 0].std() * 1e-4  # as scikit-learn's init="pca"
        xy = TSNE(perplexity=min(30.0, (len(few) - 1) / 3), init=start).fit_transform(few)
    middle, extent = (xy.max(axis=0) + xy.min(axis=0)) / 2, np.maximum(np.ptp(xy, axis=0), 1e-9)
    aspect = float(np.clip(extent[0] / extent[1], 0.8, 1.9))
    side = max(extent[0] / aspect, extent[1])  # one scale for both axes: the frame is side * aspect wide
    return 50 + 92 * (xy - middle) / (side * np.array([aspect, 1.0])), aspect
