"""What follows training: embeddings, figures beside the baselines, the search index, samples and the report."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssljax.config import Experiment, resolved
from ssljax.data import Items
from ssljax.data.atomic_files import MANIFEST, read_json, replace_file, write_json
from ssljax.data.decode import BadImage, decode, thumbnail, thumbnail_or_grey
from ssljax.data.text import did_you_mean
from ssljax.evaluation import Embeddings, relevance
from ssljax.evaluation.embeddings import BASELINE
from ssljax.evaluation.restore import Restored
from ssljax.models import Pretrained, ViT, cls_attention, weights_bytes
from ssljax.report import MOST, THUMBNAIL, Attention, write_report
from ssljax.search import save_collection
from ssljax.sharding import is_first_process, replicated
from ssljax.training.logging import console
from ssljax.training.run_folder import Run
from ssljax.types import Array, Batch, Embed, PyTree, TrainState, UserError

SAMPLES = 6
SAMPLE_SIDE = 256
LONGEST_NAME = 60  # characters, of up to four bytes: file systems take names of up to 255 bytes
ATTENDED = 6  # photos whose attention is shown


NETWORKS = {"trained": "student", "teacher": "teacher"}  # rows of a table that were trained, and what they are of
UNTRAINED = {BASELINE: "raw pixels", "untrained": "the untrained network"}

Load = Callable[[str], Items]


def finish(run: Run, trained: Restored) -> dict[str, Any]:
    """Evaluates, and writes weights, embeddings, index, samples, report.html and results.json; gives the results.

    results.json is the last, and says that all the others are there.
    """
    environment = read_json(run.environment, "the same `ssljax train` command writes it anew")
    console.print("Embedding and evaluating ...")
    experiment, steps = trained.experiment, trained.spec.total_steps
    rows = table_rows(trained, {"untrained": (trained.spec.initial(), "student")})
    table = evaluate(experiment, rows)
    origin = trained.origin()
    embeddings = {
        split: dataclasses.replace(rows["trained"](split), origin=origin) for split in saved_splits(experiment)
    }
    weights = _weights(trained)
    results = {
        "name": experiment.name,
        "table": table,
        "verdict": verdict(experiment, table),
        "steps": steps,
        "seconds": trained.seconds,
        "images_per_second": steps * experiment.batch_size / trained.seconds,
        "environment": environment,
        "config": resolved(experiment),
    }
    if is_first_process():
        for network, modules in weights.items():
            content = weights_bytes(modules)
            replace_file(run.weights(network), lambda file, content=content: file.write(content))
        for split, part in embeddings.items():
            part.save(run.embeddings(split))
        build_index(run, experiment, embeddings.__getitem__)
        write_samples(run, trained.load(experiment.gallery[0]))
        report(run, experiment, trained.load, embeddings.__getitem__, results=results)
        write_json(run.results, results)
    return results


def table_rows(trained: Restored, more: dict[str, tuple[TrainState, str]] | None = None) -> dict[str, Embed]:
    """What a table compares: row → split → its embeddings. The networks of a state, then `more`, then raw pixels."""
    networks = {"trained" if n == "student" else n: (trained.state, n) for n in trained.embedder.networks}
    return trained.embedder.together(networks | (more or {}), baseline=True)


def _weights(trained: Restored) -> dict[str, PyTree]:
    """What the method has to save for others, on the host; nothing if it defines no `weights`."""
    method, mesh = trained.experiment.method, trained.spec.mesh
    if not hasattr(method, "weights"):
        return {}
    with jax.set_mesh(mesh):
        whole = jax.jit(method.weights, out_shardings=replicated(mesh))(trained.state.params, trained.state.aux)
    return jax.device_get(whole)


def verdict(experiment: Experiment, table: dict[str, dict[str, float]]) -> list[str]:
    """What a table says, in sentences: which network finds less than what was not trained, and which is the better.

    By CMC@k of the experiment's first Retrieval, or else by the table's first figure.
    """
    retrieval, said = experiment.retrieval, []
    if not table["trained"]:
        return []
    figure = next(iter(table["trained"])) if retrieval is None else retrieval.first_figure
    values = {row: found[figure] for row, found in table.items()}
    for row, network in NETWORKS.items():
        below = [f"{name} ({values[other]:.3f})" for other, name in UNTRAINED.items() if _below(values, row, other)]
        if below:
            said.append(f"The {network} finds less than {' and '.join(below)}: its {figure} is {values[row]:.3f}.")
            if row == "trained":
                said.append("Train longer, or look at the learning rate and at the views (`ssljax views`).")
    if "teacher" in values:
        student, teacher = values["trained"], values["teacher"]
        which = "better than" if student > teacher else "worse than" if student < teacher else "as good as"
        said.append(f"The student ({figure} {student:.3f}) is {which} the teacher ({teacher:.3f}).")
        if teacher > student:
            said.append("`ssljax embed --network teacher` takes the teacher.")
    return said


def _below(values: dict[str, float], row: str, other: str) -> bool:
    return row in values and other in values and values[row] < values[other]


def missing(run: Run, experiment: Experiment) -> list[Path]:
    """What `finish` writes and is not there."""
    weights = [run.weights("student")] if hasattr(experiment.method, "weights") else []
    embeddings = map(run.embeddings, sorted(saved_splits(experiment)))
    files = [run.results, run.report, run.index / MANIFEST, *embeddings, *weights]
    return [path for path in files if not (path.is_file() and path.stat().st_size)] + [
        path for path in [run.samples] if not path.exists()
    ]


def evaluate(experiment: Experiment, rows: dict[str, Embed]) -> dict[str, dict[str, float]]:
    """Row → figures of all the experiment's evaluators, for each way to embed a split."""
    return {row: {k: v for e in experiment.evaluate for k, v in e(embed).items()} for row, embed in rows.items()}


