"""Embeds photos and texts that arrive one by one in batches."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ssljax.evaluation.embed import Encoder


class _Waiting(NamedTuple):
    item: Any
    answer: asyncio.Future


class Batcher:
    """Collects items and embeds them in one call of the encoder, padded to one of a few sizes: 1, 4, 16 and so on.

    Args:
      embed: items, B photos or texts → f32[B, D].
      most: items at a time.
      wait: seconds to wait for others after the first; while the encoder is busy they collect anyway.
      observe: called with the number of items in each batch, and the seconds that it took.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Any]], np.ndarray],
        *,
        most: int,
        wait: float,
        observe: Callable[[int, float], None],
    ):
        self._embedded, self._most, self._wait, self._observe = embed, most, wait, observe
        self._sizes = [4**n for n in range(most.bit_length()) if 4**n < most] + [most]
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    def compile(self, item: Any) -> None:
        """Runs every size once, so that no request waits for a compilation."""
        for size in self._sizes:
            self._embed([item] * size)

    async def embed(self, item: Any) -> np.ndarray:
        """f32[D] of an item."""
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(item, answer))
        return await answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within it items are embedded."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() + 1 < self._most:
                await asyncio.sleep(self._wait)
            while len(batch) < self._most and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [one for one in batch if not one.answer.done()]  # without those who gave up
            if not batch:
                continue
            began = time.monotonic()
            try:
                vectors = await loop.run_in_executor(self._thread, self._embed, [one.item for one in batch])
            except Exception as error:  # the next batch may fare better
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(RuntimeError(f"the encoder failed: {error}"))
                continue
            self._observe(len(batch), time.monotonic() - began)
            for one, vector in zip(batch, vectors, strict=True):
                if not one.answer.done():
                    one.answer.set_result(vector)

    def _embed(self, items: list[Any]) -> np.ndarray:
        count = len(items)
        padded = next(size for size in self._sizes if size >= count) - count
        return self._embedded(items + items[:1] * padded)[:count]


class Embedding:
    """An encoder, with a batcher for photos, and one for texts if its network reads titles."""

    def __init__(self, encoder: Encoder, *, most: int, wait: float, observe: Callable[[str, int, float], None]):
        self.encoder = encoder
        kinds = {"photos": self._embed_photos} | ({"texts": encoder.embed_titles} if encoder.embed_titles else {})
        self._batchers = {
            kind: Batcher(embed, most=most, wait=wait, observe=functools.partial(observe, kind))
            for kind, embed in kinds.items()
        }

    @property
    def reads_titles(self) -> bool:
        """Whether there are texts to embed."""
        return "texts" in self._batchers

    def compile(self) -> None:
        """Runs all sizes of batches."""
        size = self.encoder.photo_size
        examples = {"photos": (np.zeros((size, size, 3), np.uint8), 1.0, ""), "texts": "a"}
        for kind, batcher in self._batchers.items():
            batcher.compile(examples[kind])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within it photos and texts are embedded."""
        async with contextlib.AsyncExitStack() as stack:
            for batcher in self._batchers.values():
                await stack.enter_async_context(batcher.running())
            yield

    async def photo(self, image: np.ndarray, aspect: float, title: str = "") -> np.ndarray:
        """f32[D] of a photo u8[S, S, 3], with its title if there is one and the network reads it."""
        return await self._batchers["photos"].embed((image, aspect, title))

    async def text(self, text: str) -> np.ndarray:
        """f32[D] of a title without a photo."""
        return await self._batchers["texts"].embed(text)

    def _embed_photos(self, photos: Sequence[tuple[np.ndarray, float, str]]) -> np.ndarray:
        images, aspects, titles = zip(*photos, strict=True)
        return self.encoder.embed(np.stack(images), np.array(aspects, np.float32), *[titles] * self.reads_titles)
