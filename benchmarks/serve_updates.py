"""What `ssljax serve` finds, and how soon, while items are added: one table, and results/benchmark_serve_updates.json.

    python benchmarks/serve_updates.py                      # two minutes
    python benchmarks/serve_updates.py --items 1000 --seconds 1

The service of benchmarks/serve.py, on the default index, is asked for what is similar to an item, by clients that ask
again as soon as they have their answer. Another client adds items by random vectors at a steady rate, each of which
is on the disk when the answer comes. Recall is against exact search among the first items; what was added since is
left out of the answers.
"""

import asyncio
import dataclasses
import json
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from serve import Options as ServeOptions
from serve import ask, catalogue, requests, serve

JUDGED = 1000  # answers


@dataclasses.dataclass(frozen=True)
class Options:
    """Latency and recall of the service under a steady load of additions."""

    items: int = 100_000
    """Items in the index at first."""
    rates: tuple[float, ...] = (0, 10, 100)
    """Items added a second."""
    clients: int = 4
    """How many ask at once."""
    seconds: float = 10.0
    """Length of a measurement."""
    output: Path = Path("results/benchmark_serve_updates.json")
    """Where the figures are written."""


async def measured(port: int, options: Options, rate: float) -> dict[str, float]:
    """The figures at one rate."""
    kinds = requests(ServeOptions(items=options.items), np.random.default_rng(round(1000 * rate)))
    answers: list[tuple[bytes, bytes]] = []
    loads = [ask(port, kinds["search by id"], options.clients, options.seconds, answers=answers)]
    if rate:
        loads.append(ask(port, kinds["add by vector"], 1, options.seconds, every=1 / rate))
    took, *added = await asyncio.gather(*loads)
    p50, p99 = 1000 * np.percentile(took, [50, 99])
    figures = {"searches_per_second": len(took) / options.seconds, "p50_ms": p50, "p99_ms": p99}
    figures["recall@10"] = recall(catalogue(options.items), answers[:: max(1, len(answers) // JUDGED)])
    if rate:
        figures["additions_per_second"] = len(added[0]) / options.seconds
        figures["addition_p99_ms"] = 1000 * np.percentile(added[0], 99)
    return figures


def recall(vectors: np.ndarray, answers: list[tuple[bytes, bytes]]) -> float:
    """The share of the nearest items, by exact search, that answers to requests hold, but for items added since."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = []
    for request, body in answers:
        row = int(request.split(b"/items/")[1].split(b"/")[0])
        found = [int(item["id"]) for item in json.loads(body)["items"] if not item["id"].startswith("new")]
        cosines = unit @ unit[row]
        cosines[row] = -np.inf
        nearest = np.argpartition(-cosines, len(found))[: len(found)]
        shares.append(len(set(found) & set(nearest.tolist())) / max(1, len(found)))
    return float(np.mean(shares))


def main(options: Options) -> None:
    """Measures, prints and writes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(Path(folder), options.items, theirs), daemon=True)
        process.start()
        port = ours.recv()  # once all is compiled
        rows = {
            f"{rate:g} items added a second" if rate else "no additions": asyncio.run(measured(port, options, rate))
            for rate in options.rates
        }
        process.terminate()
        process.join()
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table("load", *columns)
    for load, row in rows.items():
        table.add_row(load, *(f"{row[column]:,.3g}" if column in row else "" for column in columns))
    Console().print(table)

    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment

    options_ = dataclasses.asdict(options) | {"output": str(options.output)}
    figures = {f"{options.items:,} items, {options.clients} clients": rows}
    write_json(options.output, {"options": options_, "environment": environment(), "table": figures})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
