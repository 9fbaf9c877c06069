"""Checkpoints by Orbax: asynchronous, atomic, restorable on another number of devices.

Each holds the training state, the position in the data, the time spent, and the checksums of all these files. Orbax
writes to a temporary folder and renames it at the end, so a half-written one is never seen as a checkpoint.
"""

import contextlib
import errno
import json
import logging
import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from ssljax.data.atomic_files import MOST_JSON, checksums, first_damaged, read_bytes, write_json
from ssljax.sharding import any_process, any_says, is_first_process
from ssljax.training.logging import console
from ssljax.training.run_folder import by_bucket
from ssljax.types import PyTree, UserError

KEPT = 2
WAITS = (1.0, 4.0, 16.0)  # seconds before reading is tried again
CHECKSUMS = "checksums.json"
CHECKED = "checksums"  # in the position: whether the checkpoint was saved with them


def _silence_duplicate_errors() -> None:
    """Drops the pages that Orbax's threads log and print beside the error it raises when the disk is full."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname and "exception was never retrieved" not in record.getMessage()

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(is_wanted)
    show = sys.unraisablehook

    def show_wanted(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":  # tensorstore reports to one that the error ended
            show(unraisable)

    sys.unraisablehook = show_wanted


_silence_duplicate_errors()


class _Checked(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A temporary folder that gets the checksums of its files before the rename that makes it a checkpoint.

    The two files that Orbax writes later have none: nothing is restored from them.
    """

    async def finalize(self) -> None:
        step = self.get_final().name
        if step.isdecimal():  # the parts of a checkpoint come here too, before it
            folder = Path(self.get())
            files = {name: found for name, found in checksums(folder).items() if "/" in name}
            write_json(folder / CHECKSUMS, {"step": int(step), "files": files})
        await super().finalize()


# The status that tensorstore and XLA name first. All but those of DAMAGE tell of networks, quotas, rights or servers.
STATUS = re.compile(
    r"\b(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|INVALID_ARGUMENT|NOT_FOUND|"
    r"OUT_OF_RANGE|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|UNAVAILABLE|UNIMPLEMENTED|UNKNOWN)\b"
)
DAMAGE = ("DATA_LOSS", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "UNIMPLEMENTED")
# What reading raises without a status where a checkpoint is not what it should be: JSON, shapes, names.
CONTENT = (
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, EOFError, RecursionError),
    *(NotImplementedError, zlib.error),
)


