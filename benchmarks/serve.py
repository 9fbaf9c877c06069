"""How many requests `ssljax serve` answers, and how soon: one table, and results/benchmark_serve.json.

    python benchmarks/serve.py                              # two minutes
    python benchmarks/serve.py --items 1000 --seconds 1

A service of the quickstart's network (ResNet-10, width 16, 32 px; not trained, which costs the same) and random
vectors, a hundred around each of some centres, runs in a process of its own, on the default index. Clients in this
process, on the same cores, ask over the loopback on connections that stay open, each as soon as it has its answer: by
photo (600 px JPEG, decoded by the service), by the id of an item, and for an item to be added by its vector, which is
on the disk when the answer comes.
"""

import asyncio
import dataclasses
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

TOKEN = "benchmark"
WARM_UP = 0.5  # seconds


@dataclasses.dataclass(frozen=True)
class Options:
    """Requests a second and latencies of the service."""

    items: int = 10_000
    """Items in the index."""
    clients: tuple[int, ...] = (1, 8, 32)
    """How many ask at once."""
    seconds: float = 5.0
    """Length of a measurement."""
    photo: int = 600
    """Height and width of the photos, in pixels."""
    k: int = 10
    """Items of an answer."""
    output: Path = Path("results/benchmark_serve.json")
    """Where the figures are written."""


def catalogue(items: int) -> np.ndarray:
    """f32[items, 128]"""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, items // 100), 128), np.float32)
    return centres[rng.integers(0, len(centres), items)] + 0.7 * rng.standard_normal((items, 128), np.float32)


def serve(folder: Path, items: int, port: Connection) -> None:
    """The service; it says at which port it listens."""
    import socket

    import jax
    import jax.numpy as jnp
    import uvicorn

    from ssljax.data.columns import text
    from ssljax.evaluation import Embeddings, Origin
    from ssljax.evaluation.embed import Encoder
    from ssljax.models import ResNet
    from ssljax.search import Collection, default_index, save_collection
    from ssljax.search.serve import Service
    from ssljax.search.serve.server import config
    from ssljax.views import TwoCrops

    network, views = ResNet(depth=10, stem="cifar", width=16), TwoCrops(size=32)
    variables = network.init(jax.random.PRNGKey(0), jnp.zeros((1, 32, 32, 3)), train=False)

    @jax.jit
    def apply(image: jax.Array, aspect: jax.Array) -> jax.Array:
        batch = views.evaluation({"image": image[:, None], "aspect": aspect[:, None]})
        return network.apply(variables, batch["views"][0], train=False)

    def embed(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        return np.asarray(apply(image, aspect))

    ids = text(map(str, range(items)))
    save_collection(folder / "index", default_index(), Embeddings(ids, catalogue(items), {"title": ids}))
    collection = Collection.open(folder / "index", to_change=True)
    encoder = Encoder(embed, 64, Origin("", ""))
    service = Service(collection, encoder, lambda id: None, token=TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        service.on_ready = lambda: port.send(listening.getsockname()[1])
        uvicorn.Server(config(service)).run(sockets=[listening])


async def ask(
    port: int,
    request: Callable[[], bytes],
    clients: int,
    seconds: float,
    *,
    every: float = 0.0,
    answers: list[tuple[bytes, bytes]] | None = None,
) -> list[float]:
    """Seconds that each answer took; requests and the bodies of their answers are added to `answers`.

    A client asks again as soon as it has its answer, but not before `every` seconds have passed since it asked last.
    """
    took: list[float] = []
    begin = time.perf_counter() + WARM_UP

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (asked := time.perf_counter()) < begin + seconds:
            writer.write(asking := request())
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), head
            if asked >= begin:
                took.append(time.perf_counter() - asked)
                if answers is not None:
                    answers.append((asking, body))
            if every:
                await asyncio.sleep(max(0.0, asked + every - time.perf_counter()))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


def requests(options: Options, rng: np.random.Generator) -> dict[str, Callable[[], bytes]]:
    """What is asked for, by name: whole HTTP requests, another each time."""
    photos = []
    for _ in range(8):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        buffer = io.BytesIO()
        small.resize((options.photo, options.photo), Image.BICUBIC).save(buffer, "JPEG", quality=90)
        photos.append(buffer.getvalue())

    def post(path: str, body: bytes, head: str = "") -> bytes:
        return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def similar() -> bytes:
        path = f"/items/{rng.integers(options.items)}/similar?k={options.k}"
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def add() -> bytes:
        item = {"id": f"new {rng.bytes(8).hex()}", "vector": rng.standard_normal(128).tolist()}
        head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        return post("/items", json.dumps(item).encode(), head)

    return {
        "search by photo": lambda: post(f"/search?k={options.k}", photos[rng.integers(8)]),
        "search by id": similar,
        "add by vector": add,
    }


def main(options: Options) -> None:
    """Measures, prints and writes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(Path(folder), options.items, theirs), daemon=True)
        process.start()
        port = ours.recv()  # once all is compiled
        kinds = requests(options, np.random.default_rng(0))
        figures: dict[str, dict[str, dict[str, float]]] = {}
        for kind, request in kinds.items():
            for clients in options.clients:
                took = np.array(asyncio.run(ask(port, request, clients, options.seconds)))
                p50, p99 = 1000 * np.percentile(took, [50, 99])
                row = {"requests_per_second": len(took) / options.seconds, "p50_ms": p50, "p99_ms": p99}
                figures.setdefault(kind, {})[f"{clients} at once"] = row
        process.terminate()
        process.join()
    table = Table("request", "clients", "requests/s", "p50 ms", "p99 ms")
    for kind, rows in figures.items():
        for clients, row in rows.items():
            table.add_row(kind, clients, *(f"{value:,.1f}" for value in row.values()))
    Console().print(table)

    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment

    options_ = dataclasses.asdict(options) | {"output": str(options.output)}
    write_json(options.output, {"options": options_, "environment": environment(), "table": figures})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
