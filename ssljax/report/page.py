"""Puts the page of a run together: reads the run folder, and writes the parts."""

import html
import json
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data.atomic_files import read_text, write_text
from ssljax.evaluation.embeddings import BASELINE, Embeddings
from ssljax.evaluation.pair_similarities import pair_similarities
from ssljax.evaluation.ranking import Ranking
from ssljax.report import charts
from ssljax.report.attention import Attention, attention_maps
from ssljax.report.failures import failures
from ssljax.report.gallery import gallery
from ssljax.report.listings import listings
from ssljax.report.map import embedding_map
from ssljax.report.shell import frame, is_number, section, table
from ssljax.report.thumbnails import Thumbnails
from ssljax.types import UserError

MOST = 8
FIRST_PANELS = ("loss", "cosine", "embedding_std", "learning_rate", "gradient_norm")
REFERENCES = {"embedding_std": ("spread evenly", 1.0)}
CURVES = "Point at a curve to read its values."
BEST = "In bold the best of a row; the small figure is the difference to raw pixels in points."
NEIGHBOURS = (
    "Each query and its ten nearest in this split, the query itself left out; below a photo its cosine similarity."
)
FAILURES = (
    "Queries that find a wrong photo first, by category, the category with most of them first; a share is of its "
    "queries that find a right one first, with its 95 % interval. Each line: the query, what it finds first with its "
    "cosine similarity, and the first right one. The most confident mistakes come first: look for labels that are "
    "wrong."
)
LISTINGS = (
    "Each line of photos is {relevant}; links have the colour of the cosine distance, arcs within a line, straight "
    "ones from line to line. A fifth of all pairs has each colour, if half of them are within lines: where the "
    "embedding tells lines apart, arcs are blue and straight links orange. Point at a link to read it."
)
ATTENTION = (
    "Where [CLS] looks in the last block, for the mean of the heads and each head: the larger the weight of a patch, "
    "the thinner the haze, and none at the largest. The number is how many times the mean that one is: at 1 [CLS] "
    "looks at all alike. Photos are as the student sees them."
)
MAP = (
    "Photos of the split laid out by t-SNE: near points are similar. Point at one to see it; a colour picks out its "
    "kind."
)


def write_report(
    run: Path,
    embeddings: Embeddings,
    groups: np.ndarray,
    photo: Callable[[int], np.ndarray],
    *,
    captions: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    relevant: str = "of the same listing",
    searched: tuple[Embeddings, np.ndarray] | None = None,
    attention: Attention | None = None,
    most: int = MOST,
    results: dict[str, Any] | None = None,
) -> Path:
    """Writes `run/report.html` and returns its path.

    Args:
      run: the run folder; of it `metrics.jsonl` and `environment.json` are read where they exist.
      embeddings: n items, of the test split as a rule; compared by cosine.
      groups: i32[n]; items of one group are relevant to each other, -1 is relevant to none.
      photo: row -> u8[h, w, 3], with the original's aspect ratio if the page is to show it.
      captions: str[n], shown with a photo; the ids if None.
      kinds: str[n], what colours the map (the eight most frequent ones) and groups failures; all one if None.
      relevant: how the page says what a hit is.
      searched: where failures are looked for, and its groups, if it is another split: m items, whose photos and
        captions are those of rows n to n + m - 1.
      attention: what a vision transformer looks at, if the encoder is one.
      most: failures shown of each category.
      results: the figures; by default those of the run folder's `results.json`, if it exists.
    """
    run, groups = Path(run), np.asarray(groups)
    within = Ranking(embeddings.vectors, groups, embeddings.vectors, groups, np.arange(len(embeddings)))
    vectors, _ = within.units
    captions = [str(c) for c in (embeddings.ids if captions is None else captions)]
    results = _read_json(run / "results.json") if results is None else results
    environment = _read_json(run / "environment.json")
    ranking = within if searched is None else Ranking(embeddings.vectors, groups, searched[0].vectors, searched[1])
    rows = results.get("table") or {}
    said = [html.escape(sentence) for sentence in results.get("verdict") or ()]
    name = str(results.get("name") or run.resolve().name)
    series = read_metrics(run / "metrics.jsonl")
    sections = [
        section("results", "Results", table(rows), " ".join([*said, BEST])),
        section("curves", "Training", _curves(series, rows.get(BASELINE) or {}), CURVES),
        section("gallery", "Nearest neighbours", gallery(within, photo, captions, relevant), NEIGHBOURS),
        section(
            "failures", "Failures", _failures(ranking, kinds, Thumbnails(photo, captions), relevant, most), FAILURES
        ),
        section("distances", "Distances", _distances(vectors, groups, relevant), style="wide"),
        section(
            "listings",
            "Distances between photos",
            listings(vectors, groups, photo, captions, relevant),
            LISTINGS.format(relevant=html.escape(relevant)),
        ),
        section("map", "Map of the embeddings", embedding_map(vectors, photo, captions, kinds), MAP),
    ]
    if attention is not None:
        sections.append(section("attention", "Attention", attention_maps(attention), ATTENTION))
    command = f"ssljax search {shlex.quote(str(run))} PHOTO"
    path = run / "report.html"
    write_text(path, frame(name, _facts(results, environment, vectors.shape), command, sections))
    return path


