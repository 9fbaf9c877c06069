"""Commands for photos before a training: what views make of them, and copies without watermarks."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from ssljax.cli.shared import check_png, file_first, write_png
from ssljax.cli.unmark import PAGE
from ssljax.cli.unmark import unmark as unmark_catalogue
from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.report.contact_sheet import contact_sheet
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_result


@dataclasses.dataclass(frozen=True)
class ViewsOptions:
    """Draw photos of an experiment's train split, their random views, and its disturbances at growing strengths (all
    there are, if it has none). The experiment's fields are options: another --seed shows other photos."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("views.png")
    """The picture, a PNG file."""
    rows: int = 6
    """How many photos."""


@dataclasses.dataclass(frozen=True)
class UnmarkOptions:
    """Copy a catalogue and its photos to a new folder, with the marks removed that lie over all photos of a seller at
    one place. Look at FOLDER/before_after.html before you train on the copy."""

    catalogue: tyro.conf.Positional[Path]
    """The file (.csv, .json, .parquet, .xlsx, ...); its photos must lie under its folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder to be made."""
    by: str | None = None
    """The column of sellers; without it all photos are taken for those of one."""
    leave: tuple[str, ...] = ()
    """Sellers whose photos are copied as they are."""
    images: tuple[str, ...] = ("images/{id}.jpg",)
    """Where a row's photos are, as in the experiment's Catalogue."""
    id: str = "id"
    """The column of unique ids."""
    delimiter: str | None = None
    """What is between the values of a text file, such as ";" or "tab"; by default it is found."""
    encoding: str | None = None
    """Of a text file, such as cp1252; by default it is found."""


def views(arguments: list[str]) -> None:
    """`ssljax views FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(ViewsOptions, args=["--help"], default=ViewsOptions(Experiment(name="NAME")), prog="ssljax views FILE")
    source, rest = file_first("views", arguments)
    config, _ = load_experiments(source)
    options = tyro.cli(ViewsOptions, args=rest, default=ViewsOptions(config), prog=f"ssljax views {source}")
    check_png(options.output)
    sheet = contact_sheet(options.experiment, options.rows)
    write_png(options.output, lambda file: sheet.save(file, "PNG"))
    print_result(options.output)


def unmark(arguments: list[str]) -> None:
    """`ssljax unmark FILE -o FOLDER [OPTIONS]`."""
    options = tyro.cli(UnmarkOptions, args=arguments, prog="ssljax unmark")
    images = options.images[0] if len(options.images) == 1 else options.images
    how = {"delimiter": options.delimiter, "encoding": options.encoding}
    catalogue = Catalogue(str(options.catalogue), images=images, id=options.id, split=None, **how)
    command = shlex.join(["ssljax", "unmark", *arguments])
    summary = unmark_catalogue(catalogue, options.output, by=options.by, leave=options.leave, command=command)
    found = f"{summary.marks:,} of {summary.sellers:,} sellers have a mark"
    few = f" ({summary.few:,} have too few photos to tell)" * bool(summary.few)
    missing = f"; {summary.missing:,} are missing" * bool(summary.missing)
    console.print(f"{found}{few}; {summary.cleaned:,} of {summary.photos:,} photos were cleaned{missing}.")
    print_result(options.output / PAGE)
