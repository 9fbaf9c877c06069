"""Checkpoints by Orbax: asynchronous, atomic, restorable on another number of devices.

Each holds the training state, the position in the data, and the time spent. Orbax writes to a temporary folder and
renames it at the end, so a half-written one is never seen as a checkpoint.
"""

import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ssljax.logging import console
from ssljax.sharding import any_process, is_first_process
from ssljax.types import PyTree, UserError

KEPT = 2


class Checkpoints:
    """The checkpoints of a run, the last two kept."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=True)
        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._position: dict[str, Any] = {}
        self._damaged: list[int] = []

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """The steps of those that are kept; waits until everything is on disk."""
        self.wait()
        return list(self._manager.all_steps())

    def save(self, step: int, state: PyTree, position: dict[str, Any]) -> None:
        """Begins to save `state`, and `position`, which must be JSON; returns once they are copied."""
        self._set_damaged_aside()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
        self._manager.save(step, args=args)

    def restore(self, shapes: PyTree, shardings: PyTree) -> PyTree:
        """The newest state that can be read, laid out by `shardings`; `shapes` is the tree of `jax.eval_shape`.

        Says so on the console if it is not the newest. Raises UserError if none can be read.
        """
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target), position=ocp.args.JsonRestore())
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(step, args=args)
            except Exception as error:  # on a broken checkpoint Orbax raises whatever it stumbles over
                damaged[step] = str(error).strip().partition("\n")[0] or type(error).__name__
                continue
            for bad, reason in damaged.items():
                console.print(f"{self._folder / str(bad)} cannot be read ({reason}): step {step} is used instead.")
            self._position, self._damaged = restored.position, list(damaged)
            return restored.state
        reasons = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
        raise UserError(
            f"no checkpoint in {self._folder} can be read ({reasons}): if another version of ssljax trained it, use "
            "that one; or else put back a copy of one, or train anew with --restart or another --name"
        )

    @property
    def position(self) -> dict[str, Any]:
        """What was saved beside the state that was restored."""
        return self._position

    def _set_damaged_aside(self) -> None:
        """Renames the checkpoints that could not be read: Orbax saves none before the newest that it sees."""
        for step in self._damaged if is_first_process() else ():
            (self._folder / str(step)).rename(self._folder / f"damaged-{step}-{time.time_ns()}")
        if any_process(bool(self._damaged)):
            self._manager.reload()
        self._damaged = []

    def wait(self) -> None:
        """Returns once everything is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()
