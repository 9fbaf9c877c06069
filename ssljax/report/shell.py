"""What the pages share: the frame of page.html.template, its sections, and a table beside the baseline."""

import html
import math
import string
from pathlib import Path
from typing import Any

from ssljax.data.text import valid
from ssljax.evaluation.embeddings import BASELINE
from ssljax.report import charts


def frame(name: str, facts: dict[str, Any], command: str, sections: list[str]) -> str:
    """A whole page: its parts in the frame.

    Args:
      name: its title.
      facts: what is said in a line below, as text; blank ones are left out.
      command: of the command line, to copy.
      sections: HTML, as `section` makes it.
    """
    template = string.Template(Path(__file__).with_name("page.html.template").read_text(encoding="utf-8"))
    said = {key: html.escape(str(value)) for key, value in facts.items() if value}
    page = template.substitute(
        name=html.escape(name),
        facts="".join(f"<div><dt>{key}<dd>{value}</div>" for key, value in said.items()),
        command=html.escape(command),
        sections="\n".join(sections),
    )
    return valid(page)  # names of files may be no text


def section(name: str, title: str, body: str, note: str = "", style: str = "") -> str:
    """A part of a page under a heading; `body` and `note` are HTML."""
    style = f" class={style}" if style else ""
    note = f"<p class=note>{note}</p>\n" if note else ""
    return f"<section id={name}{style}><h2>{title}</h2>\n{note}{body}</section>"


def is_number(value: Any) -> bool:
    """Whether it can be shown as one: finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def table(
    values: dict[str, dict[str, float | None]], corner: str = "metric", most: float = 1.0, gains: bool = True
) -> str:
    """A row a metric, a column a way to embed, the baseline first.

    Args:
      values: way to embed -> metric -> value; a metric called "<split>/<name>" has its split in small print.
      corner: the heading of the metrics.
      most: numbers from 0 to this are shares, others are counts.
      gains: say beside a share what it is more than the baseline's.
    """
    if not any(values.values()):
        return "<p class=note>No results yet.</p>"
    models = sorted(values, key=lambda model: model != BASELINE)
    metrics = list(dict.fromkeys(metric for model in values for metric in values[model]))
    head = "".join(f"<th scope=col>{html.escape(m)}</th>" for m in models)
    cells = {metric: [values[m].get(metric) for m in models] for metric in metrics}
    rows = "".join(_row(metric, row, gains and models[0] == BASELINE, most) for metric, row in cells.items())
    return f"<div class=scroll><table><thead><tr><th scope=col>{corner}</th>{head}</tr></thead>{rows}</table></div>"


def _row(metric: str, values: list, has_baseline: bool, most: float) -> str:
    numbers = [value for value in values if is_number(value)]
    # a share is compared; anything else, such as a count of queries, is only shown
    shares = all(isinstance(value, float) and 0 <= value <= most for value in numbers)
    cells = []
    for column, value in enumerate(values):
        if not is_number(value):
            cells.append("<td>&ndash;</td>")
        elif not shares:
            cells.append(f"<td class=count>{charts.number(value)}</td>")
        else:
            base = values[0] if has_baseline and column and is_number(values[0]) else None
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