def build_index(run: Run, experiment: Experiment, embed: Embed) -> None:
    """Saves the index of the gallery's splits."""
    embeddings = Embeddings.joined([embed(split) for split in experiment.gallery])
    save_collection(run.index, experiment.index, embeddings)


def saved_splits(experiment: Experiment) -> set[str]:
    """The splits whose embeddings a run keeps: those of the index, and those that the first Retrieval compares."""
    retrieval = experiment.retrieval
    return {*experiment.gallery, *(() if retrieval is None else (retrieval.split, retrieval.searched))}


def saved_embeddings(run: Run) -> Embed:
    """Split name → the embeddings that the run saved."""
    return lambda split: Embeddings.load(run.embeddings(split))


def write_samples(run: Run, items: Items) -> None:
    """A few photos as PNG files, spread over the items, to search with."""
    run.samples.mkdir(exist_ok=True)
    for row in np.linspace(0, len(items) - 1, min(SAMPLES, len(items))).astype(int):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(items.ids[row]))[:LONGEST_NAME]
        try:
            photo = Image.fromarray(thumbnail(items.photos[row], SAMPLE_SIDE))
        except BadImage:
            continue
        replace_file(run.samples / f"{name}.png", lambda file, photo=photo: photo.save(file, "PNG"))


class Shown:
    """Photos and captions of embedded items, for the pages: those of all `parts`, one after the other."""

    def __init__(self, *parts: tuple[Items, Embeddings]):
        self.captions = [str(c) for _, part in parts for c in part.columns.get("title", part.ids)]
        self._ids = [item for _, part in parts for item in part.ids]
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
    load: Load,
    embed: Embed,
    *,
    by: str | None = None,
    most: int = MOST,
    results: dict[str, Any] | None = None,
) -> Path:
    """Writes report.html; a hit is what the experiment's first Retrieval says, or else an item of the same label.

    `by` is the column that colours the map and groups failures, by default what `kinds` says; `most` failures of each;
    `results` the figures, by default those of results.json.
    """
    split, retrieval = report_split(experiment), experiment.retrieval
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


def report_split(experiment: Experiment) -> str:
    """The split that the report shows."""
    return experiment.gallery[0] if experiment.retrieval is None else experiment.retrieval.split


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
    weights, views = run.weights("student"), experiment.views
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
        variables = Pretrained(encoder, str(weights)).init(jax.random.PRNGKey(0), view, train=False)
        with jax.default_matmul_precision(experiment.evaluation_precision):
            return views.pixels(view), cls_attention(encoder, variables, view)

    batch = {"image": np.stack(photos)[:, None], "aspect": np.array(aspects, np.float32)[:, None]}
    pixels, maps = jax.device_get(look(batch))
    return Attention((255 * pixels.clip(0, 1)).round().astype(np.uint8), maps, [items.caption(row) for row in rows])
