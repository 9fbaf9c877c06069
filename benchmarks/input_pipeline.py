"""How fast photos become batches, beside torch's DataLoader: one table, and results/benchmark_input_pipeline.json.

    python benchmarks/input_pipeline.py                 # some minutes
    python benchmarks/input_pipeline.py --seconds 0.5 --rounds 1 --large 64 --small 128

Photos are JPEG files that are made for the purpose and lie in the page cache. Every setting is measured in a process
of its own: photos a second that the loader delivers when nothing else is done; the share of its time that a device
which takes `device_rate` photos a second then waits for data; and the peak memory of the process and its workers.
"""

import dataclasses
import importlib.util
import io
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

WARM_UP = 3  # batches


@dataclasses.dataclass(frozen=True)
class Options:
    """Throughput, waiting and memory of the input pipeline."""

    large: int = 1024
    """Photos of 348 px, read at 224."""
    small: int = 4096
    """Photos of 60 x 80 px, read at 64."""
    batch_size: int = 128
    """Photos a batch."""
    seconds: float = 2.0
    """Length of a measurement."""
    rounds: int = 3
    """Measurements of each setting, in turn with the others; the median counts."""
    device_rate: float = 500.0
    """Photos a second that the simulated device takes."""
    output: Path = Path("results/benchmark_input_pipeline.json")
    """Where the figures are written."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A loader of one of the sources."""

    loader: str
    folder: Path
    size: int
    batch_size: int
    threads: int = 1
    workers: int = 0
    cache: str | None = None


def settings_of(folder: Path, size: int, batch_size: int) -> dict[str, Setting]:
    """Row → setting."""
    ours = Setting("ssljax", folder, size, batch_size)
    torch = Setting("torch, Pillow", folder, size, batch_size, workers=2)
    return {
        "no cache, 1 thread": ours,
        "no cache, 2 threads": dataclasses.replace(ours, threads=2),
        "no cache, 2 worker processes": dataclasses.replace(ours, workers=2),
        "cache on the host": dataclasses.replace(ours, threads=2, cache="host"),
        "cache on the device": dataclasses.replace(ours, threads=2, cache="device"),
        "torch DataLoader, 2 workers, Pillow": torch,
        "torch DataLoader, 2 workers, our decoder": dataclasses.replace(torch, loader="torch, ours"),
    }


def make_photos(folder: Path, n: int, height: int, width: int) -> Path:
    """Writes n JPEG files: smooth shapes and some noise, about as large as photos of goods are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)[..., None] / 40
    for i in range(n):
        phase, noise = rng.normal(0, 3, 3), rng.normal(0, 8, (height, width, 3))
        pixels = 127 + 60 * np.sin(x + phase) + 50 * np.cos(y * phase) + noise
        data = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
        (folder / f"{i}.jpg").write_bytes(data.getvalue())
    return folder


@contextmanager
def our_batches(setting: Setting) -> Iterator[Iterator[Any]]:
    """Batches of the pipeline, on the device."""
    import jax

    from ssljax.data import Items, Photos
    from ssljax.data.bad_inputs import BadInputs
    from ssljax.data.pipeline import TrainBatches
    from ssljax.sharding import make_mesh

    paths = sorted(setting.folder.iterdir())
    items = Items(np.arange(len(paths)), paths)
    with TrainBatches(
        items,
        Photos().over(items, batch_size=setting.batch_size, seed=0),
        size=setting.size,
        bad=BadInputs(None, total=len(paths)),
        cache=setting.cache,
        threads=setting.threads,
        workers=setting.workers,
        mesh=make_mesh(),
    ) as batches:
        yield map(jax.block_until_ready, batches)


class TorchPhotos:
    """A torch data set of the same photos."""

    def __init__(self, folder: Path, size: int, ours: bool):
        self.paths, self.size, self.ours = sorted(folder.iterdir()), size, ours

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        if self.ours:
            from ssljax.data.decode import decode

            return decode(self.paths[row], self.size)[0].copy()
        photo = Image.open(self.paths[row]).convert("RGB")
        return np.array(photo.resize((self.size, self.size), Image.BILINEAR))


@contextmanager
def torch_batches(setting: Setting) -> Iterator[Iterator[Any]]:
    """Batches of torch's loader, in host memory."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        TorchPhotos(setting.folder, setting.size, ours=setting.loader == "torch, ours"),
        batch_size=setting.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    yield itertools.chain.from_iterable(itertools.repeat(loader))


