"""Trains the experiments with views of what shops do to photos, measures what each loses, and what helps against it.

python results/robust.py            some two hours of two CPU cores, added up from its parts; complete runs are kept
python results/robust.py --judge    measures the runs that are complete, and trains nothing

Writes the records of claims/robust.py, results/robustness/claims_robust_*.json and results/benchmark_remedies.json, of
which `python results/tables.py` makes tables. All runs are measured with disturbed queries, the imported network also
with a disturbed gallery. At the three difficulties of experiments/difficulties MoCo with the e-commerce recipe is
measured beside the Siamese baselines. Remedies are other ways to ask the imported network, with queries disturbed at
medium strength and a gallery that is not.
"""

import dataclasses
import functools
import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from claims import COMPARED_RUNS, DIFFICULTIES, FAILURE_KINDS
from commands import ROOT, ssljax

from ssljax.data.atomic_files import write_json
from ssljax.data.bad_inputs import BadInputs
from ssljax.evaluation import PerQuery, Robustness, intervals
from ssljax.evaluation.disturbed import Photos, Pool
from ssljax.evaluation.metrics import relevant_items
from ssljax.evaluation.restore import Restored
from ssljax.evaluation.robustness import SIDES
from ssljax.evaluation.vectors import normalise
from ssljax.training.experiment_file import load_experiments
from ssljax.training.run_folder import Run, environment
from ssljax.types import Array
from ssljax.views.disturbances import Collage, Disturbance, Recolour

QUERIES = 1000


