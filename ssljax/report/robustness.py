"""The page about disturbed photos: areas beside raw pixels, curves against strength, and queries that were lost."""

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data.atomic_files import write_text
from ssljax.evaluation.robustness import Curve, areas
from ssljax.report import charts
from ssljax.report.failures import key
from ssljax.report.jpeg import THUMBNAIL, img
from ssljax.report.shell import frame, section, table

TITLES = {"query": "queries disturbed", "gallery": "gallery disturbed", "both": "both disturbed"}
LARGEST_AREA = 2.0  # above 1 by chance, if a figure is small
HOLDS = (
    "Each curve begins at the clean photos and ends at disturbances as strong as they are seen in shops. The table has "
    "the area under it relative to clean, so that 100 % is not to be disturbed at all: look at both, as who finds "
    "little has little to lose. Point at a curve to read its values."
)
LOST = (
    "Queries that found a relevant photo first when clean, and find another when disturbed by {strength}: those from "
    "which it fell furthest, by the {network}'s embedding. Photos are as they were embedded, but for their shape."
)


@dataclass(frozen=True, eq=False)
class Example:
    """A query that found a relevant item when it was clean, and does not when it is disturbed; photos u8[h, w, 3]."""

    clean: np.ndarray
    disturbed: np.ndarray
    wrong: np.ndarray
    """what it finds first now"""
    right: np.ndarray
    """what it found first before"""
    captions: tuple[str, str, str]
    """of the query, the wrong and the right one"""
    rank: int
    """of the right one now"""


def write_robustness(
    path: Path, results: dict[str, Any], curves: Sequence[Curve], examples: dict[str, list[Example]]
) -> None:
    """Writes the page of what robustness.json holds.

    Args:
      path: the file.
      results: what robustness.json holds.
      curves: those of the results.
      examples: disturbance -> lost queries, of the results' network, at the suite's medium strength.
    """
    suite, name = results["suite"], f"{results['name']}, disturbed"
    sections = [section("curves", "What holds", _choices(curves, suite["strengths"]), HOLDS)]
    if examples:
        note = LOST.format(strength=charts.number(results["medium"]), network=results["network"])
        sections.append(section("lost", "What is lost", _lost(examples, results["relevant"]), note))
    write_text(path, frame(name, _facts(results), results["command"], sections))


def _facts(results: dict[str, Any]) -> dict[str, str]:
    queries, positives, environment = results["queries"], results["queries_in_all"], results["environment"]
    commit = str(environment.get("commit") or "").partition("+")
    return {
        "data": results["data"],
        "queries": f"{queries:,}" + f" of {positives:,}" * (queries < positives) + f" in {results['split']}",
        "gallery": f"{results['items']:,} photos, {results['gallery']}",
        "relevant": results["relevant"],
        "seed": str(results["suite"]["seed"]),
        "commit": commit[0][:8] + commit[1] + commit[2],
    }


def _choices(curves: Sequence[Curve], strengths: Sequence[float]) -> str:
    """Buttons, and for each side and figure what they show: a table of areas, and a panel a disturbance."""
    sides, figures = (list(dict.fromkeys(getattr(c, field) for c in curves)) for field in ("side", "figure"))
    views = []
    for side, figure in itertools.product(sides, figures):
        shown = [c for c in curves if (c.side, c.figure) == (side, figure)]
        body = table(areas(curves, side, figure), corner="disturbance", most=LARGEST_AREA, gains=False) + _panels(
            shown, strengths
        )
        hidden = " hidden" * bool(views)
        views.append(f"<div data-choice='{side} {figure}'{hidden}>{body}</div>")
    buttons = _buttons("side", {side: TITLES[side] for side in sides})
    buttons += _buttons("figure", {figure: figure.upper() for figure in figures})
    return f"<div class=choose>{buttons}</div>{''.join(views)}"


def _buttons(name: str, titles: dict[str, str]) -> str:
    return "".join(
        f"<label><input type=radio name={name} value={value}{' checked' * (k == 0)}><span>{title}</span></label>"
        for k, (value, title) in enumerate(titles.items())
    ).join(("<fieldset>", "</fieldset>"))


def _panels(curves: Sequence[Curve], strengths: Sequence[float]) -> str:
    """Small multiples over one range of values: a panel a disturbance, a line a way to embed."""
    seen = (0.0, *(value for c in curves for value in (c.clean, *c.values)))
    panels = []
    for name in dict.fromkeys(c.disturbance for c in curves):
        series = {
            c.way: list(zip((0.0, *strengths), (c.clean, *c.values), strict=True))
            for c in curves
            if c.disturbance == name
        }
        panels.append(charts.lines(name, series, 1.0, x_label="strength", seen=(min(seen), max(seen))))
    return f"<div class=panels>{''.join(panels)}</div>"


def _lost(examples: dict[str, list[Example]], relevant: str) -> str:
    parts = []
    for name, found in examples.items():
        cards = "".join(map(_card, found)) or "<p class=note>None.</p>"
        parts.append(f"<h3>{html.escape(name)}</h3><div class=lost>{cards}</div>")
    return key(relevant) + "".join(parts)


def _card(example: Example) -> str:
    query, wrong, right = example.captions
    photos = (
        ("", example.clean, query, "clean", ""),
        ("", example.disturbed, query, "disturbed", ""),
        ("miss", example.wrong, wrong, "found first now", "<b>&times;</b>"),
        ("hit", example.right, right, f"found clean, now at rank {example.rank:,}", "<b>✓</b>"),
    )
    items = (
        f"<li class='{kind}'>{img(photo, caption, THUMBNAIL)}{mark}<small>{below}</small></li>"
        for kind, photo, caption, below, mark in photos
    )
    return f"<figure class=panel><ol>{''.join(items)}</ol></figure>"
