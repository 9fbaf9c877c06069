"""Embeds photos that arrive one by one in batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ssljax.evaluation.embed import Encoder


class _Waiting(NamedTuple):
    image: np.ndarray
    aspect: float
    answer: asyncio.Future


class Batcher:
    """Collects photos and embeds them in one call of the encoder, padded to one of a few sizes: 1, 4, 16 and so on.

    Args:
      encoder: embeds the photos.
      most: photos at a time.
      wait: seconds to wait for others after the first; while the encoder is busy they collect anyway.
      observe: called with the number of photos in each batch.
    """

    def __init__(self, encoder: Encoder, *, most: int, wait: float, observe: Callable[[int], None]):
        self._encoder, self._most, self._wait, self._observe = encoder, most, wait, observe
        self._sizes = [4**n for n in range(most.bit_length()) if 4**n < most] + [most]
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    def compile(self) -> None:
        """Runs every size once, so that no request waits for a compilation."""
        for size in self._sizes:
            self._embed([np.zeros((self._encoder.photo_size,) * 2 + (3,), np.uint8)] * size, [1.0] * size)

    async def embed(self, image: np.ndarray, aspect: float) -> np.ndarray:
        """f32[D] of a photo u8[S, S, 3]."""
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(image, aspect, answer))
        return await answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within it photos are embedded."""
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
            self._observe(len(batch))
            images, aspects = [one.image for one in batch], [one.aspect for one in batch]
            try:
                vectors = await loop.run_in_executor(self._thread, self._embed, images, aspects)
            except Exception as error:  # the next batch may fare better
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(RuntimeError(f"the encoder failed: {error}"))
                continue
            for one, vector in zip(batch, vectors, strict=True):
                if not one.answer.done():
                    one.answer.set_result(vector)

    def _embed(self, images: list[np.ndarray], aspects: list[float]) -> np.ndarray:
        count = len(images)
        padded = next(size for size in self._sizes if size >= count) - count
        image = np.stack(images + images[:1] * padded)
        return self._encoder.embed(image, np.array(aspects + aspects[:1] * padded, np.float32))[:count]
