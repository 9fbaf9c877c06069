"""Checkpoints by Orbax: asynchronous, atomic, restorable on another number of devices.

Each holds the training state, the position in the data, and the time spent. Orbax writes to a temporary folder and
renames it at the end, so a half-written one is never seen as a checkpoint.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ssljax.types import PyTree

KEPT = 2


class Checkpoints:
    """The checkpoints of a run, the last two kept."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree, position: dict[str, Any]) -> None:
        """Begins to save `state`, and `position`, which must be JSON; returns once they are copied."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
        self._manager.save(step, args=args)

    def restore(self, shapes: PyTree, shardings: PyTree) -> PyTree:
        """The newest state, laid out by `shardings`; `shapes` is the tree of `jax.eval_shape`."""
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        restored = self._manager.restore(self.latest, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        return restored.state

    def position(self) -> dict[str, Any]:
        """What was saved beside the newest state."""
        return self._manager.restore(self.latest, args=ocp.args.Composite(position=ocp.args.JsonRestore())).position

    def wait(self) -> None:
        """Returns once everything is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()