def peak_memory() -> float:
    """MiB, the sum of the peaks of this process and its workers; nan where there is no /proc."""
    total = 0.0
    for process in ["self", *(child.pid for child in multiprocessing.active_children())]:
        status = Path(f"/proc/{process}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        total += next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
    return total


def measure(setting: Setting, seconds: float, device_rate: float) -> dict[str, float]:
    """Figures of one setting, of one measurement."""
    began = time.perf_counter()
    with (our_batches if setting.loader == "ssljax" else torch_batches)(setting) as batches:
        for _ in range(WARM_UP):
            next(batches)
        start_up = time.perf_counter() - began
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            next(batches)
            n += setting.batch_size
        rate = n / (time.perf_counter() - began)
        began, waited = time.perf_counter(), 0.0
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
            time.sleep(setting.batch_size / device_rate)
        wait = waited / (time.perf_counter() - began)
        return {"images_per_second": rate, "wait": wait, "peak_mib": peak_memory(), "start_up_seconds": start_up}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's value, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _send(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))


def run(options: Options, folder: Path) -> dict[str, dict[str, dict[str, float] | str]]:
    """Source → row → figures, or why there are none."""
    large = make_photos(folder / "large", options.large, 348, 348)
    small = make_photos(folder / "small", options.small, 60, 80)
    sources = {
        "348 px JPEG to 224": settings_of(large, 224, options.batch_size),
        "60 x 80 JPEG to 64": settings_of(small, 64, options.batch_size),
    }
    has_torch = importlib.util.find_spec("torch") is not None
    figures: dict[str, dict[str, Any]] = {source: {row: [] for row in rows} for source, rows in sources.items()}
    for _, (source, rows) in itertools.product(range(options.rounds), sources.items()):
        for row, setting in rows.items():
            if setting.loader == "ssljax" or has_torch:
                once = in_own_process(measure, setting, options.seconds, options.device_rate)
                figures[source][row].append(once)
    return {source: {row: _median(rounds) for row, rounds in rows.items()} for source, rows in figures.items()}


def _median(rounds: list[dict[str, float]]) -> dict[str, float] | str:
    if not rounds:
        return "not run (torch not installed)"
    return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}


def print_table(figures: dict[str, dict[str, Any]], options: Options) -> None:
    """The figures, as one table."""
    table = Table("source", "loader", "images/s", f"waits, at {options.device_rate:.0f}/s", "peak MiB", "start, s")
    for column in table.columns[2:]:
        column.justify = "right"
    for source, rows in figures.items():
        for row, f in rows.items():
            if isinstance(f, str):
                table.add_row(source, row, f)
            else:
                rate, wait = f"{f['images_per_second']:,.0f}", f"{f['wait']:.1%}"
                table.add_row(source, row, rate, wait, f"{f['peak_mib']:,.0f}", f"{f['start_up_seconds']:.1f}")
    Console().print(table)


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options, Path(folder))
    print_table(figures, options)
    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment  # only now: it takes hold of the device

    record = environment()
    for package in ("pillow", "simplejpeg", "torch"):
        installed = importlib.util.find_spec("PIL" if package == "pillow" else package) is not None
        record["versions"][package] = metadata.version(package) if installed else None
    resolved = {k: v for k, v in dataclasses.asdict(options).items() if k != "output"}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"options": resolved, "environment": record, "table": figures})
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
