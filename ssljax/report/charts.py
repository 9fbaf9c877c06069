"""The report's charts as inline SVG, without a plotting library; colours are classes of the page's style sheet."""

import html
import itertools
import json
import math

import numpy as np

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 34
MINUS = "\N{MINUS SIGN}"
MAX_POINTS = 300  # of a curve; more steps than that are averaged, so that a long run's page stays small


def lines(
    title: str,
    series: dict[str, list],
    last: float,
    reference: tuple[str, float] | None = None,
    *,
    x_label: str = "step",
    seen: tuple[float, ...] = (),
) -> str:
    """A panel of curves over 0 to `last`: name -> [(step, value), ...].

    Args:
      title: of the panel.
      series: name -> points.
      last: the end of the x-axis.
      reference: a dashed level (name, value).
      x_label: what a step is.
      seen: values that the y-axis covers too, so that panels can be compared.
    """
    series = {name: _thinned(points) for name, points in series.items()}
    levels = [*np.concatenate(list(series.values()))[:, 1], *([reference[1]] if reference else []), *seen]
    x, y = _Axis(0, last, across=True), _Axis(min(levels), max(levels))
    marks = []
    for i, points in enumerate(series.values()):
        pixels = [(round(x(step), 1), round(y(value), 1)) for step, value in points]
        marks.append(f"<polyline class='line s{i}' points='{' '.join(f'{px},{py}' for px, py in pixels)}'/>")
        if len(pixels) <= 20:
            marks.extend(f"<circle class='dot s{i}' cx={px} cy={py} r=3 />" for px, py in pixels)
    legend = "".join(f"<span class='key s{i}'>{html.escape(name)}</span>" for i, name in enumerate(series))
    legend = legend if len(series) > 1 else ""
    if reference:
        level = y(reference[1])
        marks.append(f"<path class=reference d='M{LEFT} {level:.1f}H{WIDTH - RIGHT}'/>")
        legend += f"<span class='key reference'>{html.escape(reference[0])} {number(reference[1])}</span>"
    values = {
        name: [[round(x(s), 1), round(y(v), 1), number(s), number(v)] for s, v in p] for name, p in series.items()
    }
    return _panel(title, legend, x, y, x_label, "".join(marks), values)


def histogram(title: str, counts: dict[str, np.ndarray], edges: np.ndarray, x_label: str) -> str:
    """A panel of overlaid histograms: name -> the share of each bin, f[len(edges) - 1]."""
    x, y = _Axis(edges[0], edges[-1], across=True), _Axis(0.0, max(c.max() for c in counts.values()))
    marks = []
    for i, share in enumerate(counts.values()):
        tops = "".join(f"V{y(v):.1f}H{x(right):.1f}" for v, right in zip(share, edges[1:], strict=True))
        marks.append(f"<path class='area s{i}' d='M{x(edges[0]):.1f} {y(0.0):.1f}{tops}V{y(0.0):.1f}Z'/>")
    for b, (left, right) in enumerate(itertools.pairwise(edges)):
        shares = ", ".join(f"{html.escape(name)} {share[b]:.1%}" for name, share in counts.items())
        box = f"x={x(left):.1f} width={x(right) - x(left):.1f} y={TOP} height={HEIGHT - TOP - BOTTOM}"
        marks.append(f"<rect class=bin {box}><title>{left:.2f} to {right:.2f}: {shares}</title></rect>")
    legend = "".join(f"<span class='key s{i}'>{html.escape(name)}</span>" for i, name in enumerate(counts))
    return _panel(title, legend, x, y, x_label, "".join(marks), {}, share_axis=True)


def number(value: float) -> str:
    """A number as short as it can be read: 1200 -> 1,200, 0.00012 -> 0.00012, 0.61234 -> 0.612."""
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}".replace("-", MINUS)
    return (f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}").replace("-", MINUS)


class _Axis:
    """A linear map from [low, high] to the panel's pixels, widened to round ticks unless across; `ticks` to labels."""

    def __init__(self, low: float, high: float, across: bool = False):
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
        style = f",.{decimals}f" if decimals <= 5 else ".3g"
        self.ticks = {t * step: format(t * step, style).replace("-", MINUS) for t in range(first, last + 1)}
        start, end = (LEFT, WIDTH - RIGHT) if across else (HEIGHT - BOTTOM, TOP)
        self.slope = (end - start) / (high - low)
        self.offset = start - low * self.slope

    def __call__(self, value: float) -> float:
        return float(self.offset + self.slope * value)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)


def _thinned(points: list[tuple[float, float]]) -> np.ndarray:
    """f64[m, 2] of at most MAX_POINTS: the means of equal stretches of the curve."""
    points = np.asarray(sorted(points), np.float64)
    if len(points) <= MAX_POINTS:
        return points
    stretch = math.ceil(len(points) / MAX_POINTS)
    return np.stack([points[i : i + stretch].mean(axis=0) for i in range(0, len(points), stretch)])


def _panel(
    title: str, legend: str, x: _Axis, y: _Axis, x_label: str, marks: str, values: dict, share_axis: bool = False
) -> str:
    grid = "".join(
        f"<path class=grid d='M{LEFT} {y(t):.1f}H{WIDTH - RIGHT}'/>"
        f"<text x={LEFT - 6} y={y(t) + 3.5:.1f} text-anchor=end>{f'{t:.0%}' if share_axis else label}</text>"
        for t, label in y.ticks.items()
    )
    grid += "".join(
        f"<text x={x(t):.1f} y={HEIGHT - BOTTOM + 15} text-anchor=middle>{label}</text>" for t, label in x.ticks.items()
    )
    grid += f"<text class=axis x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 3} text-anchor=middle>{x_label}</text>"
    data = (
        f" data-x='{x_label}' data-values='{html.escape(json.dumps(values, separators=(',', ':')))}'" if values else ""
    )
    title = html.escape(title)
    return (
        f"<figure class=panel><figcaption><h3>{title}</h3><span class=keys>{legend}</span></figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{title}'{data}>{grid}{marks}</svg></figure>"
    )
