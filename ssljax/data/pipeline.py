"""Batches of photos by Grain: shuffled and endless for training, in order for embedding.

A training batch is a pure function of the data, the seed, the batch size and its number, whatever the cache, the
threads, the worker processes and the number of machines. So the position in the data is one number, and a bad photo is
always replaced by the same good one.
"""

import functools
import math
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from ssljax.data.bad_inputs import BadInputs, BadPhoto
from ssljax.data.items import Items
from ssljax.data.photos import Decoded, Decoder, decode_all
from ssljax.data.samplers.base import Batches
from ssljax.data.titles.tokenized import TokenizedTitles
from ssljax.sharding import batch_sharding, place_batch, replicated, sum_over_processes
from ssljax.types import Array, Batch, UserError

# Two batches are made at a time, so that the decoding threads have the next one to go on with when one ends.
AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=3)
AT_ONCE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


def batch_shapes(
    items: Items, *, batch_size: int, size: int, photos: int = 1, titles: TokenizedTitles | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a whole training batch with `photos` of each item; reads none."""
    none = {"image": np.empty((0, photos, size, size, 3), np.uint8), "aspect": np.empty((0, photos), np.float32)}
    none |= _columns(items, np.arange(0))
    none |= _of_photos(items, np.empty((0, photos), int), titles)
    return {name: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype) for name, x in none.items()}


def ordered_batches(
    items: Items,
    *,
    batch_size: int,
    size: int,
    bad: BadInputs,
    threads: int = 8,
    small: int | None = None,
    own: np.ndarray | None = None,
    titles: TokenizedTitles | None = None,
) -> Iterator[Batch]:
    """All photos once and in order, as host arrays.

    Args:
        items: what to read.
        batch_size: B, photos a batch; the last one is filled up.
        size: S, the side of the squares.
        bad: where bad photos are recorded.
        threads: that decode.
        small: s, the side of other squares to which the photos are decoded too.
        own: bool[B], the places of a batch that this process decodes, if every process iterates; default: all.
        titles: makes `title` i32[B, 1, L], if the items' titles are wanted.

    Yields:
        `image` u8[B, 1, S, S, 3], `aspect` f32[B, 1], both zero where not `own`; `index` i32[B]; `valid` bool[B], which
        is False at the places of bad photos and at those that fill the last batch; `small` u8[B, s, s, 3]; and what the
        items have of `label`, `listing`, `attributes`.

    Raises:
        UserError: if too many photos are bad, in all processes.
    """
    decoder = Decoder(items.photos, size=size, threads=threads)
    own = np.ones(batch_size, bool) if own is None else own
    batches = grain.MapDataset.range(math.ceil(len(items) / batch_size)).map(_OrderedBatch(decoder, own, small))
    iterator = iter(batches.to_iter_dataset(AHEAD))
    try:
        for made in iterator:
            _record(bad, items, made.bad)
            bad.check(int(sum_over_processes(np.array(bad.count))))
            image, aspect, good = made.decoded
            batch = {"image": image[:, None], "aspect": aspect[:, None], "valid": sum_over_processes(good)}
            batch |= _of_photos(items, made.rows[:, None], titles)
            if made.small is not None:
                batch["small"] = sum_over_processes(made.small)
            yield batch | _columns(items, made.rows)
    finally:
        iterator.close()
        decoder.close()


class TrainBatches:
    """Endless shuffled training batches, and the position in them, which can be saved and restored.

    Batches are dicts: `image` u8[B, N, S, S, 3] and `aspect` f32[B, N], of N photos an item, and of the first of them
    `index` i32[B] and what there is of `label` i32[B], `listing` i32[B], `attributes` i32[B, A]. With `titles` there is
    `title` i32[B, N, L] as well, and with vectors `vectors` f32[B, N, D]. On a mesh they are global arrays, split along
    B; without one, the process's own rows as host arrays (but for an image that is cached on the device).

    Args:
        items: the train split.
        batches: which photos make up which batch, of this process.
        size: S, the side of the squares.
        bad: where bad photos are recorded.
        cache: "device" or "host" decodes every photo once, now, and keeps it there, on each device or machine; None
            decodes it each time.
        threads: that decode.
        workers: processes that decode in place of the threads; not needed with a cache.
        mesh: where batches go.
        progress: is told how many photos are cached.
        titles: what makes token ids of the items' titles, augmented anew in each batch; None leaves titles out.

    Raises:
        UserError: here or while iterating, if too many photos are bad.
    """

    def __init__(
        self,
        items: Items,
        batches: Batches,
        *,
        size: int,
        bad: BadInputs,
        cache: Literal["device", "host"] | None = None,
        threads: int = 8,
        workers: int = 0,
        mesh: Mesh | None = None,
        progress: Callable[[int], None] | None = None,
        titles: TokenizedTitles | None = None,
    ):
        batches.check()
        self._titles = titles
        self._items, self._batches, self._bad, self._mesh = items, batches, bad, mesh
        self._workers = 0 if cache else workers
        self._options = AT_ONCE if self._workers or cache == "device" else AHEAD
        self._delivered = 0
        self._iterator = self._decoder = self._gather = None
        if cache is None:
            self._decoder = Decoder(items.photos, size=size, threads=1 if workers else threads)
            self._read = self._decoder.read_items
            return
        cached = decode_all(items.photos, size=size, threads=threads, record=self._record, progress=progress)
        if cache == "device":
            self._gather = _gatherer(cached.image, mesh)
            cached = cached._replace(image=np.arange(len(items), dtype=np.int32))  # where they are on the device
        self._read = functools.partial(_read_cached, cached=cached)

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        return self._placed(self._next())

    def take(self, count: int, room: int) -> tuple[Batch, Array]:
        """The next `count` batches in one, with an axis for them after the first, as [B, room, ...]; and `count` i32[].

        Beyond `count` the last one is repeated.
        """
        made = [self._next() for _ in range(count)]
        made += made[-1:] * (room - count)
        stacked = {name: np.stack([batch[name] for batch in made], axis=1) for name in made[0]}
        number = np.asarray(count, np.int32)
        if self._mesh is None:
            return self._placed(stacked), jnp.asarray(number)
        return self._placed(stacked), jax.make_array_from_callback((), replicated(self._mesh), number.__getitem__)

    def _next(self) -> Batch:
        """The process's rows of the next batch, on the host; with a cache on the device, `image` is places in that."""
        if self._iterator is None:
            self._iterator = self._start()
        made = next(self._iterator)
        self._delivered += 1
        self._record(made.bad)
        if made.too_few:
            size = self._batches.identity["batch_size"]
            raise UserError(f"batch_size={size} is too large: fewer photos of the train split can be read")
        image, rows = made.decoded.image, made.rows.reshape(-1, self._batches.photos)
        batch = {"aspect": made.decoded.aspect.reshape(rows.shape)} | _columns(self._items, rows[:, 0])
        batch |= _of_photos(self._items, rows, self._titles, (self._batches.identity["seed"], self._delivered))
        return batch | {"image": image.reshape(*rows.shape, *image.shape[2:])}

    def _placed(self, batch: Batch) -> Batch:
        if self._mesh is not None:
            batch = place_batch(self._mesh, batch)
        return batch if self._gather is None else batch | {"image": self._gather(batch["image"])}

    @property
    def position(self) -> dict[str, int]:
        """How many batches were delivered, and of what; plain JSON."""
        return {"delivered": self._delivered} | self._batches.identity

    def seek(self, position: dict[str, int]) -> None:
        """Goes to a position; raises UserError if it belongs to other data or other batches."""
        for name, value in self._batches.identity.items():
            if position[name] != value:
                raise UserError(f"{name}={value} differs from the checkpoint's {position[name]}: use the same to go on")
        self._stop()
        self._delivered = position["delivered"]

    def go_on_with(self, batches: Batches) -> None:
        """Continues with other batches of as many items from the next one on."""
        self._stop()
        self._batches = batches

    def close(self) -> None:
        """Ends the threads and worker processes."""
        self._stop()
        if self._decoder is not None:
            self._decoder.close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> grain.DatasetIterator:
        # A range of batch numbers from where we are: Grain's own position depends on the number of workers, and counts
        # what they read ahead.
        make = _TrainBatch(self._batches, self._read)
        batches = grain.MapDataset.range(self._delivered, sys.maxsize).map(make).to_iter_dataset(self._options)
        if self._workers:
            flags.FLAGS.mark_as_parsed()  # Grain reads absl's flags, which only absl's own `app.run` parses
            options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            batches = batches.mp_prefetch(options, worker_init_fn=_leave_interrupts_to_the_main_process)
        return iter(batches)

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _record(self, photos: list[BadPhoto]) -> None:
        record_bad(self._bad, self._items, photos)


class _Made(NamedTuple):
    """A batch as it comes out of Grain. The columns of the items are added later, as workers need none.

    `rows` and the arrays of `decoded` have the axes [m, n] of `Batches.rows` in a training batch, and [b] in one for
    embedding.
    """

    rows: np.ndarray
    decoded: Decoded
    bad: list[BadPhoto]
    too_few: bool = False
    """there is no batch, as too few photos can be read"""
    small: np.ndarray | None = None
    """u8[b, s, s, 3], the photos at another size, if that was asked for"""


class _TrainBatch:
    """Number → training batch. Photos that cannot be read give way to good ones of their row, or else to spare rows.

    Where the photos of a row are not alike, none can stand in for another: a row with a bad photo gives way as a whole.
    """

    def __init__(self, batches: Batches, read: Callable[[np.ndarray], tuple[Decoded, list[BadPhoto]]]):
        self._batches, self._read = batches, read

    def __call__(self, batch: int) -> _Made:
        rows, spares = self._batches.rows(batch), self._batches.spares(batch)
        decoded, bad = self._read(rows)
        enough = np.any if self._batches.alike else np.all
        for row in np.flatnonzero(~enough(decoded.good, axis=1)):
            while not enough(decoded.good[row]):
                spare = next(spares, None)
                if spare is None:
                    return _Made(rows, decoded, bad, too_few=True)
                photos, worse = self._read(spare[None])
                rows[row], bad = spare, bad + worse
                for kept, new in zip(decoded, photos, strict=True):
                    kept[row] = new[0]
        if not decoded.good.all():
            item, first_good = np.arange(len(rows))[:, None], np.argmax(decoded.good, axis=1)[:, None]
            place = np.where(decoded.good, np.arange(rows.shape[1]), first_good)
            rows, decoded = rows[item, place], decoded.at(item, place)
        return _Made(rows, decoded, bad)


def _read_cached(rows: np.ndarray, cached: Decoded) -> tuple[Decoded, list[BadPhoto]]:
    return cached.at(rows), []


class _OrderedBatch:
    """Number → batch in order. The last one is filled up with the first photo, which is not valid there."""

    def __init__(self, decoder: Decoder, own: np.ndarray, small: int | None):
        self._decoder, self._own, self._small = decoder, own, small

    def __call__(self, batch: int) -> _Made:
        size = len(self._own)
        rows = np.arange(batch * size, (batch + 1) * size)
        there = rows < len(self._decoder)
        small = None if self._small is None else np.zeros((size, self._small, self._small, 3), np.uint8)
        decoded, bad = self._decoder.read(np.where(there & self._own, rows, -1), small)
        return _Made(np.where(there, rows, 0), decoded, bad, small=small)


def _columns(items: Items, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"index": rows.astype(np.int32)} | {name: numbers[rows] for name, numbers in items.numbers.items()}


def _of_photos(
    items: Items, rows: np.ndarray, titles: TokenizedTitles | None, key: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """What there is of titles and vectors of the photos in `rows` i[B, N]; with a `key` titles are augmented by it."""
    found = {} if items.vectors is None else {"vectors": items.vectors[rows]}
    return found if titles is None else found | {"title": titles(items, rows, key)}


def record_bad(bad: BadInputs, items: Items, photos: list[BadPhoto]) -> None:
    """Lists bad photos of `items`; raises UserError if there are too many."""
    _record(bad, items, photos)
    bad.check()


def _record(bad: BadInputs, items: Items, photos: list[BadPhoto]) -> None:
    for photo in photos:
        bad.record(items.ids[photo.row], photo.name, photo.reason)


def _gatherer(image: np.ndarray, mesh: Mesh | None) -> Callable[[np.ndarray | Array], Array]:
    """Puts photos u8[n, S, S, 3] on every device; returns a function of rows i32[B, N] to u8[B, N, S, S, 3]."""
    try:
        if mesh is None:
            images, sharding = jax.device_put(image), None
        else:
            images, sharding = jax.make_array_from_process_local_data(replicated(mesh), image), batch_sharding(mesh)
        jax.block_until_ready(images)
    except jax.errors.JaxRuntimeError:
        raise UserError(
            f'cache="device" needs {image.nbytes / 2**30:.1f} GiB on each device, which is more than is free: '
            'use cache="host", or None'
        ) from None
    gather = jax.jit(lambda images, rows: images.at[rows].get(mode="clip"), out_shardings=sharding)
    return lambda rows: gather(images, rows)


def _leave_interrupts_to_the_main_process(worker: int, workers: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
