"""What a finished run leaves: weights, embeddings, samples, and figures beside those of the baselines."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ssljax.config import Experiment, resolved
from ssljax.data import Items
from ssljax.data.atomic_files import MANIFEST, read_json, replace_file, write_json
from ssljax.data.decode import BadImage, thumbnail
from ssljax.evaluation import Embeddings
from ssljax.evaluation.embeddings import BASELINE
from ssljax.evaluation.restore import Restored
from ssljax.evaluation.tfidf import ROW as TFIDF_ROW
from ssljax.evaluation.tfidf import embed_by_tfidf
from ssljax.models import weights_bytes
from ssljax.models.licences import starts_of
from ssljax.sharding import is_first_process, replicated
from ssljax.training.logging import console
from ssljax.training.run_folder import Run
from ssljax.types import Embed, PyTree, WeightsMethod

SAMPLES = 6
SAMPLE_SIDE = 256
LONGEST_NAME = 60  # characters, of up to four bytes: file systems take names of up to 255 bytes

NETWORKS = {"trained": "student", "teacher": "teacher"}  # rows of a table that were trained, and what they are of
UNTRAINED = {
    BASELINE: "raw pixels",
    TFIDF_ROW: "TF-IDF of titles",
    "untrained": "the untrained network",
    "imported": "the imported network",
}

Export = Callable[[Run, Experiment, Callable[[str], Items], Embed, dict[str, Any]], object]
"""Writes more of a finished run into its folder, such as the index or the report.

It gets the folder, the experiment, splits of its data, their saved embeddings, and the results.
"""


def finish(trained: Restored, exports: Sequence[Export] = ()) -> dict[str, Any]:
    """Evaluates, and writes weights, embeddings, samples, what `exports` write, and results.json; returns the results.

    results.json is the last, and says that all the others are there.
    """
    run, experiment, steps = trained.run, trained.experiment, trained.spec.total_steps
    environment: dict[str, Any] = {}
    remedy = "the same `ssljax train` command writes it anew"
    run.by_first(lambda: environment.update(read_json(run.environment, remedy)))
    console.print("Embedding and evaluating ...")
    rows = table_rows(trained, untrained=True)
    table = evaluate(experiment, rows)
    splits, origin = sorted(saved_splits(experiment)), trained.origin()  # in one order in all processes
    embeddings = {split: dataclasses.replace(rows["trained"](split), origin=origin) for split in splits}
    weights = _weights(trained)
    results = {
        "name": experiment.name,
        "table": table,
        "verdict": verdict(experiment, table),
        "steps": steps,
        "seconds": trained.seconds,
        "images_per_second": steps * experiment.batch_size / trained.seconds if steps else 0.0,
        "environment": environment,
        "config": resolved(experiment),
        "starts": starts_of(experiment.method),
    }
    prepared = experiment.preprocessing
    metadata = licence_metadata(results["starts"])
    if prepared:
        metadata["preprocessing"] = json.dumps(dataclasses.asdict(prepared))
    if is_first_process():
        for network, modules in weights.items():
            content = weights_bytes(modules, metadata)
            replace_file(run.weights(network), lambda file, content=content: file.write(content))
        for split, part in embeddings.items():
            part.save(run.embeddings(split))
        write_samples(run, trained.load(experiment.gallery[0]))
        for export in exports:
            export(run, experiment, trained.load, embeddings.__getitem__, results)
        write_json(run.results, results)
    return results


def table_rows(trained: Restored, *, untrained: bool = False) -> dict[str, Embed]:
    """Row of a table → split → its embeddings: the trained networks and, with `baselines`, what they are compared with.

    Those are raw pixels and, if it is asked for, the `untrained` network and TF-IDF of the titles. Without an epoch the
    untrained network is the trained one.
    """
    baselines = trained.experiment.baselines
    rows = {"trained" if n == "student" else n: (trained.state, n) for n in trained.embedder.networks}
    if baselines and untrained and trained.experiment.epochs:
        rows[start_of(resolved(trained.experiment))] = (trained.spec.initial(), "student")
    made = trained.embedder.together(rows, baseline=baselines)
    if baselines and untrained and trained.experiment.titles is not None:
        made[TFIDF_ROW] = embed_by_tfidf(made["trained"], trained.load("train").columns["title"].tolist())
    return made


def start_of(config: Mapping[str, Any]) -> str:
    """What the network of a resolved experiment is before its training: "imported" from a file, or "untrained".

    Heads and teachers may come from files, too, without which an encoder is no better before it is trained.
    """

    def from_file(value: Any) -> bool:
        if isinstance(value, list):
            return any(map(from_file, value))
        return isinstance(value, dict) and (bool(value.get("weights")) or any(map(from_file, value.values())))

    method = config.get("method") or {}
    return "imported" if any(from_file(method.get(name)) for name in ("encoder", "title_encoder")) else "untrained"


def shown_table(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The table of a run's results as people read it: its network is no "trained" one if there was no epoch."""
    table, config = results.get("table") or {}, results.get("config") or {}
    if config.get("epochs") != 0:
        return table
    return {start_of(config) if row == "trained" else row: figures for row, figures in table.items()}


def starts_in(results: Mapping[str, Any], method: Any) -> list[dict[str, str | None]]:
    """What a run's method started from, by its results; by the files themselves if an earlier version wrote those."""
    return results["starts"] if "starts" in results else starts_of(method)


def licence_metadata(starts: Sequence[Mapping[str, str | None]]) -> dict[str, str]:
    """What a weights file says of the licences of what it started from, which hold for it too."""
    stated = dict.fromkeys(start["license"] for start in starts if start["license"])
    return {"license": ", ".join(filter(None, stated))} if stated else {}


def _weights(trained: Restored) -> dict[str, PyTree]:
    """What the method has to save for others, on the host; nothing if it defines no `weights`."""
    method, mesh = trained.experiment.method, trained.spec.mesh
    if not isinstance(method, WeightsMethod):
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
    values = {row: found[figure] for row, found in table.items() if figure in found}
    if not experiment.epochs:
        return _verdict_as_it_starts(experiment, figure, values)
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


def _verdict_as_it_starts(experiment: Experiment, figure: str, values: dict[str, float]) -> list[str]:
    start = start_of(resolved(experiment))
    if not _below(values, "trained", BASELINE):
        return []
    said = [
        f"The {start} network finds less than raw pixels ({values[BASELINE]:.3f}): its {figure} is "
        f"{values['trained']:.3f}."
    ]
    if start == "imported":
        said.append("See whether the photos are prepared as its weights want them (`Preprocessing`).")
    return said


def _below(values: dict[str, float], row: str, other: str) -> bool:
    return row in values and other in values and values[row] < values[other]


def missing(run: Run, experiment: Experiment) -> list[Path]:
    """What `finish` writes and is not there."""
    weights = [run.weights("student")] if isinstance(experiment.method, WeightsMethod) else []
    embeddings = map(run.embeddings, sorted(saved_splits(experiment)))
    files = [run.results, run.report, run.index / MANIFEST, *embeddings, *weights]
    return [path for path in files if not (path.is_file() and path.stat().st_size)] + [
        path for path in [run.samples] if not path.exists()
    ]


def evaluate(experiment: Experiment, rows: dict[str, Embed]) -> dict[str, dict[str, float]]:
    """Row → figures of all the experiment's evaluators, for each way to embed a split."""
    return {row: {k: v for e in experiment.evaluate for k, v in e(embed).items()} for row, embed in rows.items()}


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
