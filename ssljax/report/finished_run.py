"""The report of a finished run, from its folder and its data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.decode import BadImage, decode, thumbnail_or_grey
from ssljax.data.text import did_you_mean
from ssljax.evaluation import Embeddings, relevance
from ssljax.models import Pretrained, ViT, cls_attention
from ssljax.report.attention import Attention
from ssljax.report.photos import THUMBNAIL
from ssljax.report.run_page import MOST, write_report
from ssljax.training.run_folder import Run
from ssljax.types import Array, Batch, Embed, UserError

ATTENDED = 6  # photos whose attention is shown


class Shown:
    """Photos and captions of embedded items, for the pages: those of all `parts`, one after the other."""

    def __init__(self, *parts: tuple[Items, Embeddings]):
        self._ids = [item for _, part in parts for item in part.ids]
        titles = (title for _, part in parts for title in part.columns.get("title", part.ids))
        self.captions = [str(title) or str(item) for title, item in zip(titles, self._ids, strict=True)]
        self._items = [items for items, part in parts for _ in part.ids]
        self._row_of = {id(items): {item: row for row, item in enumerate(items.ids)} for items, _ in parts}

    def photo(self, row: int) -> np.ndarray:
        """u8[h, w, 3], in its original shape; grey if it cannot be had."""
        items = self._items[row]
        place = self._row_of[id(items)].get(self._ids[row])  # None: no longer among the data
        return thumbnail_or_grey(None if place is None else items.photos[place], THUMBNAIL)


def report(
    run: Run,
    experiment: Experiment,
    load: Callable[[str], Items],
    embed: Embed,
    results: dict[str, Any] | None = None,
    *,
    by: str | None = None,
    most: int = MOST,
) -> Path:
    """Writes report.html; a hit is what the experiment's first Retrieval says, or else an item of the same label.

    Args:
        run: the folder.
        experiment: that of the run.
        load: a split of its data.
        embed: the run's embeddings of a split.
        results: the figures; by default those of results.json.
        by: the column that colours the map and groups failures; by default what `kinds` says.
        most: failures shown of each category.
    """
    retrieval = experiment.retrieval
    split = experiment.gallery[0] if retrieval is None else retrieval.split
    items, embeddings, searched = load(split), embed(split), None
    shown = [(items, embeddings)]
    if retrieval is None:
        groups = np.full(len(embeddings), -1) if embeddings.label is None else embeddings.label
        meaning = "of the same label"
    elif retrieval.searched == split:
        groups, meaning = retrieval.groups(embeddings), retrieval.meaning
    else:
        gallery = embed(retrieval.searched)
        groups, gallery_groups = relevance(retrieval.relevant, embeddings, gallery)
        searched, meaning = (gallery, gallery_groups), retrieval.meaning
        shown.append((load(retrieval.searched), gallery))
    shown = Shown(*shown)
    return write_report(
        run.path,
        embeddings,
        groups,
        shown.photo,
        captions=shown.captions,
        kinds=kinds(experiment, items, embeddings, by),
        relevant=meaning,
        searched=searched,
        attention=_attention(run, experiment, items),
        most=most,
        results=results,
    )


def kinds(experiment: Experiment, items: Items, embeddings: Embeddings, by: str | None) -> list[str] | None:
    """The category of each embedded item.

    The column `by`, or else that of the first Retrieval's `by`, or the label, or the first attribute; None if the data
    has none of these. Raises UserError if `by` is no column.
    """
    if by is None and experiment.retrieval is not None:
        by = experiment.retrieval.by
    own: dict[str, list[str]] = {}
    if embeddings.label is not None:
        own["label"] = [items.label_names[label] if label >= 0 else "" for label in embeddings.label]
    if embeddings.listing is not None:
        own["listing"] = [str(number) for number in embeddings.listing]
    there = own | {name: [str(value) for value in values] for name, values in embeddings.columns.items()}
    if by is None:
        by = next((name for name in ("label", *items.attribute_names[:1]) if name in there), None)
        if by is None:
            return None
    if by not in there:
        raise UserError(f"by={by!r} is no column of the data{did_you_mean(by, list(there))}")
    return there[by]


def _attention(run: Run, experiment: Experiment, items: Items) -> Attention | None:
    """What the student looks at in a few photos; None if it is no ViT, or weights or photos are not there."""
    encoder = getattr(experiment.method, "encoder", None)
    encoder = encoder.module if isinstance(encoder, Pretrained) else encoder
    weights, views = run.weights("student"), experiment.normalised_views
    if not isinstance(encoder, ViT) or not weights.exists():
        return None
    rows, photos, aspects = [], [], []
    for row in np.random.default_rng(0).permutation(len(items)).tolist():
        try:
            photo, aspect = decode(items.photos[row], experiment.photo_size)
        except BadImage:
            continue
        rows, photos, aspects = [*rows, row], [*photos, photo], [*aspects, aspect]
        if len(rows) == ATTENDED:
            break
    if not rows:
        return None

    @jax.jit
    def look(batch: Batch) -> tuple[Array, Array]:
        view = views.evaluation(batch)["views"][0]
        module = Pretrained(encoder, str(weights), preprocessing=experiment.preprocessing)
        variables = module.init(jax.random.PRNGKey(0), view, train=False)
        with jax.default_matmul_precision(experiment.evaluation_precision):
            return views.pixels(view), cls_attention(encoder, variables, view)

    batch = {"image": np.stack(photos)[:, None], "aspect": np.array(aspects, np.float32)[:, None]}
    pixels, maps = jax.device_get(look(batch))
    return Attention((255 * pixels.clip(0, 1)).round().astype(np.uint8), maps, [items.caption(row) for row in rows])