def _may_pass(error: Exception) -> bool:
    """Whether an error tells of the way to a file rather than of its content, so that reading may succeed later."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return False
    if isinstance(error, OSError):  # Cloud Storage's clients leave out the number
        return error.errno not in (errno.EINVAL, errno.EFBIG)
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        return int(found[1]) not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    if by_bucket(error):
        return True
    if found := STATUS.search(str(error)):
        return found[1] not in DAMAGE
    return not isinstance(error, CONTENT)


class Checkpoints:
    """The checkpoints of a run, the last two kept: in a folder that all processes see, or in a bucket, "gs://...".

    Those in a bucket have no checksums of ours: Cloud Storage has its own.
    """

    def __init__(self, folder: Path):
        self._local = "://" not in str(folder)
        self._folder = folder.absolute() if self._local else folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT,
            create=True,
            enable_async_checkpointing=True,
            temporary_path_class=_Checked if self._local else None,  # a bucket has no renames
            lightweight_initialize=True,  # or else it stops at notes of its own that are damaged
            single_host_load_and_broadcast=True,  # all processes see the same steps
        )
        with self._raising_os_errors():
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._position: dict[str, Any] = {}
        self._damaged: list[int] = []

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """The steps of all kept checkpoints; waits until everything is on disk."""
        self.wait()
        return list(self._manager.all_steps())

    def save(self, step: int, state: PyTree, position: dict[str, Any]) -> None:
        """Starts saving `state` and `position`, which must be JSON; returns once they are copied.

        Raises OSError if this checkpoint, or the one before it, cannot be written.
        """
        self._set_damaged_aside()
        checked = ocp.args.JsonSave(position | {CHECKED: self._local})
        with self._raising_os_errors():
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), position=checked))

    def restore(self, shapes: PyTree, shardings: PyTree) -> PyTree:
        """Returns the newest state that is intact for every process, laid out by `shardings`.

        All processes take the same step. `shapes` comes from `jax.eval_shape`. Prints a note if it is not the newest
        checkpoint, or has no checksums. Raises UserError if there is none, or if a file exists but some process cannot
        read it, even after some tries: that is not taken for damage.
        """
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target), position=ocp.args.JsonRestore())
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, checked, reason = self._read(step, args)
            if reason is None:
                break
            damaged[step] = reason
        else:
            reasons = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
            raise UserError(
                f"no checkpoint in {self._folder} can be read ({reasons}): if another version of ssljax trained it, "
                "use that one; or else put back a copy of one, or train anew with --restart or another --name"
            )
        for bad, reason in damaged.items():
            console.print(f"{self._folder / str(bad)} cannot be read ({reason}): step {step} is used instead.")
        if self._local and not checked:
            console.print(
                f"{self._folder / str(step)} has no checksums, as an earlier version of ssljax saved it: damage that "
                "can still be read would go unnoticed."
            )
        self._position, self._damaged = restored.position, list(damaged)
        return restored.state

    def _read(self, step: int, args: ocp.args.Composite) -> tuple[Any, bool, str | None]:
        """Returns a checkpoint, whether it has checksums, and what is wrong with it, on which all processes agree."""
        folder = self._folder / str(step)
        checked, reason = self._agreed(lambda: self._checked(step)) if self._local else (False, None)
        checked = not any_process(not checked)
        if reason is not None:
            return None, checked, reason

        def read() -> tuple[Any, str | None]:
            # The manager's own `restore` ends with a barrier, where the others would wait for a process that failed.
            restored = ocp.CompositeCheckpointHandler().restore(epath.Path(folder), args=args)
            lost = restored.position.pop(CHECKED, False) and not checked
            return restored, f"{CHECKSUMS} is missing" if lost else None

        restored, reason = self._agreed(read)
        if reason is not None and checked:
            raise UserError(
                f"{folder} cannot be restored ({reason}), though its checksums are right: if another version of "
                "ssljax trained it, use that one; or else try again"
            )
        return restored, checked, reason

    def _agreed(self, read: Callable[[], tuple[Any, str | None]]) -> tuple[Any, str | None]:
        """What `read` returns: a value, and the damage that it found, which is the first that any process found.

        What it raises is damage, except for errors that may pass: then it is called again after each of WAITS, and
        in the end all processes raise UserError.
        """
        value, damage, unread = None, None, None
        for wait in (*WAITS, None):
            try:
                value, damage = read()
                unread = None
            except Exception as error:  # on a broken checkpoint Orbax raises whatever it stumbles over
                reason = re.split(r"\n| \[tensorstore_spec", str(error).strip())[0] or type(error).__name__
                if not _may_pass(error):
                    damage, unread = reason, None
                    break
                place = getattr(error, "filename", None) or self._folder
                unread = f"{place} cannot be read ({getattr(error, 'strerror', None) or reason})"
                if wait is not None:
                    console.print(f"{unread}: trying again in {wait:.0f} s")
                    time.sleep(wait)
                    continue
            break
        unread = any_says(unread)
        if unread is not None:
            raise UserError(f"{unread}, which need not be damage: try again")
        return value, any_says(damage)

    def _checked(self, step: int) -> tuple[bool, str | None]:
        """Whether a checkpoint has checksums, and what is wrong by them; raises OSError if it cannot be read."""
        folder = self._folder / str(step)
        try:
            content = json.loads(read_bytes(folder / CHECKSUMS, MOST_JSON))
            saved, damaged = content["step"], first_damaged(folder, content["files"])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EFBIG, errno.EISDIR):  # no file at all
                return True, f"{CHECKSUMS} is damaged"
            if not isinstance(error, FileNotFoundError):
                raise
            checksums(folder)  # to know that all can be read, or why not
            return False, None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return True, f"{CHECKSUMS} is damaged"
        if damaged is not None:
            return True, f"{damaged.relative_to(folder)} is missing or damaged"
        return True, None if saved == step else f"it is that of step {saved}"

    @property
    def position(self) -> dict[str, Any]:
        """The position that was saved with the restored state."""
        return self._position

    def _set_damaged_aside(self) -> None:
        """Renames damaged checkpoints: Orbax refuses to save a step before the newest one that it sees."""
        for step in self._damaged if is_first_process() else ():
            with contextlib.suppress(FileNotFoundError):  # somebody else has cleared it
                (self._folder / str(step)).rename(self._folder / f"damaged-{step}-{time.time_ns()}")
        if any_process(bool(self._damaged)):
            self._manager.reload()
        self._damaged = []

    def wait(self) -> None:
        """Returns once everything is on disk; raises OSError if it cannot be written."""
        with self._raising_os_errors():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _raising_os_errors(self) -> Iterator[None]:
        """Turns the errors by which Orbax reports that the system refuses into an OSError of the folder."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self._folder)) from error
        except Exception as error:
            number = re.search(r"os_error_code='(\d+)'", str(error))
            if number is None and not self._local and _may_pass(error):
                raise OSError(errno.EIO, str(error), str(self._folder)) from error
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(self._folder)) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        with self._raising_os_errors():
            self._manager.close()
