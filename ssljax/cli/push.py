"""`ssljax push`: puts a run on the Hugging Face hub for others to load."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Column, Table

from ssljax.cli.shared import RunFolder
from ssljax.export.hub import contents, push
from ssljax.models.weights.location import Address
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class PushOptions:
    """Put a run on the Hugging Face hub: its configuration, newest checkpoint, weights and figures, but no photos,
    logs, code or paths of this machine. `ssljax.load("hf://user/name")` loads it anywhere."""

    run: RunFolder
    to: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="hf://USER/NAME")]
    """The repository, which is created if needed."""
    index: bool = False
    """Push an index of the run's gallery too: vectors, with the ids, titles and other columns of the catalogue."""
    private: bool = False
    """Create the repository as a private one; an existing one is left as it is."""
    dry_run: bool = False
    """Only list what would be pushed."""


def main(arguments: list[str]) -> None:
    """`ssljax push RUN hf://USER/NAME`."""
    options = tyro.cli(PushOptions, args=arguments, prog="ssljax push")
    address, run = Address.parse(options.to), Run(options.run)
    if address.revision is not None:
        raise UserError(f"{address}: a push creates its own revision: leave out @{address.revision}")
    with tempfile.TemporaryDirectory() as folder:
        files = contents(run, address, Path(folder), index=options.index)
        print_table(_listed(files))
        if options.dry_run:
            console.print(f"Nothing was pushed to {address}.")
        else:
            console.print(f"Pushing this to {address} ...")
            print_result(push(files, address, private=options.private))


def _listed(files: dict[str, Path]) -> Table:
    """What is pushed, with sizes; the many files of a checkpoint, and of an index, are one row."""
    sizes: dict[str, int] = {}
    for name, path in files.items():
        top = name.partition("/")[0]
        row = f"{top}/" if top in ("checkpoints", "index") else name
        sizes[row] = sizes.get(row, 0) + path.stat().st_size
    table = Table("file", Column("bytes", justify="right"))
    for row, size in sizes.items():
        table.add_row(row, f"{size:,}")
    return table
