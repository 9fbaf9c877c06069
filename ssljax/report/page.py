"""What all pages share: the templates in `templates/`, numbers as text, and the table beside the baseline.

Templates escape every text; only `Markup`, which they made themselves, goes into a page as it is.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ssljax.data.atomic_files import write_text
from ssljax.data.text import valid
from ssljax.evaluation.embeddings import BASELINE
from ssljax.report.photos import jpeg

MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """A number as short as it can be read: 1200 -> 1,200, 0.00012 -> 0.00012, 0.61234 -> 0.612."""
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}".replace("-", MINUS)
    return (f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}").replace("-", MINUS)


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign: 0.041 -> +4.1."""
    return f"{100 * share:+.1f}".replace("-", MINUS)


def cosine(value: float) -> str:
    """A cosine as a caption."""
    return f"{value:.2f}".replace("-", MINUS)


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("ssljax.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.filters |= {"number": number, "points": points, "cosine": cosine, "jpeg": jpeg}


def render(template: str, **values: Any) -> Markup:
    """A part of a page, from a file of `templates/`."""
    return Markup(TEMPLATES.get_template(template).render(values))


def write_page(path: Path, template: str, *, title: str, facts: dict[str, Any], command: str, **values: Any) -> None:
    """Writes a whole page.

    Args:
      path: the file.
      template: a file of `templates/` that extends page.html.
      title: the page's title.
      facts: name → value, shown below the title; empty values are left out.
      command: the command line to copy.
      **values: what the template shows.
    """
    page = render(template, title=title, facts=facts, command=command, **values)
    write_text(path, valid(page))  # file names may hold bytes that are not text


def commit(environment: dict[str, Any]) -> str:
    """The commit that a run was made from, shortened, with "+changes" if there were some."""
    name, plus, changes = str(environment.get("commit") or "").partition("+")
    return name[:8] + plus + changes


def is_number(value: Any) -> bool:
    """Whether `value` can be shown as a number: finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def table(
    values: Mapping[str, Mapping[str, float | None]], corner: str = "metric", most: float = 1.0, gains: bool = True
) -> Markup:
    """A table with a row for each metric and a column for each embedding, the baseline first.

    Args:
      values: embedding -> metric -> value; a metric named "<split>/<name>" has its split in small print.
      corner: the heading of the metrics.
      most: rows of numbers from 0 to this are shares, which are compared; others, such as counts, are only shown.
      gains: whether shares show their difference to the baseline.
    """
    models = sorted(values, key=lambda model: model != BASELINE)
    metrics = list(dict.fromkeys(metric for model in values for metric in values[model]))
    rows = []
    for metric in metrics:
        row = [value if is_number(value := values[model].get(metric)) else None for model in models]
        numbers = [value for value in row if value is not None]
        shares = all(isinstance(value, float) and 0 <= value <= most for value in numbers)
        split, _, name = metric.rpartition("/")
        rows.append({"split": split, "name": name, "values": row, "shares": shares, "best": max(numbers, default=None)})
    gains = gains and models[:1] == [BASELINE]
    return render("table.html", corner=corner, models=models, rows=rows, gains=gains)
