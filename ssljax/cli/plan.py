"""`ssljax plan`: compiles an experiment for a machine that is not here, and tells what it costs there."""

import dataclasses
import errno
import math
import os
import tempfile
from pathlib import Path

import jax
from rich.table import Column, Table

from ssljax.cli.shared import Fields, parse_with_experiment, writing
from ssljax.data.atomic_files import write_json
from ssljax.plan import Plan, Time, largest_batch, plan, remedies, target
from ssljax.training.logging import console, print_table
from ssljax.types import RunStopped, UserError

GIB, MIB = 2**30, 2**20
SHOWN = 12  # lines of traffic
# Rows of the memory that the compiler does not give: from shapes, and what is left over.
ESTIMATED = {"views": "views (estimate: unpadded)", "activations": "activations (estimate: the rest)"}


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Compile an experiment for a machine that is not here: does it fit, what is computed, what travels, how long.

    Nothing runs, and no data is needed. It takes as long as the compiler does, minutes for large steps."""

    experiment: Fields
    on: str = "v5e:2x4"
    """The machine: v5e, v5p or v6e with the sides of the slice, such as v5e:2x4, or h100, h200, a100 or a100_40gb with
    the number of GPUs, such as h100:8."""
    photos: int | None = None
    """Photos (or listings, or triplets) of the train split; by default they are counted, if the data is here."""
    step_only: bool = False
    """Compile the training step alone, without initialisation and evaluation, which seldom need more."""
    largest: bool = False
    """Look for the largest batch that fits, and where this one does not, for settings with which it would: remat,
    bfloat16, shards and accumulate. Each try compiles all programs again, or with --step-only the step."""
    json: Path | None = None
    """Write the figures to this file too."""


def main(arguments: list[str]) -> None:
    """`ssljax plan FILE --on MACHINE [OPTIONS]`; raises RunStopped, for exit code 1, if it does not fit."""
    jax.config.update("jax_platforms", "cpu")  # nothing runs: leave this machine's own devices to others
    _, options = parse_with_experiment(PlanOptions, "plan", arguments)
    batch_size = options.experiment.batch_size
    if options.photos is not None and options.photos < batch_size:
        raise UserError(f"photos={options.photos} are fewer than a batch takes, batch_size={batch_size}")
    if options.json:
        _check_writable(options.json)
    machine, step_only = target(options.on), options.step_only
    made = plan(options.experiment, machine, options.photos, step_only=step_only)
    if options.largest:
        photos = 0 if made.photos is None else options.photos  # 0: the data is not looked for again
        asked = options.experiment, machine, photos, console.print
        made = dataclasses.replace(made, largest=largest_batch(*asked, step_only=step_only, made=made))
        if not made.fits:
            made = dataclasses.replace(made, remedies=remedies(*asked, step_only=step_only))
    print_table(table_of(made))
    if options.json:
        with writing(options.json, "--json"):
            write_json(options.json, dataclasses.asdict(made))
    if not made.fits:
        worst = max(made.programs, key=lambda name: made.programs[name])
        raise RunStopped(
            f"it does not fit: {worst} needs {made.needed / GIB:.2f} GiB of each device, and {made.target} has "
            f"{made.available / GIB:.2f} GiB: {_advice(made)}"
        )


def _check_writable(path: Path) -> None:
    """Raises UserError if --json cannot be written: before the minutes of compilation, not after."""
    with writing(path, "--json"):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def _advice(made: Plan) -> str:
    """How to make it fit, as far as it is known."""
    enough = [remedy.options for remedy in made.remedies if remedy.fits]
    if made.largest:
        enough.append(f"--batch-size {made.largest}")
    return f"try {', or '.join(enough)}" if enough else "--largest looks for what would"


def table_of(made: Plan) -> Table:
    """The figures of a plan, in sections."""
    table = Table(Column(f"{made.experiment} on {made.target}", no_wrap=True), "", "", "", "")

    def section(*header: str) -> None:
        table.add_section()
        table.add_row(*header, style="bold")

    section("memory of a device", "GiB", "share")
    for name, size in sorted(made.memory.items(), key=lambda item: -item[1]):
        if size:
            table.add_row(ESTIMATED.get(name, name), f"{size / GIB:.3f}", f"{size / made.available:.1%}")
    for name, size in made.programs.items():
        table.add_row(f"in all, {name}", f"{size / GIB:.3f}", f"{size / made.available:.1%}")
    section("part of a step: FLOPs an image", "needed", "by XLA", "other", "ms")
    for name, part in made.parts.items():
        known = (part.needed, *((part.compiled, part.elementwise) if made.time else ()))
        figures = [si(flops / made.batch_size) for flops in known] + [""] * (3 - len(known))
        table.add_row(name, *figures, f"{part.seconds * 1e3:.3f}" if made.time else "")
    section("line that makes data travel", "by", "times", "MiB", "hidden")
    for t in made.collectives[:SHOWN]:
        table.add_row(f"{t.line or '?'} ({t.part})", t.kind, str(t.count), f"{t.bytes / MIB:.3f}", f"{t.hidden:.0%}")
    if rest := made.collectives[SHOWN:]:
        count, size = sum(t.count for t in rest), sum(t.bytes for t in rest)
        table.add_row(f"{len(rest)} more", "", str(count), f"{size / MIB:.3f}")
    if made.time:
        section(f"estimates, by the {made.time.source}" + (" and a fit of ours" if made.time.fitted else ""))
        for name, value in _times(made, made.time).items():
            table.add_row(name, value)
    if made.largest or made.remedies:
        section("what would fit", "GiB", "fits")
        for remedy in made.remedies:
            table.add_row(remedy.options, f"{remedy.needed / GIB:.3f}", "yes" if remedy.fits else "no")
        table.add_row("largest batch", f"{made.largest or 'none'}")
    section("seconds to compile here", "of all cores")
    for name, seconds in made.compile_seconds.items():
        table.add_row(name, f"{seconds:.0f}", f"{made.compile_cpu_seconds[name]:.0f}")
    return table


def si(value: float) -> str:
    """A number with four digits and a unit prefix, such as 4.089 G."""
    power = max(0, min(int(math.log10(value)) // 3, 5)) if value > 0 else 0
    return f"{value / 1000**power:.4g} {' kMGTP'[power]}".rstrip()


def _times(made: Plan, time: Time) -> dict[str, str]:
    rows = {
        "ms a step computes": f"{time.compute * 1e3:.3f}",
        **({"ms of these in attention kernels, by a fit": f"{time.fitted * 1e3:.3f}"} if time.fitted else {}),
        "ms data travels, over all links": f"{time.links * 1e3:.3f}",
        "ms a step takes": f"{time.step * 1e3:.3f}",
        "MFU": f"{time.mfu:.1%}",
        "images a second": f"{time.images_per_second:,.0f}",
    }
    if time.hours is not None and time.chip_hours is not None:
        rows |= {f"hours of {made.epochs} epochs": f"{time.hours:.2f}", "chip-hours": f"{time.chip_hours:.1f}"}
    return rows
