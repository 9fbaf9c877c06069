"""A queue of the keys of past batches (MoCo, He et al. 2020, section 3.2).

Kept as [B, slots, D], a slot for each past batch, and sharded along B exactly as a batch is. So every device writes
its own keys into its own shard, nothing of the queue ever travels, a queue of K keys costs each of n devices K / n,
and the layout does not depend on the number of devices. B comes first so that `flat`, [K, D], is split in the same
way: the reshape moves nothing either.

With labels beside the keys it is a cross-batch memory (XBM, Wang et al. 2020).
"""

import jax
import jax.numpy as jnp

from ssljax.types import Array, UserError, pytree


@pytree
class Queue:
    """Keys of the last batches. `count` batches have been written so far; the next goes to slot `count % slots`."""

    keys: Array  # f32[B, slots, D]
    count: Array  # i32[]
    labels: Array | None = None  # i32[B, slots] of the keys of a memory

    @property
    def flat(self) -> Array:
        """f32[K, D], the whole queue, not in order of time."""
        return self.keys.reshape(-1, self.keys.shape[-1])

    @property
    def valid(self) -> Array:
        """bool[K], False for the places of `flat` that have not been written yet."""
        batch, slots, _ = self.keys.shape
        return jnp.broadcast_to(jnp.arange(slots)[None] < self.count, (batch, slots)).reshape(-1)

    @property
    def newest(self) -> Array:
        """i32[B], the places in `flat` of the batch that was written last."""
        batch, slots, _ = self.keys.shape
        return jnp.arange(batch) * slots + (self.count - 1) % slots

    @property
    def fill(self) -> Array:
        """f32[], the share of the queue that holds keys."""
        slots = self.keys.shape[1]
        return jnp.minimum(self.count, slots) / slots


def empty_queue(size: int, batch_size: int, features: int) -> Queue:
    """An empty queue for `size` keys; raises UserError unless `size` is a multiple of `batch_size`."""
    if size < 1:
        raise UserError(f"method.queue_size={size} holds nothing: try {16 * batch_size}, 16 times batch_size")
    if size % batch_size:
        below, above = size // batch_size * batch_size, (size // batch_size + 1) * batch_size
        choice = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"method.queue_size={size} is not a multiple of batch_size={batch_size}: try {choice}")
    return Queue(
        keys=jnp.zeros((batch_size, size // batch_size, features), jnp.float32),
        count=jnp.zeros((), jnp.int32),
    )


def enqueue(queue: Queue, keys: Array, labels: Array | None = None) -> Queue:
    """`queue` with `keys` f32[B, D] in place of its oldest batch, and their labels i32[B] if it has labels.

    No gradient flows into the queue.
    """
    slot = queue.count % queue.keys.shape[1]
    written = jax.lax.dynamic_update_index_in_dim(queue.keys, jax.lax.stop_gradient(keys).astype(jnp.float32), slot, 1)
    if queue.labels is not None:
        labels = jax.lax.dynamic_update_index_in_dim(queue.labels, labels, slot, 1)
    return Queue(keys=written, count=queue.count + 1, labels=labels)


def empty_memory(size: int, rows: int, features: int) -> Queue:
    """A queue of `size` keys with their labels; raises UserError unless `size` is a multiple of a step's `rows`."""
    if size < 1 or size % rows:
        nearest = max(round(size / rows), 1) * rows
        raise UserError(
            f"method.memory.size={size} is not a multiple of the {rows} embeddings that a step adds, one of each view "
            f"of each item: try {nearest}, or 0 for no memory"
        )
    queue = empty_queue(size, rows, features)
    return Queue(queue.keys, queue.count, jnp.full(queue.keys.shape[:2], -1, jnp.int32))
