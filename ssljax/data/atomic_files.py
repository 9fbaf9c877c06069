"""Files that are whole or not there: written aside, then put in place in one step; read only if every byte is right.

A folder written by `save_folder` holds `manifest.json` and one data folder that it names. Saving anew writes another
data folder and then replaces the manifest, which is one file, so that a reader or a crash sees the old content or the
new.
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
from collections.abc import Callable, Iterator, Mapping
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
    """Within it an OSError that does not say which file it is about says `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # one that has only a message would lose it
            error.filename = error.filename or str(path)
        raise


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """What `write` puts into a file beside `path` becomes `path`; a failure leaves the old one. The folder is made."""
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
    """A text file in UTF-8, whole or not at all."""
    replace_file(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def open_regular(path: Path) -> BinaryIO:
    """A regular file, to be read; raises OSError if it is anything else, as a pipe or a device need never end."""
    # A pipe without a writer is opened without waiting for one.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path, most: int) -> bytes:
    """What a regular file holds; raises OSError if that is more than `most` bytes, or as `open_regular`."""
    with open_regular(path) as file:
        size, data = os.fstat(file.fileno()).st_size, b""
        while size <= most:
            data += file.read(size + 1 - len(data))
            if len(data) <= size:
                return data
            size = 2 * size + 2**16  # it grows, or its size is not known, as under /proc
    raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))


def read_text(path: Path) -> str:
    """The text of a regular file, with a sign for what is no UTF-8; raises OSError as `read_bytes`."""
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
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise UserError(f"{path} is damaged ({error}): {remedy}") from None
    missing = [name for name in needed if name not in value] if isinstance(value, dict) else ["object"]
    if missing:
        raise UserError(f"{path} is damaged (it has no {' and no '.join(missing)}): {remedy}")
    return value


@contextlib.contextmanager
def read_as(what: str, path: Path, remedy: str) -> Iterator[None]:
    """Within it a file is read that may hold anything.

    Whatever its content makes the reader stumble over is raised as UserError: `path` holds no `what`, and the `remedy`.
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


def has_shape(value: Any, shape: Mapping[str, type]) -> bool:
    """Whether a value that was JSON is an object in which each name of `shape` has a value of that type."""
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in shape.items())


def save_folder(
    folder: Path,
    facts: dict[str, Any],
    write: Callable[[Path], None],
    *,
    beside: Callable[[str], bool] = lambda name: False,
) -> None:
    """Replaces what `folder` holds by the files that `write` puts into the empty folder that it is given.

    Args:
      folder: made if needed; it may hold only what an earlier call saved.
      facts: what `open_folder` gives back, as JSON.
      write: makes plain files, no folders.
      beside: tells by their names which other files may lie in the folder; they stay as they are.

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
    """One writer (`exclusive`), or any number of readers, at a time in a folder that is there; others wait.

    Holds among threads and processes of a machine; the lock of a process that dies is free. On Windows, and on file
    systems without locks, there is none: then save one at a time.
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
    """A name of a folder for libraries in C++, which fail on bytes that are no UTF-8, and in another locale: on Linux
    it is ASCII, whatever the folder is called."""
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
    """The right to change what lies in a folder, which one has at a time; it ends with the process at the latest.

    Raises UserError if another has it. On Windows, and on file systems without locks, everyone gets it.
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
    """The facts and the data folder of what `save_folder` wrote.

    Raises UserError if the folder is not there or not one of these, or if a file is missing, added or changed.
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
    shape = {"data": str, "files": dict, "facts": dict}
    if not (whole and has_shape(content, shape) and DATA_FOLDER.fullmatch(content["data"])):
        raise UserError(f"{folder / MANIFEST} is damaged: build the index anew")
    data, files = folder / content["data"], content["files"]
    # no file more than is listed either: ScaNN, for one, unpickles a file if it finds it
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
    """The path of each file in `folder` and in the folders in it, from there → its size in bytes and its SHA-256."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in paths}


def first_damaged(folder: Path, files: dict[str, dict[str, Any]]) -> Path | None:
    """The first file that is missing or is not as `checksums` found it; None if all are.

    Raises OSError if a file that is there cannot be read, which is no damage.
    """
    for name, expected in files.items():
        path = folder / name
        try:
            if not stat.S_ISREG(os.stat(path).st_mode) or _checksum(path) != expected:
                return path
        except (FileNotFoundError, NotADirectoryError):
            return path
    return None


def _checksum(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sha256_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    """To the disk: a manifest must not outlive, in a power cut, the files that it lists."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
