"""What follows training: embeddings, figures beside the baselines, the search index, samples and the report."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssljax.config import Experiment, resolved
from ssljax.data import Items
from ssljax.data.decode import BadImage, decode, original_shape
from ssljax.embed import Embed
from ssljax.files import read_json, replace_file, write_json
from ssljax.logging import console
from ssljax.models import weights_bytes
from ssljax.retrieval import Embeddings, Origin, save_collection, write_report
from ssljax.retrieval.report.gallery import PIXELS
from ssljax.run import Run
from ssljax.sharding import is_first_process
from ssljax.types import PyTree

SAMPLES = 6
SAMPLE_SIDE = 256


Load = Callable[[str], Items]


def finish(
    run: Run,
    experiment: Experiment,
    load: Load,
    rows: dict[str, Embed],
    weights: dict[str, PyTree],
    origin: Origin,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Evaluates, and writes weights, embeddings, index, samples, results.json and report.html; gives the results.

    `rows` are the ways to embed that the table compares, at least "trained"; `weights` are what `WeightsMethod.weights`
    gives, or nothing; `origin` is what made the embeddings of "trained"; `facts` join the results.
    """
    environment = read_json(run.environment, "the same `ssljax train` command writes it anew")
    console.print("Embedding and evaluating ...")
    table = evaluate(experiment, rows)
    splits = {*experiment.gallery, report_split(experiment)}
    embeddings = {split: dataclasses.replace(rows["trained"](split), origin=origin) for split in splits}
    results = {
        "name": experiment.name,
        "table": table,
        **facts,
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
        write_samples(run, load(experiment.gallery[0]))
        write_json(run.results, results)
        report(run, experiment, load, embeddings.__getitem__)
    return results


def evaluate(experiment: Experiment, rows: dict[str, Embed]) -> dict[str, dict[str, float]]:
    """Row → figures of all the experiment's evaluators, for each way to embed a split."""
    return {row: {k: v for e in experiment.evaluate for k, v in e(embed).items()} for row, embed in rows.items()}


def build_index(run: Run, experiment: Experiment, embed: Embed) -> None:
    """Saves the index of the gallery's splits."""
    embeddings = Embeddings.joined([embed(split) for split in experiment.gallery])
    save_collection(run.index, experiment.index, embeddings)


def saved_embeddings(run: Run) -> Embed:
    """Split name → the embeddings that the run saved."""
    return lambda split: Embeddings.load(run.embeddings(split))


def write_samples(run: Run, items: Items) -> None:
    """A few photos as PNG files, spread over the items, to search with."""
    run.samples.mkdir(exist_ok=True)
    for row in np.linspace(0, len(items) - 1, min(SAMPLES, len(items))).astype(int):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(items.ids[row]))
        try:
            Image.fromarray(original_shape(*decode(items.photos[row], SAMPLE_SIDE))).save(run.samples / f"{name}.png")
        except BadImage:
            continue


def report(run: Run, experiment: Experiment, load: Load, embed: Embed) -> Path:
    """Writes report.html; a hit is what the experiment's first Retrieval says, or else an item of the same label."""
    embeddings, retrieval = embed(report_split(experiment)), experiment.retrieval
    if retrieval is not None:
        groups, meaning = retrieval.groups(embeddings), retrieval.meaning
    else:
        groups = np.full(len(embeddings), -1) if embeddings.label is None else embeddings.label
        meaning = "of the same label"
    items = load(report_split(experiment))
    row_of = {item: row for row, item in enumerate(items.ids)}

    def photo(row: int) -> np.ndarray:
        try:
            return original_shape(*decode(items.photos[row_of[embeddings.ids[row]]], PIXELS))
        except (KeyError, BadImage):  # no longer among the data, or no longer readable
            return np.full((PIXELS, PIXELS, 3), 128, np.uint8)

    return write_report(
        run.path,
        embeddings,
        groups,
        photo,
        captions=embeddings.columns.get("title"),
        kinds=_kinds(items, embeddings),
        relevant=meaning,
    )


def report_split(experiment: Experiment) -> str:
    """The split that the report shows."""
    return experiment.gallery[0] if experiment.retrieval is None else experiment.retrieval.split


def _kinds(items: Items, embeddings: Embeddings) -> list[str] | None:
    """What colours the map: the label, or else the first attribute; None if the data has neither."""
    if embeddings.label is not None:
        return [items.label_names[label] if label >= 0 else "" for label in embeddings.label]
    if items.attribute_names and items.attribute_names[0] in embeddings.columns:
        return list(embeddings.columns[items.attribute_names[0]])
    return None