# ---- the run folder


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """`metrics.jsonl` as name -> [(step, value), ...], without what is not finite and without counts (integers)."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in read_text(path).splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
            step = float(record.pop("step"))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            continue  # a killed run may have left half a line
        for key, value in record.items():
            if key != "epoch" and isinstance(value, float) and math.isfinite(value):
                series.setdefault(key, []).append((step, value))
    return series


def _read_json(path: Path) -> dict:
    return json.loads(read_text(path)) if path.exists() else {}


# ---- facts and figures


def _facts(results: dict, environment: dict, shape: tuple[int, ...]) -> dict[str, str | None]:
    devices, cores = environment.get("devices") or 1, environment.get("cpu_cores")
    device = f"{devices} x " * (devices > 1) + str(environment.get("device") or "")
    speed, commit = results.get("images_per_second"), str(environment.get("commit") or "").partition("+")
    return {
        "device": device + f", {cores} cores" * bool(device and cores),
        "steps": f"{results['steps']:,}" if is_number(results.get("steps")) else None,
        "duration": _duration(results["seconds"]) if is_number(results.get("seconds")) else None,
        "speed": f"{speed:,.0f} images/s" if is_number(speed) and speed else None,
        "precision": _precision(results.get("config") or {}),
        "embedded": f"{shape[0]:,} photos in {shape[1]:,} dimensions",
        "commit": commit[0][:8] + commit[1] + commit[2],
    }


def _precision(config: dict) -> str | None:
    """Of training, of evaluation if it is another, and of the encoder's activations; None if the run does not say."""
    trained, evaluated = config.get("precision"), config.get("evaluation_precision")
    dtype = ((config.get("method") or {}).get("encoder") or {}).get("dtype")
    if trained is None:
        return None
    words = [trained if evaluated in (None, trained) else f"{trained} in training, {evaluated} in evaluation"]
    return ", ".join(words + [f"{dtype} activations"] * (dtype not in (None, "float32")))


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h} h {m} min" if h else f"{m} min {s} s" if m else f"{s} s"


def _curves(series: dict[str, list[tuple[float, float]]], baseline: dict[str, float]) -> str:
    """Small multiples over one range of steps: a panel a metric, but positive and negative cosine share theirs."""
    panels: dict[str, dict[str, list]] = {}
    for key, points in series.items():
        panels.setdefault("cosine" if key.endswith("_cosine") else key, {})[key.removesuffix("_cosine")] = points
    last = max((step for points in series.values() for step, _ in points), default=0)
    figures = []
    for title in sorted(panels, key=_panel_order):
        level = baseline.get(title)
        reference = (BASELINE, level) if is_number(level) else REFERENCES.get(title)
        figures.append(charts.lines(title, panels[title], last, reference))
    return f"<div class=panels>{''.join(figures)}</div>" if figures else "<p class=note>No metrics logged.</p>"


def _panel_order(title: str) -> int:
    """Training's main figures, then those of evaluations (they have a "/"), then the rest."""
    return FIRST_PANELS.index(title) if title in FIRST_PANELS else len(FIRST_PANELS) + ("/" not in title)


# ---- failures and distances


def _failures(ranking: Ranking, kinds: Sequence[str] | None, thumbnails: Thumbnails, relevant: str, most: int) -> str:
    try:
        finds = ranking.first()
    except UserError:
        return "<p class=note>No two items are relevant to each other, so there is nothing to look for.</p>"
    of_finds = ["all" if kinds is None else kinds[row] for row in finds.queries]
    return failures(ranking, finds, of_finds, thumbnails, relevant=relevant, most=most)


def _distances(vectors: np.ndarray, groups: np.ndarray, relevant: str) -> str:
    try:
        pairs = pair_similarities(vectors, groups)
    except UserError:
        return "<p class=note>There are no pairs within and between groups to compare.</p>"
    within, between = 1 - pairs.within, 1 - pairs.between
    edges = np.linspace(0, max(within.max(), between.max(), 1e-3), 51)
    shares = {
        f"pairs {name}": np.histogram(distances, edges)[0] / len(distances)
        for name, distances in ((relevant, within), ("of others", between))
    }
    note = (
        f"AUC <b>{pairs.auc:.3f}</b>: how often a pair {html.escape(relevant)} is nearer than a pair of others "
        f"({len(within):,} random pairs of each). 0.5 is chance, 1 is apart."
    )
    return f"<p class=note>{note}</p>" + charts.histogram("Cosine distance", shares, edges, "1 - cosine similarity")
