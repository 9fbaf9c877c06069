"""Decodes photos by row: each time they are asked for, or all at once to keep them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.bad_inputs import BadPhoto
from ssljax.data.decode import BadImage, decode

TASK = 4  # photos a thread takes at a time: a task costs tens of microseconds, a small photo as much


class Decoded(NamedTuple):
    """Photos of some rows."""

    image: np.ndarray
    """u8[n, S, S, 3], zeros where not good"""
    aspect: np.ndarray
    """f32[n], width / height; 1 where not good"""
    good: np.ndarray
    """bool[n]: whether the photo was read"""

    def at(self, *index: np.ndarray) -> "Decoded":
        """Those at an index of any shape."""
        return Decoded(*(part[index] for part in self))


def _empty(n: int, size: int) -> Decoded:
    return Decoded(np.zeros((n, size, size, 3), np.uint8), np.ones(n, np.float32), np.zeros(n, bool))


class Decoder:
    """Decodes photos to squares of side `size`, in threads. With one thread it can be pickled to another process."""

    def __init__(self, photos: Sequence[Any], *, size: int, threads: int):
        self._photos, self._size = photos, size
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode") if threads > 1 else None

    def __len__(self) -> int:
        return len(self._photos)

    def read(self, rows: np.ndarray, small: np.ndarray | None = None) -> tuple[Decoded, list[BadPhoto]]:
        """The photos at rows i[n], and those of them that are bad; the place of a row of -1 is left empty.

        With `small`, u8[n, s, s, 3], the photos are decoded to that size too, into it.
        """
        decoded = _empty(len(rows), self._size)
        places = np.flatnonzero(rows >= 0).tolist()
        tasks = [places[start : start + TASK] for start in range(0, len(places), TASK)]

        def read_task(task: list[int]) -> list[BadPhoto]:
            return [bad for place in task if (bad := self._read_one(int(rows[place]), place, decoded, small))]

        bad = (map if self._pool is None else self._pool.map)(read_task, tasks)
        return decoded, [photo for part in bad for photo in part]

    def read_items(self, rows: np.ndarray) -> tuple[Decoded, list[BadPhoto]]:
        """The photos at rows i[b, N], each read once, though an item of few photos has some of them twice."""
        photos, place = rows.reshape(-1), np.arange(rows.size)
        if rows.shape[1] > 1:
            photos, place = np.unique(rows, return_inverse=True)
        decoded, bad = self.read(photos)
        return decoded.at(place.reshape(rows.shape)), bad

    def _read_one(self, row: int, place: int, decoded: Decoded, small: np.ndarray | None) -> BadPhoto | None:
        """Decodes the photo at `row` into `place`; returns it if it is bad."""
        name = ""
        try:
            photo = self._photos[row]
            name = str(photo) if isinstance(photo, Path | str) else ""
            decoded.image[place], decoded.aspect[place] = decode(photo, self._size)
            if small is not None:
                small[place], _ = decode(photo, small.shape[1])
        except BadImage as error:
            return BadPhoto(row, name, str(error))
        decoded.good[place] = True
        return None

    def close(self) -> None:
        """Ends the threads once they have finished the photos in hand."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def decode_all(
    photos: Sequence[Any],
    *,
    size: int,
    threads: int,
    record: Callable[[list[BadPhoto]], None],
    progress: Callable[[int], None] | None = None,
) -> Decoded:
    """Decodes all photos in threads.

    Args:
        photos: n paths, encoded bytes, or arrays.
        size: S, the side of the squares.
        threads: that decode.
        record: is called with the bad photos, in order; may raise to stop.
        progress: is called with how many photos are done.
    """
    n = len(photos)
    whole = _empty(n, size)
    decoder = Decoder(photos, size=size, threads=threads)
    step = 16 * TASK * threads
    try:
        for start in range(0, n, step):
            rows = np.arange(start, min(start + step, n))
            part, bad = decoder.read(rows)
            for kept, new in zip(whole, part, strict=True):
                kept[rows] = new
            record(bad)
            if progress is not None:
                progress(int(rows[-1]) + 1)
    finally:
        decoder.close()
    return whole
