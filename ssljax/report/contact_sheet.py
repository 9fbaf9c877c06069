"""A contact sheet: one picture of an experiment's photos, their views and titles, and its disturbances of them."""

import dataclasses
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssljax.config import Experiment
from ssljax.data import Items, TitleAugmentation
from ssljax.data.decode import BadImage, decode
from ssljax.types import Batch, UserError, short
from ssljax.views import Augmentation
from ssljax.views.disturbances import DISTURBANCES
from ssljax.views.disturbances.collage import MOST
from ssljax.views.disturbances.disturbance import Disturbance

STRENGTHS = (0, 0.25, 0.5, 0.75, 1)
PHOTOS = 2  # in each row of a disturbance
COLUMNS = PHOTOS * len(STRENGTHS)
CELL, GAP, LABEL = 96, 4, 120  # pixels
LINE = 16
LETTERS, LINES = 15, 7  # of a title that fit into a cell


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of images under captions."""

    captions: list[str]
    rows: list[tuple[str, list[np.ndarray]]]  # label, and f32[h, w, 3] in [0, 1] for each caption


def contact_sheet(experiment: Experiment, rows: int) -> Image.Image:
    """The picture: photos in rows with random views in columns, then a row for each disturbance at rising strengths.

    If the experiment reads titles, those of the same items stand between, with examples of how they are changed. The
    disturbances are the experiment's, or all if it has none; each is shown on two photos. The experiment's seed decides
    which photos are shown and what happens to them.

    Raises UserError if `rows` is not positive, or no photo can be read.
    """
    if rows < 1:
        raise UserError(f"rows={rows} is too small: it must be at least 1")
    views, rng = experiment.normalised_views, jax.random.PRNGKey(experiment.seed)
    if not hasattr(views, "pixels"):
        raise UserError(f"views={short(views)} cannot be drawn: define `pixels`, which undoes the normalisation")
    items, batch = _photos(experiment, max(rows, MOST))  # a collage needs other photos
    items = items.select(np.arange(len(items)) < rows)
    names = items.ids.tolist()
    embedded = jax.jit(lambda batch: views.pixels(views.evaluation(batch)["views"][0]))(batch)
    disturbances = disturbances_of(views) or DISTURBANCES
    return _draw(
        [
            _views(views, rng, batch, embedded, names),
            *_titles(experiment, items),
            _disturbances(disturbances, jax.random.fold_in(rng, COLUMNS), embedded, len(names)),
        ]
    )


def disturbances_of(views: Any) -> list[Disturbance]:
    """The disturbances of views and of the augmentations inside them, each once."""
    parts = [getattr(views, field.name) for field in dataclasses.fields(views)]
    inside = [d for part in parts if isinstance(part, Augmentation) for d in disturbances_of(part)]
    own = views.disturbances if isinstance(views, Augmentation) else ()
    return list(dict.fromkeys([*own, *inside]))


def _photos(experiment: Experiment, count: int) -> tuple[Items, Batch]:
    """Items of the train split with readable photos, and their batch, drawn by the sampler and the seed."""
    items = experiment.data.load("train")
    sampled = experiment.sampler.over(items, batch_size=experiment.batch_size, seed=experiment.seed)
    drawn, images, aspects, reason = [], [], [], ""
    batches = (sampled.rows(step) for step in range(sampled.batches_per_epoch))
    for rows in (item for batch in batches for item in batch.reshape(-1, sampled.photos)):
        try:
            photos, shapes = zip(*(decode(items.photos[row], experiment.photo_size) for row in rows), strict=True)
        except BadImage as error:
            reason = reason or f"{items.ids[rows[0]]}: {error}"
            continue
        drawn.append(rows[0])
        images.append(photos)
        aspects.append(shapes)
        if len(drawn) == count:
            break
    if not drawn:
        raise UserError(f"data: not one photo of the train split can be read ({reason})")
    return items.select(np.array(drawn)), {"image": np.array(images), "aspect": np.array(aspects, np.float32)}


def _views(views: Any, rng: jax.Array, batch: Batch, embedded: jax.Array, names: list[str]) -> Block:
    """A row for each photo: what is embedded of it, and random views of as many steps as there is room for."""
    make = jax.jit(lambda rng, batch: [views.pixels(view) for view in views(rng, batch)["views"]])
    steps = [make(rng, batch)]
    for step in range(1, (COLUMNS - 1) // len(steps[0])):
        steps.append(make(jax.random.fold_in(rng, step), batch))
    columns = [np.asarray(embedded)] + [np.asarray(view) for step in steps for view in step]
    captions = ["embedded"] + [f"view {k + 1}" for step in steps for k in range(len(step))]
    return Block(captions, [(name, [column[k] for column in columns]) for k, name in enumerate(names)])


def _titles(experiment: Experiment, items: Items) -> list[Block]:
    """A row for each item: its title, and examples of how it is changed; nothing if the experiment reads no titles."""
    if experiment.titles is None or "title" not in items.columns:
        return []
    titles = items.columns["title"].tolist()
    rngs = [np.random.default_rng((experiment.seed, k)) for k in range(1, COLUMNS)]
    changed = [experiment.titles.augmentation(titles, rng) for rng in rngs]
    columns = [titles, *changed] if experiment.titles.augmentation != TitleAugmentation() else [titles]
    rows = [
        (name, list(map(_written, texts))) for name, texts in zip(items.ids, zip(*columns, strict=True), strict=True)
    ]
    return [Block(["title", *["changed"] * (len(columns) - 1)], rows)]


def _written(text: str) -> np.ndarray:
    """f32[h, w, 3], a text in a cell, cut off where it does not fit."""
    cell = Image.new("RGB", (CELL, CELL), "white")
    lines = textwrap.wrap(_plain(text), LETTERS, max_lines=LINES, placeholder="...")
    ImageDraw.Draw(cell).multiline_text((GAP, GAP), "\n".join(lines), "black", ImageFont.load_default(), spacing=2)
    return np.asarray(cell, np.float32) / 255


def _disturbances(disturbances: Sequence[Disturbance], rng: jax.Array, embedded: jax.Array, photos: int) -> Block:
    """A row for each disturbance: two of the first `photos` at all strengths, with the same random numbers."""
    planes, rows = jnp.moveaxis(embedded, 3, 1), []
    for row, disturbance in enumerate(disturbances):
        disturb, key = jax.jit(disturbance.disturb), jax.random.fold_in(rng, row)
        disturbed = [disturb(key, planes, jnp.full(len(planes), s, jnp.float32)) for s in STRENGTHS]
        shown = [(PHOTOS * row + k) % photos for k in range(PHOTOS)]
        images = [np.moveaxis(np.asarray(batch[k]), 0, 2) for k in shown for batch in disturbed]
        rows.append((type(disturbance).__name__, images))
    return Block([f"{s:g}" for s in STRENGTHS] * PHOTOS, rows)


def _draw(blocks: list[Block]) -> Image.Image:
    """The blocks below each other, with every image as large as a cell."""
    step = CELL + GAP
    width = LABEL + max(len(block.captions) for block in blocks) * step
    height = sum(LINE + len(block.rows) * step for block in blocks)
    sheet = Image.new("RGB", (width, height), "gainsboro")  # so that white photos have an edge
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()

    top = 0
    for block in blocks:
        for column, caption in enumerate(block.captions):
            draw.text((LABEL + column * step, top + 2), caption, "black", font)
        top += LINE
        for label, images in block.rows:
            draw.text((GAP, top + CELL // 2 - 6), _short(label), "black", font)
            for column, image in enumerate(images):
                pixels = Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8))
                sheet.paste(pixels.resize((CELL, CELL)), (LABEL + column * step, top))
            top += step
    return sheet


def _short(label: str) -> str:
    """A label that fits beside a row."""
    plain = _plain(label)
    return plain if len(plain) <= 18 else f"{plain[:15]}..."


def _plain(text: str) -> str:
    """A text in the characters that Pillow's default font has, without accents; "?" for the others."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode()
