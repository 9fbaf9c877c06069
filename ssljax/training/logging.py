"""What a run writes as it goes: metrics.jsonl, TensorBoard events, and one line on the terminal."""

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue] generated
from tensorboardX.summary import scalar

from ssljax.data.atomic_files import read_text, write_text, writing_to
from ssljax.data.text import shown
from ssljax.sharding import target_platform
from ssljax.training import compilation_cache


class _Console(Console):
    """Prints text literally: markup and terminal escapes have no effect, in table cells too."""

    def render_str(self, text: str, **options: Any) -> Text:
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(shown(text), **options)


console = _Console(stderr=True, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Prints a result to standard output; cells are text, not markup."""
    _Console().print(table)


def print_result(result: object) -> None:
    """Prints a line of a result, such as the path of what was written, to standard output."""
    print(shown(str(result)))


def print_warnings() -> None:
    """Shows the package's log records on standard error."""
    logging.getLogger("ssljax").handlers = [_StderrHandler()]


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Whoever logs goes on if nobody can read it: the disk of the log file is full, or the pipe is closed.
        # So not `console`, which keeps what it cannot write, and exits at a closed pipe.
        with contextlib.suppress(OSError, ValueError):
            print(shown(record.getMessage()), file=sys.stderr, flush=True)


class MetricsWriter:
    """Appends figures to metrics.jsonl and to TensorBoard's event files.

    Lines after `resumed_at` are dropped at the start: the steps that a killed run made after its last checkpoint are
    made again, and would appear twice.
    """

    def __init__(self, path: Path, tensorboard: Path, *, resumed_at: int = 0):
        self._path = path
        write_text(path, "".join(line for line in _lines(path) if _step(line) <= resumed_at))
        tensorboard.mkdir(parents=True, exist_ok=True)
        # not SummaryWriter, whose thread would fail alone when the disk is full
        self._tensorboard, self._events = tensorboard, EventsWriter(str(tensorboard / "events"))
        start = SessionLog(status=SessionLog.START)  # TensorBoard hides what comes after it in older files
        self._events.write_event(Event(step=resumed_at + 1, session_log=start))

    def write(self, step: int, figures: dict[str, float]) -> None:
        """One line {"step": step, **figures}; a figure that is not finite is written as null."""
        plain = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with writing_to(self._path), self._path.open("a", encoding="utf-8") as file:  # anew: it may have been removed
            file.write(json.dumps({"step": step, **plain}) + "\n")
        with writing_to(self._tensorboard):
            for name, value in figures.items():
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._events.flush()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        with writing_to(self._tensorboard):
            self._events.close()


class ProgressBar:
    """Steps, images/s, time left and the main figures on one line; on a pipe, a line every half minute."""

    def __init__(self, total: int, start: int, batch_size: int):
        self._batch_size, self._total = batch_size, total
        self._done, self._printed = start, time.monotonic()
        self._first: tuple[int, float] | None = None  # the step of the first update, and when it was
        columns = [TextColumn("step"), MofNCompleteColumn(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=console, transient=False)
        self._task = self._bar.add_task("train", total=total, completed=start, figures="")

    def __enter__(self) -> "ProgressBar":
        if console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    @property
    def images_per_second(self) -> float:
        """Since the first update, before which the step was compiled."""
        step, began = self._first or (self._done, 0.0)
        return (self._done - step) * self._batch_size / max(time.monotonic() - began, 1e-9)

    def update(self, step: int, figures: dict[str, float]) -> None:
        """Shows that `step` steps are done."""
        self._done = step
        self._first = self._first or (step, time.monotonic())
        shown = [f"{self.images_per_second:,.0f} images/s"]
        shown += [f"{name} {value:.3g}" for name, value in figures.items()]
        self._bar.update(self._task, completed=step, figures="  ".join(shown))
        now = time.monotonic()
        if not console.is_terminal and (now - self._printed > 30 or step == self._total):
            self._printed = now
            console.print(f"step {step}/{self._total}  " + "  ".join(shown))


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on a terminal before the first step; yields a function to report the number done."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextlib.contextmanager
def compiling(first: bool) -> Iterator[None]:
    """Says, if `first`, how long what is called within it takes, which compiles, and whether it came from the cache."""
    if not first:
        yield
        return
    began, hits = time.monotonic(), compilation_cache.hits()
    console.print("Compiling" + ", which can take minutes on a CPU" * (target_platform() == "cpu"))
    yield
    cached = ", from the cache" * (compilation_cache.hits() > hits)
    console.print(f"Compiled in {time.monotonic() - began:.0f} s{cached}.")


def _lines(path: Path) -> list[str]:
    """The lines of a file that may not exist."""
    return read_text(path).splitlines(keepends=True) if path.exists() else []


def _step(line: str) -> float:
    """The step of a line; infinite if the line is incomplete, as a killed run may leave it."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("}\n") else math.inf
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return math.inf
