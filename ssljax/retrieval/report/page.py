"""Puts the page together: reads the run folder, writes the parts, and fills them into page.html.template."""

import html
import json
import math
import shlex
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ssljax.files import write_text
from ssljax.retrieval.embeddings import Embeddings
from ssljax.retrieval.pairs import pair_similarities
from ssljax.retrieval.report import charts
from ssljax.retrieval.report.gallery import gallery
from ssljax.retrieval.report.map import embedding_map
from ssljax.retrieval.vectors import normalise
from ssljax.types import UserError

BASELINE = "raw pixels"
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
) -> Path:
    """Writes `run/report.html` and returns its path.

    Args:
      run: the run folder; of it `results.json`, `metrics.jsonl` and `environment.json` are read where they exist.
      embeddings: n items, of the test split as a rule; compared by cosine.
      groups: i32[n]; items of one group are relevant to each other, -1 is relevant to none.
      photo: row -> u8[h, w, 3], with the original's aspect ratio if the page is to show it.
      captions: str[n], shown with a photo; the ids if None.
      kinds: str[n], what colours the map (the eight most frequent ones); one colour if None.
      relevant: how the page says what a hit is.
    """
    run, groups = Path(run), np.asarray(groups)
    vectors = normalise(embeddings.vectors)
    captions = [str(c) for c in (embeddings.ids if captions is None else captions)]
    results, environment = _read_json(run / "results.json"), _read_json(run / "environment.json")
    table = results.get("table") or {}
    name = str(results.get("name") or run.resolve().name)
    parts = {
        "name": html.escape(name),
        "facts": _facts(results, environment, vectors.shape),
        "command": html.escape(f"ssljax search {shlex.quote(str(run))} PHOTO"),
        "results": _results(table),
        "curves": _curves(read_metrics(run / "metrics.jsonl"), table.get(BASELINE) or {}),
        "gallery": gallery(vectors, groups, photo, captions, relevant),
        "distances": _distances(vectors, groups, relevant),
        "map": embedding_map(vectors, photo, captions, kinds),
    }
    template = string.Template(Path(__file__).with_name("page.html.template").read_text(encoding="utf-8"))
    path = run / "report.html"
    write_text(path, template.substitute(parts))
    return path


# ---- the run folder


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """`metrics.jsonl` as name -> [(step, value), ...], without what is not finite and without counts (integers)."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
            step = record.pop("step")
        except (ValueError, LookupError, TypeError, AttributeError):  # a killed run may have left half a line
            continue
        for key, value in record.items():
            if key != "epoch" and isinstance(value, float) and math.isfinite(value):
                series.setdefault(key, []).append((step, value))
    return series


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _is_number(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# ---- facts and figures


def _facts(results: dict, environment: dict, shape: tuple[int, ...]) -> str:
    devices, cores = environment.get("devices") or 1, environment.get("cpu_cores")
    device = f"{devices} x " * (devices > 1) + str(environment.get("device") or "")
    speed, commit = results.get("images_per_second"), str(environment.get("commit") or "").partition("+")
    facts = {
        "device": device + f", {cores} cores" * bool(device and cores),
        "steps": f"{results['steps']:,}" if _is_number(results.get("steps")) else None,
        "duration": _duration(results["seconds"]) if _is_number(results.get("seconds")) else None,
        "speed": f"{speed:,.0f} images/s" if _is_number(speed) and speed else None,
        "embedded": f"{shape[0]:,} photos in {shape[1]:,} dimensions",
        "commit": commit[0][:8] + commit[1] + commit[2],
    }
    return "".join(f"<div><dt>{name}<dd>{html.escape(str(value))}</div>" for name, value in facts.items() if value)


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    h, m = divmod(minutes, 60)
    return f"{h} h {m} min" if h else f"{m} min {s} s" if m else f"{s} s"


def _results(table: dict[str, dict[str, float]]) -> str:
    """The table: a row a metric, a column a model, the baseline first."""
    if not any(table.values()):
        return "<p class=note>No results yet.</p>"
    models = sorted(table, key=lambda model: model != BASELINE)
    metrics = list(dict.fromkeys(metric for model in table for metric in table[model]))
    head = "".join(f"<th scope=col>{html.escape(m)}</th>" for m in models)
    rows = "".join(_row(metric, [table[m].get(metric) for m in models], models[0] == BASELINE) for metric in metrics)
    return f"<div class=scroll><table><thead><tr><th scope=col>metric</th>{head}</tr></thead>{rows}</table></div>"


def _row(metric: str, values: list, has_baseline: bool) -> str:
    numbers = [value for value in values if _is_number(value)]
    # a share is compared; anything else, such as a count of queries, is only shown
    shares = all(isinstance(value, float) and 0 <= value <= 1 for value in numbers)
    cells = []
    for column, value in enumerate(values):
        if not _is_number(value):
            cells.append("<td>&ndash;</td>")
        elif not shares:
            cells.append(f"<td class=count>{charts.number(value)}</td>")
        else:
            base = values[0] if has_baseline and column and _is_number(values[0]) else None
            cells.append(_share(value, base, best=value == max(numbers)))
    split, _, short = metric.rpartition("/")
    label = f"<small>{html.escape(split)}</small> {html.escape(short)}"
    return f"<tr><th scope=row>{label}</th>{''.join(cells)}</tr>"


def _share(value: float, base: float | None, best: bool) -> str:
    text = f"{100 * value:.1f}<small> %</small>"
    gain = ""
    if base is not None:
        points = f"{100 * (value - base):+.1f}".replace("-", charts.MINUS)
        gain = f"<span class={'up' if value >= base else 'down'}>{points}</span>"
    return f"<td>{gain}{f'<b>{text}</b>' if best else text}<i class=bar style='--v:{value:.4f}'></i></td>"


def _curves(series: dict[str, list[tuple[float, float]]], baseline: dict[str, float]) -> str:
    """Small multiples over one range of steps: a panel a metric, but positive and negative cosine share theirs."""
    panels: dict[str, dict[str, list]] = {}
    for key, points in series.items():
        panels.setdefault("cosine" if key.endswith("_cosine") else key, {})[key.removesuffix("_cosine")] = points
    last = max((step for points in series.values() for step, _ in points), default=0)
    figures = []
    for title in sorted(panels, key=_panel_order):
        level = baseline.get(title)
        reference = (BASELINE, level) if _is_number(level) else REFERENCES.get(title)
        figures.append(charts.lines(title, panels[title], last, reference))
    return f"<div class=panels>{''.join(figures)}</div>" if figures else "<p class=note>No metrics logged.</p>"


def _panel_order(title: str) -> int:
    """Training's main figures, then those of evaluations (they have a "/"), then the rest."""
    return FIRST_PANELS.index(title) if title in FIRST_PANELS else len(FIRST_PANELS) + ("/" not in title)


# ---- distances


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
