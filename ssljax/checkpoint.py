"""Checkpoints by Orbax: asynchronous, atomic, restorable on another number of devices.

Each holds the training state and the position in the data. Orbax writes to a temporary folder and renames it at the
end, so a half-written one is never seen as a checkpoint.
"""

import json
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

    def save(self, step: int, state: PyTree, data: Any) -> None:
        """Begins to save `state` and the position of the iterator `data`; returns once they are copied."""
        if step == self.latest:
            return
        position = ocp.args.JsonSave(json.loads(data.get_state()))
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=position))

    def restore(self, shapes: PyTree, shardings: PyTree) -> PyTree:
        """The newest state, laid out by `shardings`; `shapes` is the tree of `jax.eval_shape`."""
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        restored = self._manager.restore(self.latest, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        return restored.state

    def restore_position(self, data: Any) -> None:
        """Sets the iterator `data` (`set_state`) to its position at the newest checkpoint."""
        restored = self._manager.restore(self.latest, args=ocp.args.Composite(data=ocp.args.JsonRestore()))
        data.set_state(json.dumps(restored.data).encode())

    def wait(self) -> None:
        """Returns once everything is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()
