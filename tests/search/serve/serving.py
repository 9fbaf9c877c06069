"""A service on a free port, over a few coloured photos; its encoder is the mean colour of a photo's quarters."""

import contextlib
import io
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from PIL import Image

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Origin
from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection, Exact, save_collection
from ssljax.search.serve import Limits, Service
from ssljax.search.serve.server import config

ORIGIN = Origin("run", "12ab")
SIDE = 16
TOKEN = "a token"
LIMITS = Limits()
AUTHORISED = {"authorization": f"Bearer {TOKEN}"}


def colours(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    """f32[B, 12] of u8[B, S, S, 3]."""
    quarters = image.reshape(len(image), 2, SIDE // 2, 2, SIDE // 2, 3).mean(axis=(2, 4))
    return (quarters.reshape(len(image), 12) / 255 + 0.01).astype(np.float32)


ENCODER = Encoder(colours, SIDE, ORIGIN)
COLOURS = {"red": np.tile([1.0, 0.01, 0.01], 4), "blue": np.tile([0.01, 0.01, 1.0], 4)}
WORDS = COLOURS | {"unknown": np.zeros(12)}


def named_colours(texts: Sequence[str]) -> np.ndarray:
    """f32[n, 12] of the colours that texts name; zeros for "unknown", as if no token of it were known."""
    named = [[WORDS.get(word, np.full(12, 0.01)) for word in (text or "-").split()] for text in texts]
    return np.array([np.sum(vectors, axis=0) for vectors in named], np.float32)


def colours_with_titles(image: np.ndarray, aspect: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """f32[B, 12] of photos with titles."""
    return colours(image, aspect) + named_colours(titles)


READS_TITLES = Encoder(colours_with_titles, SIDE, ORIGIN, named_colours)


def photo(seed: int, kind: str = "PNG") -> bytes:
    """A photo of four colours, another for every seed."""
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(quarters.repeat(30, axis=0).repeat(40, axis=1)).save(buffer, kind)
    return buffer.getvalue()


def collection(folder: Path, count: int = 20) -> Path:
    """A collection of photos in `folder`, and where it is; ids are "shelf/0" and on."""
    vectors, paths = [], []
    for i in range(count):
        paths.append(str(folder / f"{i}.png"))
        Path(paths[-1]).write_bytes(photo(i))
        pixels = np.asarray(Image.open(paths[-1]).resize((SIDE, SIDE), Image.NEAREST))
        vectors.append(colours(pixels[None], np.ones(1))[0])
    columns = {"title": text(f"<b>Mug</b> {i}" for i in range(count))}
    ids = text(f"shelf/{i}" for i in range(count))
    embeddings = Embeddings(ids, np.stack(vectors), columns, photos=text(paths), origin=ORIGIN)
    save_collection(folder / "index", Exact(), embeddings)
    return folder / "index"


@contextlib.contextmanager
def served(
    folder: Path, *, token: str | None = TOKEN, limits: Limits = LIMITS, encoder=ENCODER, title=None, **settings
) -> Iterator:
    """The address of a service of the collection in `folder`, which is well at the end as well."""
    shop = Collection.open(folder, to_change=True)
    shop.title = title
    service = Service(shop, encoder, lambda id: shop.item(id).photo, token=token, limits=limits, **settings)
    with listening(service) as address:
        while (health := httpx.get(f"{address}/healthz", timeout=30)).status_code == 503:
            assert health.json()["status"] == "starting"
            time.sleep(0.01)
        yield address
        assert httpx.get(f"{address}/healthz", timeout=30).json()["status"] == "ok"


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Within it no file of this process can grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@contextlib.contextmanager
def listening(service: Service) -> Iterator[str]:
    """The address at which a service listens, ready or not."""
    server, bound = uvicorn.Server(config(service)), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
