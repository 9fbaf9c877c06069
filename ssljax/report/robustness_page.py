"""The page about disturbed photos: areas beside raw pixels, curves against strength, and queries that were lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ssljax.evaluation.disturbed import Example
from ssljax.evaluation.robustness import Curve, areas
from ssljax.report import charts
from ssljax.report.page import commit, table, write_page
from ssljax.report.photos import THUMBNAIL

TITLES = {"query": "queries disturbed", "gallery": "gallery disturbed", "both": "both disturbed"}
LARGEST_AREA = 2.0  # above 1 by chance, if a figure is small


def write_robustness(
    path: Path, results: dict[str, Any], curves: Sequence[Curve], examples: dict[str, list[Example]]
) -> None:
    """Writes the page.

    Args:
      path: the file.
      results: what robustness.json holds.
      curves: those of the results.
      examples: disturbance -> lost queries, of the results' network, at the suite's medium strength.
    """
    sides, figures = (list(dict.fromkeys(getattr(c, field) for c in curves)) for field in ("side", "figure"))
    views = [
        (
            f"{side} {figure}",
            table(areas(curves, side, figure), corner="disturbance", most=LARGEST_AREA, gains=False),
            _panels([c for c in curves if (c.side, c.figure) == (side, figure)], results["suite"]["strengths"]),
        )
        for side in sides
        for figure in figures
    ]
    write_page(
        path,
        "robustness.html",
        title=f"{results['name']}, disturbed",
        facts=_facts(results),
        command=results["command"],
        choices={"side": {s: TITLES[s] for s in sides}, "figure": {figure: figure.upper() for figure in figures}},
        views=views,
        examples=examples,
        results=results,
        longest=THUMBNAIL,
    )


def _facts(results: dict[str, Any]) -> dict[str, str]:
    queries, positives = results["queries"], results["queries_in_all"]
    return {
        "data": results["data"],
        "queries": f"{queries:,}" + f" of {positives:,}" * (queries < positives) + f" in {results['split']}",
        "gallery": f"{results['items']:,} photos, {results['gallery']}",
        "relevant": results["relevant"],
        "without": results["without"],
        "seed": str(results["suite"]["seed"]),
        "commit": commit(results["environment"]),
    }


def _panels(curves: Sequence[Curve], strengths: Sequence[float]) -> list[Markup]:
    """A panel for each disturbance, over the same range of values, with a line for each embedding."""
    seen = (0.0, *(value for c in curves for value in (c.clean, *c.values)))
    panels: dict[str, dict[str, list]] = {}
    for c in curves:
        panels.setdefault(c.disturbance, {})[c.way] = list(zip((0.0, *strengths), (c.clean, *c.values), strict=True))
    ends = min(seen), max(seen)
    return [charts.lines(name, series, 1.0, x_label="strength", seen=ends) for name, series in panels.items()]
