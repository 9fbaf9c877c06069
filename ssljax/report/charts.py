"""The charts of the pages as inline SVG, without a plotting library: positions here, marks in templates/chart.html."""

import itertools
import json
import math

import numpy as np
from markupsafe import Markup

from ssljax.report.page import MINUS, number, render

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 34
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM}
MAX_POINTS = 300  # of a curve: a longer one is averaged, so that the page of a long run stays small


def lines(
    title: str,
    series: dict[str, list],
    last: float,
    reference: tuple[str, float] | None = None,
    *,
    x_label: str = "step",
    seen: tuple[float, ...] = (),
) -> Markup:
    """A panel of curves over 0 to `last`.

    Args:
      title: of the panel.
      series: name -> [(step, value), ...].
      last: the end of the x-axis.
      reference: a dashed level (name, value).
      x_label: what a step is.
      seen: more values that the y-axis covers, so that panels can be compared.
    """
    thinned = {name: _thinned(points) for name, points in series.items()}
    levels = [*np.concatenate(list(thinned.values()))[:, 1], *([reference[1]] if reference else []), *seen]
    x, y = _Axis(0, last, across=True), _Axis(min(levels), max(levels))
    curves = {
        name: [(round(x(step), 1), round(y(value), 1), number(step), number(value)) for step, value in points]
        for name, points in thinned.items()
    }
    level = reference and {"name": reference[0], "value": number(reference[1]), "y": y(reference[1])}
    legend = list(series) if len(series) > 1 else []
    return _panel(title, legend, x, y, x_label, curves=curves, reference=level)


def histogram(title: str, counts: dict[str, np.ndarray], edges: np.ndarray, x_label: str) -> Markup:
    """A panel of overlaid histograms: name -> the share of each bin, f[len(edges) - 1]."""
    x, y = _Axis(edges[0], edges[-1], across=True), _Axis(0.0, max(c.max() for c in counts.values()), shares=True)
    areas = []
    for share in counts.values():
        tops = "".join(f"V{y(v):.1f}H{x(right):.1f}" for v, right in zip(share, edges[1:], strict=True))
        areas.append(f"M{x(edges[0]):.1f} {y(0.0):.1f}{tops}V{y(0.0):.1f}Z")
    bins = []
    for b, (left, right) in enumerate(itertools.pairwise(edges)):
        shares = ", ".join(f"{name} {share[b]:.1%}" for name, share in counts.items())
        bins.append((x(left), x(right) - x(left), f"{left:.2f} to {right:.2f}: {shares}"))
    return _panel(title, list(counts), x, y, x_label, areas=areas, bins=bins)


class _Axis:
    """A linear map from [low, high] to the panel's pixels, widened to round ticks unless across."""

    def __init__(self, low: float, high: float, across: bool = False, shares: bool = False):
        low, high = float(low), float(high)
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # one point, or a constant
            room = abs(low) * 0.1 or 1.0
            low, high = low - room, high + room
        step = _round_step((high - low) / 4)
        first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
        if across:
            first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        else:
            low, high = first * step, last * step
        decimals = max(0, -math.floor(math.log10(step)))
        style = ".0%" if shares else f",.{decimals}f" if decimals <= 5 else ".3g"
        start, end = (LEFT, WIDTH - RIGHT) if across else (HEIGHT - BOTTOM, TOP)
        self.slope = (end - start) / (high - low)
        self.offset = start - low * self.slope
        self.ticks = [(self(t * step), format(t * step, style).replace("-", MINUS)) for t in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        return float(self.offset + self.slope * value)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)


def _thinned(points: list[tuple[float, float]]) -> np.ndarray:
    """f64[m, 2] of at most MAX_POINTS: the means of equal stretches of the curve."""
    curve = np.asarray(sorted(points), np.float64)
    if len(curve) <= MAX_POINTS:
        return curve
    stretch = math.ceil(len(curve) / MAX_POINTS)
    return np.stack([curve[i : i + stretch].mean(axis=0) for i in range(0, len(curve), stretch)])


def _panel(title: str, legend: list[str], x: _Axis, y: _Axis, x_label: str, **marks) -> Markup:
    data = json.dumps(marks.get("curves", {}), separators=(",", ":"))  # what script.js shows at the pointer
    marks = {"curves": {}, "areas": [], "bins": [], "reference": None} | marks
    return render(
        "chart.html", title=title, legend=legend, x=x.ticks, y=y.ticks, x_label=x_label, data=data, **FRAME, **marks
    )
