"""Atomic files: written beside their place, then moved there in one step, and read only if every byte is right.

A folder written by `save_folder` holds `manifest.json` and the one data folder that it names. Saving again writes a new
data folder and then replaces the manifest. That is a single file, so a reader, or a crash, sees either the old content
or the new.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ssljax.types import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "manifest.json"
CLAIM = "lock"
SCHEMA = 1
MOST_JSON = 2**28  # bytes
DATA_FOLDER = re.compile(r"data-[0-9a-f]{16}")
LEFT_OVER = re.compile(r"\.manifest\.json\.[0-9a-f]{16}")  # by a process that was killed


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Makes any OSError inside the block name a file: `path`, if it names none itself."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # one that has only a message would lose it
            error.filename = error.filename or str(path)
        raise


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file with `write`, which gets it open, and puts it at `path`. If that fails, the old file stays.

    Creates the folder if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with writing_to(path), open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    replace_file(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading; raises OSError for anything else: a pipe or a device may never end."""
    # O_NONBLOCK: opening a pipe must not wait for a writer
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file; raises OSError if it is larger than `most` bytes, or as `open_regular` does."""
    with open_regular(path) as file:
        size, data = os.fstat(file.fileno()).st_size, b""
        while size <= most:
            data += file.read(size + 1 - len(data))
            if len(data) <= size:
                return data
            size = 2 * size + 2**16  # it grows, or its size is not known, as under /proc
    raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))


def read_text(path: Path) -> str:
    """The text of a regular file; bytes that are not UTF-8 become U+FFFD. Raises OSError as `read_bytes` does."""
    return read_bytes(path, MOST_JSON).decode("utf-8", "replace")


def read_json(path: Path, remedy: str, *needed: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises UserError, ending in `remedy`, if the file is missing or damaged, or lacks one of the `needed` names.
    """
    try:
        value = json.loads(read_bytes(path, MOST_JSON))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise UserError(f"{path} is damaged ({error}): {remedy}") from None
    missing = [name for name in needed if name not in value] if isinstance(value, dict) else ["object"]
    if missing:
        raise UserError(f"{path} is damaged (it has no {' and no '.join(missing)}): {remedy}")
    return value


@contextlib.contextmanager
def read_as(what: str, path: Path, remedy: str) -> Iterator[None]:
    """For reading a file that may hold anything: turns whatever the reader raises into a UserError.

    It says that `path` is damaged or holds no `what`, and the `remedy`.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is damaged or holds no {what} ({first}): {remedy}") from error


def save_folder(
    folder: Path,
    facts: dict[str, Any],
    write: Callable[[Path], None],
    *,
    beside: Callable[[str], bool] = lambda name: False,
) -> None:
    """Replaces the content of `folder` by the files that `write` puts into the empty folder it is given.

    Args:
      folder: created if needed; it may hold only what an earlier call saved.
      facts: what `open_folder` returns; JSON.
      write: makes plain files, no folders.
      beside: says by its name whether another file may lie in the folder; such files stay as they are.

    Raises:
      UserError: the folder holds other things, which could be the user's.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, exclusive=True):
        names = [name for name in os.listdir(folder) if not beside(name)]
        others = [n for n in names if n != MANIFEST and not DATA_FOLDER.fullmatch(n) and not LEFT_OVER.fullmatch(n)]
        if others:
            raise UserError(f"{folder} holds other files ({sorted(others)[0]}): give a new or empty folder")
        data = folder / f"data-{secrets.token_hex(8)}"
        data.mkdir()
        try:
            write(data)
            files = checksums(data)
            for name in files:
                _flush(data / name)
            content = {"data": data.name, "files": files, "facts": facts}
            manifest = {"schema": SCHEMA, "sha256": _sha256_of_json(content), "content": content}
            replace_file(folder / MANIFEST, lambda file: file.write(json.dumps(manifest, indent=1).encode()))
        except BaseException:
            shutil.rmtree(data, ignore_errors=True)
            raise
        for name in names:  # the old content, and what a killed process left
            if DATA_FOLDER.fullmatch(name):
                shutil.rmtree(folder / name, ignore_errors=True)
            elif name != MANIFEST:
                (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Locks an existing folder for one writer (`exclusive`) or any number of readers at a time; others wait.

    The lock holds between the threads and processes of a machine, and ends with its process. On Windows, and on file
    systems without locks, there is none: then save from one process at a time.
    """
    if fcntl is None or not Path(folder).is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def ascii_name(folder: Path) -> Iterator[str]:
    """A name of a folder for C++ libraries, which fail on names that are not UTF-8, and in other locales: on Linux it
    is ASCII, whatever the folder is called."""
    if str(folder).isascii() or not os.path.isdir("/proc/self/fd"):
        yield str(folder)
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Reserves a folder for one process that changes it, until the block or the process ends.

    Raises UserError if another process holds it. On Windows, and on file systems without locks, it reserves nothing.
    """
    with open(folder / CLAIM, "ab") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder} is being changed by another process: end that one first") from None
        except OSError:  # no locks here
            pass
        yield


def open_folder(folder: Path) -> tuple[dict[str, Any], Path]:
    """The facts and the data folder that `save_folder` wrote.

    Raises UserError if the folder is missing or was not written by it, or if a file is missing, added or changed.
    """
    folder = Path(folder)
    try:
        manifest = json.loads(read_bytes(folder / MANIFEST, MOST_JSON))
        schema, content = manifest["schema"], manifest["content"]
        whole = manifest["sha256"] == _sha256_of_json(content)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        state = "holds none or a damaged one" if folder.is_dir() else "is not there"
        raise UserError(f"no index in {folder}: the folder {state}; build the index anew") from None
    if schema != SCHEMA:
        raise UserError(f"{folder} has schema {schema}: this version of ssljax reads {SCHEMA}; build the index anew")
    kinds = {"data": str, "files": dict, "facts": dict}
    whole &= isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in kinds.items())
    if not (whole and DATA_FOLDER.fullmatch(content["data"])):
        raise UserError(f"{folder / MANIFEST} is damaged: build the index anew")
    data, files = folder / content["data"], content["files"]
    # nor may there be a file that is not listed: ScaNN, for one, unpickles a file if it finds it
    there = {path.name for path in data.iterdir()} if data.is_dir() else set()
    if there != set(files):
        raise UserError(
            f"{data} is damaged: {sorted(there ^ set(files))[0]} is missing or foreign; build the index anew"
        )
    damaged = first_damaged(data, files)
    if damaged is not None:
        raise UserError(f"{damaged} is damaged: its checksum differs; build the index anew")
    return content["facts"], data


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """The path of each file under `folder`, relative to it → its size in bytes and its SHA-256."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in paths}


def first_damaged(folder: Path, files: dict[str, dict[str, Any]]) -> Path | None:
    """The first file that is missing or differs from what `checksums` found; None if there is none.

    Raises OSError if a file exists but cannot be read: that is no damage.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            if not stat.S_ISREG(os.stat(path).st_mode) or checksum(path) != expected:
                return path
        except (FileNotFoundError, NotADirectoryError):
            return path
    return None


def checksum(path: Path) -> dict[str, Any]:
    """The size of a file in bytes, and its SHA-256."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sha256_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Writes a file through to the disk: after a power cut, a manifest must not list files that were lost."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
