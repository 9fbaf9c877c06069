"""`ssljax views`: draws what an experiment's views make of its photos, and its titles."""

import dataclasses
from pathlib import Path

from ssljax.cli.shared import Fields, Output, check_png, parse_with_experiment, write_png
from ssljax.report.contact_sheet import contact_sheet


@dataclasses.dataclass(frozen=True)
class ViewsOptions:
    """Draw photos of an experiment's train split, their random views, their titles with examples of how they are
    changed (if it reads titles), and its disturbances at growing strengths (all disturbances, if it has none). The
    experiment's fields are options: another --seed shows other photos."""

    experiment: Fields
    output: Output = Path("views.png")
    """The picture, a PNG file."""
    rows: int = 6
    """How many photos."""


def main(arguments: list[str]) -> None:
    """`ssljax views FILE [OPTIONS]`."""
    _, options = parse_with_experiment(ViewsOptions, "views", arguments)
    check_png(options.output)
    sheet = contact_sheet(options.experiment, options.rows)
    write_png(options.output, lambda file: sheet.save(file, "PNG"))