@dataclasses.dataclass(frozen=True)
class Shrunk(Disturbance):
    """The photo as it is in a collage of four, cut out perfectly: at half of its sides, and enlarged again."""

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """As `Disturbance.disturb`."""
        *batch, height, width = images.shape
        small = jax.image.resize(images, (*batch, height // 2, width // 2), "linear")
        return jax.image.resize(small, images.shape, "linear")


@dataclasses.dataclass(frozen=True)
class Quarter(Disturbance):
    """A quarter of the photo, or of a collage of it, at the size of the whole; all quarters are of one collage."""

    number: int = 0
    """0 to 3 are the quarters; 4 is the whole"""
    of: Disturbance | None = None

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """As `Disturbance.disturb`."""
        if self.of is not None:
            images = self.of.disturb(rng, images, strength)
        if self.number == 4:
            return images
        height, width = (side // 2 for side in images.shape[2:])
        top, left = height * (self.number // 2), width * (self.number % 2)
        return jax.image.resize(images[:, :, top : top + height, left : left + width], images.shape, "linear")


@dataclasses.dataclass(frozen=True)
class Grey(Disturbance):
    """Without colours, before or after another disturbance."""

    of: Disturbance | None = None

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """As `Disturbance.disturb`."""
        if self.of is not None:
            images = self.of.disturb(rng, images, strength)
        return jnp.broadcast_to(images.mean(axis=1, keepdims=True), images.shape)


def without_colours(names: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """i64[n]: equal numbers for names that differ in words of colours alone."""
    words = {word for colour in colours for word in str(colour).casefold().split()}
    plain = [" ".join(w for w in str(name).casefold().split() if w not in words) for name in names]
    return np.unique(plain, return_inverse=True)[1]


def found(
    parts: list[np.ndarray], gallery: np.ndarray, groups: np.ndarray, count: int, *, each: bool = False, first: int = 1
) -> dict[str, float]:
    """The share of queries that find what they look for, with its interval; queries f32[count, D] by several views.

    The nearest of what the views find are the answers, the `first` of them; with `each` every view gives one. One right
    answer is enough. The queries are the first rows of the gallery f32[n, D], whose groups are i[n].
    """
    gallery, own = normalise(gallery), np.arange(count)
    cosines = np.stack([normalise(part) @ gallery.T for part in parts])
    cosines[:, own, own] = -np.inf
    nearest = np.argpartition(-cosines.max(axis=0), first, axis=1)[:, :first]
    answers = cosines.argmax(axis=2).T if each else nearest
    hits = (groups[answers] == groups[:count, None]).any(axis=1)
    asked = relevant_items(groups[:count], groups, own) > 0
    figure = PerQuery(np.flatnonzero(asked), groups[:count][asked], {"found": hits[asked].astype(float)})
    low, high = intervals(figure)["found"]
    return {"found": float(hits[asked].mean()), "from": low, "to": high, "queries": int(asked.sum())}


def remedies(name: str) -> dict[str, dict[str, float]]:
    """What a run finds by ways to ask and to judge → figures."""
    restored = Restored.of(Run(ROOT / "runs" / name))
    suite = Robustness(sides=("query",), items=QUERIES)
    ways = {"student": functools.partial(restored.embedder.batch, restored.state)}
    experiment = restored.experiment

    def bad(items):
        return BadInputs(None, total=len(items), limit=experiment.max_bad_share)

    pool = Pool.of(experiment, restored.load, bad, ways, suite)
    photos, strength = pool.gallery, suite.medium

    def embedded(count: int, disturbance: Disturbance | None = None) -> np.ndarray:
        return photos.vectors(count, disturbance, strength)["student"]

    gallery, grey = embedded(len(photos)), embedded(len(photos), Grey())
    styles, colourless = pool.gallery_groups, colourless_groups(photos)
    clean, recoloured = gallery[: pool.count], embedded(pool.count, Recolour())
    quarters = [embedded(pool.count, Quarter(number=k)) for k in range(4)]
    collages = [embedded(pool.count, Quarter(number=k, of=Collage())) for k in range(5)]
    judge = functools.partial(found, gallery=gallery, groups=styles, count=pool.count)
    blind = functools.partial(found, groups=colourless, count=pool.count)
    return {
        "clean": judge([clean]),
        "clean, by the whole and its quarters": judge([clean, *quarters]),
        "collage": judge(collages[4:]),
        "collage, by the whole and its quarters": judge(collages),
        "collage, an answer for each of these five, of which one is right": judge(collages, each=True),
        "collage, five answers for the whole, of which one is right": judge(collages[4:], first=5),
        "clean, an answer for each of these five, of which one is right": judge([clean, *quarters], each=True),
        "clean, five answers for the whole, of which one is right": judge([clean], first=5),
        "no collage, but the photo at half of its sides": judge([embedded(pool.count, Shrunk())]),
        "other colours": judge([recoloured]),
        "clean, of the same style in any colour": blind([clean], gallery=gallery),
        "clean, of the same style in any colour, by grey copies": blind([grey[: pool.count]], gallery=grey),
        "other colours, of the same style in any colour": blind([recoloured], gallery=gallery),
        "other colours, of the same style in any colour, by grey copies": blind(
            [embedded(pool.count, Grey(of=Recolour()))], gallery=grey
        ),
    }


def colourless_groups(photos: Photos) -> np.ndarray:
    """i64[n], the styles of photos but for the words of colours in their names."""
    columns = photos.items.columns
    return without_colours(columns["productDisplayName"], columns["baseColour"])


def measure(name: str, sides: tuple[str, ...], difficulty: str = "", *, kinds: tuple[str, ...] = FAILURE_KINDS) -> None:
    """What a complete run loses under each disturbance, unless it is known: on its own data, or on a difficulty's."""
    suffix = f"-{difficulty}" if difficulty else ""
    record = ROOT / "results" / "robustness" / f"{name}{suffix}.json"
    run = Run(ROOT / "runs" / name)
    curves = json.loads(record.read_text())["curves"] if record.exists() else []
    known = {(curve["side"], curve["disturbance"]) for curve in curves}
    if run.results.exists() and not known.issuperset(itertools.product(sides, kinds)):
        other = (f"experiments/difficulties/{difficulty}.py",) if difficulty else ()
        options = ("--alone", "--items", str(QUERIES), "--sides", *sides, "--kinds", *kinds)
        ssljax("robustness", f"runs/{name}", *other, *options)
        record.write_bytes(run.robustness(difficulty).read_bytes())


def main() -> None:
    """Trains, measures, and writes the records."""
    if "--judge" not in sys.argv[1:]:
        ssljax("sweep", "experiments/claims/robust.py")
    _, runs = load_experiments(ROOT / "experiments/claims/robust.py")
    imported = runs[0].name
    for experiment in runs:
        measure(experiment.name, SIDES if experiment.name == imported else ("query",))
    for difficulty in DIFFICULTIES:
        for name in COMPARED_RUNS:
            measure(name, ("query",), difficulty)
    table = {imported: remedies(imported)}
    for way, figures in table[imported].items():
        print(f"{way:65s} {figures}")
    write_json(ROOT / "results" / "benchmark_remedies.json", {"environment": environment(), "table": table})


if __name__ == "__main__":
    main()
