"""The page of a run: reads the run folder, gathers the sections, and writes `report.html`."""

import json
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ssljax.data.atomic_files import read_text
from ssljax.evaluation.embeddings import BASELINE, Embeddings
from ssljax.evaluation.evaluators.separation import pair_similarities
from ssljax.evaluation.ranking import Ranking
from ssljax.report import charts
from ssljax.report.attention import Attention, attention_maps
from ssljax.report.embedding_map import embedding_map
from ssljax.report.failures import failures
from ssljax.report.listings import listings
from ssljax.report.neighbours import neighbours
from ssljax.report.page import commit, is_number, table, write_page
from ssljax.report.photos import Thumbnails
from ssljax.training.export import shown_table
from ssljax.types import UserError

MOST = 8
FIRST_PANELS = ("loss", "cosine", "embedding_std", "learning_rate", "gradient_norm")
REFERENCES = {"embedding_std": ("spread evenly", 1.0)}


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
      run: the run folder; its `metrics.jsonl` and `environment.json` are read if they exist.
      embeddings: n items, usually of the test split; compared by cosine.
      groups: i32[n]; items of one group are relevant to each other, -1 is relevant to none.
      photo: row -> u8[h, w, 3], in the shape that the page shows.
      captions: str[n], shown with a photo; None for the ids.
      kinds: str[n], categories that colour the map (the eight most frequent ones) and group failures; None for one.
      relevant: the page's words for a hit.
      searched: the gallery of the failures and its groups, if it is another split: m items, whose photos and captions
        are those of rows n to n + m - 1.
      attention: the attention maps of a vision transformer.
      most: how many failures of each category are shown.
      results: the figures; by default those of the run folder's `results.json`, if it exists.
    """
    run, groups = Path(run), np.asarray(groups)
    within = Ranking(embeddings.vectors, groups, embeddings.vectors, groups, np.arange(len(embeddings)))
    ranking = within if searched is None else Ranking(embeddings.vectors, groups, searched[0].vectors, searched[1])
    vectors, _ = within.units
    captions = [str(c) for c in (embeddings.ids if captions is None else captions)]
    results = _read_json(run / "results.json") if results is None else results
    rows = shown_table(results)
    path = run / "report.html"
    write_page(
        path,
        "run.html",
        title=str(results.get("name") or run.resolve().name),
        facts=_facts(results, _read_json(run / "environment.json"), vectors.shape),
        command=f"ssljax search {shlex.quote(str(run))} PHOTO",
        verdict=results.get("verdict") or (),
        table=table(rows),
        baseline=BASELINE if BASELINE in rows else "",
        curves=_curves(read_metrics(run / "metrics.jsonl"), rows.get(BASELINE) or {}),
        neighbours=neighbours(within, photo, captions, relevant),
        failures=_failures(ranking, kinds, Thumbnails(photo, captions), relevant, most),
        distances=_distances(vectors, groups, relevant),
        listings=listings(vectors, groups, photo, captions, relevant),
        map=embedding_map(vectors, photo, captions, kinds),
        attention=attention and attention_maps(attention),
        relevant=relevant,
    )
    return path


# ---- the run folder


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """`metrics.jsonl` as name -> [(step, value), ...], without counts (integers) and values that are not finite."""
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


# ---- facts and curves


def _facts(results: dict, environment: dict, shape: tuple[int, ...]) -> dict[str, str | None]:
    devices, cores = environment.get("devices") or 1, environment.get("cpu_cores")
    device = f"{devices} x " * (devices > 1) + str(environment.get("device") or "")
    speed = results.get("images_per_second")
    return {
        "device": device + f", {cores} cores" * bool(device and cores),
        "steps": f"{results['steps']:,}" if is_number(results.get("steps")) else None,
        "duration": _duration(results["seconds"]) if is_number(results.get("seconds")) else None,
        "speed": f"{speed:,.0f} images/s" if is_number(speed) and speed else None,
        "precision": _precision(results.get("config") or {}),
        "embedded": f"{shape[0]:,} photos in {shape[1]:,} dimensions",
        "commit": commit(environment),
    }


def _precision(config: dict) -> str | None:
    """That of training, of evaluation and of the encoder's activations if they differ; None if the run has none."""
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


def _curves(series: dict[str, list[tuple[float, float]]], baseline: dict[str, float]) -> list[Markup]:
    """A panel for each metric, over the same range of steps; positive and negative cosine share one."""
    panels: dict[str, dict[str, list]] = {}
    for key, points in series.items():
        panels.setdefault("cosine" if key.endswith("_cosine") else key, {})[key.removesuffix("_cosine")] = points
    last = max((step for points in series.values() for step, _ in points), default=0)
    levels = REFERENCES | {name: (BASELINE, level) for name, level in baseline.items() if is_number(level)}
    return [charts.lines(title, panels[title], last, levels.get(title)) for title in sorted(panels, key=_panel_order)]


def _panel_order(title: str) -> int:
    """The main figures of training, then those of evaluations, which have a "/", then the rest."""
    return FIRST_PANELS.index(title) if title in FIRST_PANELS else len(FIRST_PANELS) + ("/" not in title)


# ---- failures and distances


def _failures(
    ranking: Ranking, kinds: Sequence[str] | None, thumbnails: Thumbnails, relevant: str, most: int
) -> Markup | None:
    try:
        finds = ranking.first()
    except UserError:  # no two items are relevant to each other
        return None
    of_finds = ["all" if kinds is None else str(kinds[row]) for row in finds.queries]
    return failures(ranking, finds, of_finds, thumbnails, relevant=relevant, most=most)


def _distances(vectors: np.ndarray, groups: np.ndarray, relevant: str) -> dict[str, Any] | None:
    try:
        pairs = pair_similarities(vectors, groups)
    except UserError:  # no pairs within and between groups
        return None
    within, between = 1 - pairs.within, 1 - pairs.between
    edges = np.linspace(0, max(within.max(), between.max(), 1e-3), 51)
    shares = {
        f"pairs {name}": np.histogram(distances, edges)[0] / len(distances)
        for name, distances in ((relevant, within), ("of others", between))
    }
    chart = charts.histogram("Cosine distance", shares, edges, "1 - cosine similarity")
    return {"auc": pairs.auc, "pairs": len(within), "chart": chart}
