"""An experiment file is run, and so are the modules beside it that it imports.

One process may read two experiments that each have a `tico.py` of their own. So their folders do not go on `sys.path`:
a file and what it imports from beside it become modules of a package made for them, `ssljax_experiment_1` and so on,
and `import tico` means `ssljax_experiment_1.tico` in them, and there alone. As the folder is not on the path, a
`random.py` in it hides nothing from anybody else.
"""

import ast
import builtins
import functools
import importlib.util
import itertools
import os
import re
import shutil
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

PREFIX = "ssljax_experiment_"
IMPORTED = "imported"
"""The folder beside a run's copy of its experiment file that holds the copies of what it imports."""
_numbers = itertools.count(1)


def run_file(path: Path) -> ModuleType:
    """The module that a Python file is, run; raises whatever it does."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    importlib.invalidate_caches()
    package = ModuleType(f"{PREFIX}{next(_numbers)}")
    package.__spec__ = ModuleSpec(package.__name__, None, is_package=True)
    package.__path__ = _folders(path)
    sys.modules[package.__name__] = package
    cloudpickle.register_pickle_by_value(package)  # worker processes do not have these modules
    name = f"{package.__name__}.__main__"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path.absolute())))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where a class's module is looked for
    spec.loader.exec_module(module)
    return module


def place(error: BaseException) -> tuple[str, int] | None:
    """The file and the line, the last of the user's, that an error came from; None if it came from none."""
    if isinstance(error, SyntaxError):
        return (error.filename, error.lineno) if error.lineno and os.path.isfile(error.filename or "") else None
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(f.f_code.co_filename, line) for f, line in frames if f.f_globals.get("__name__", "").startswith(PREFIX)]
    return own[-1] if own else None


def plain_names(message: str) -> str:
    """A message of Python's in which these modules have the names that the user knows."""
    return re.sub(rf"\b{PREFIX}\d+\.", "", message)


def copy_file(path: Path, to: Path) -> None:
    """Copies an experiment file, and into the folder `imported` beside the copy what it imports from beside it."""
    folder = to.parent / IMPORTED
    if to.exists() and to.samefile(path):
        return
    shutil.copyfile(path, to)
    shutil.rmtree(folder, ignore_errors=True)
    for name, file in _imported(path).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


def _folders(path: Path) -> list[str]:
    """Where a file's modules are looked for: beside a link as well as beside what it leads to, as Python does."""
    folders = (path.parent / IMPORTED, path.resolve().parent, path.parent)
    return list(dict.fromkeys(str(folder.absolute()) for folder in folders))


def _beside(name: str, folders: Sequence[str]) -> ModuleSpec | None:
    """The module or package of that name in one of the folders.

    None if there is none, or if the name is Python's, ours, or of an installed package that is in use.
    """
    there = sys.modules.get(name)
    origin = getattr(getattr(there, "__spec__", None), "origin", None) or ""
    installed = not {"site-packages", "dist-packages"}.isdisjoint(Path(origin).parts)
    if installed or name == "ssljax" or name in sys.stdlib_module_names:
        return None
    spec = PathFinder.find_spec(name, folders)
    if spec is None or spec.has_location or not (there or importlib.util.find_spec(name)):
        return spec
    return None  # any folder is a package to Python, the last that it thinks of


def _imported(path: Path) -> dict[Path, Path]:
    """Name in the folder of copies → file, for all that an experiment file imports from beside it, now or later.

    Packages are taken whole.
    """
    found: dict[Path, Path] = {}
    waiting = [path]
    while waiting:
        for name in _names(waiting.pop()):
            spec = _beside(name, _folders(path))
            if spec is None:
                continue
            files = [Path(spec.origin)] if spec.has_location else []
            for folder in spec.submodule_search_locations or ():
                files += Path(folder).rglob("*.py")
            top = len(Path((spec.submodule_search_locations or [spec.origin])[0]).parent.parts)
            new = {Path(*file.parts[top:]): file for file in files}
            waiting += [file for place, file in new.items() if place not in found]
            found |= new
    return found


def _names(file: Path) -> set[str]:
    """The first parts of the names that a file imports anywhere, within functions too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # not Python, or not read so far
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module is None):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


class _Finder:
    """Finds the modules of such packages, in the folders of each."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Compiles anew each time (so nothing is stale, and no __pycache__ is written), with imports as in `_import`."""

    def get_code(self, name: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        module.__builtins__ = vars(builtins) | {"__import__": functools.partial(_import, package)}
        super().exec_module(module)


def _import(
    package: str,
    name: str,
    globals: dict[str, Any] | None = None,
    locals: dict[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Python's `__import__`, for which the modules beside the file come first."""
    top = name.partition(".")[0]
    if level or _beside(top, sys.modules[package].__path__) is None:
        return __import__(name, globals, locals, fromlist, level)
    module = __import__(f"{package}.{name}", globals, locals, fromlist)
    return module if fromlist else sys.modules[f"{package}.{top}"]
