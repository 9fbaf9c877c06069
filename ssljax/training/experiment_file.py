"""An experiment file: Python that defines `config`, an `Experiment`, and may define `sweep`, a list of them.

The file is executed, and so are the modules beside it that it imports: run only files that you trust.

One process may read two experiments that each have a `tico.py` of their own. So their folders do not go on `sys.path`:
a file and what it imports from beside it become modules of a package made for them, `ssljax_experiment_1` and so on,
and `import tico` means `ssljax_experiment_1.tico` in them, and there alone. As the folder is not on the path, a
`random.py` in it hides nothing from anybody else.
"""

import ast
import builtins
import dataclasses
import functools
import importlib.util
import itertools
import os
import pkgutil
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

from ssljax.config import Experiment
from ssljax.data.text import did_you_mean, nearest
from ssljax.types import UserError, settings, short

PREFIX = "ssljax_experiment_"
IMPORTED = "imported"
"""The folder beside a run's copy of its experiment file that holds the copies of what it imports."""
_numbers = itertools.count(1)


def run_file(path: Path) -> ModuleType:
    """Executes a Python file and returns its module; raises whatever the file does."""
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
    assert spec is not None and spec.loader is not None  # of the loader given
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where a class's module is looked for
    spec.loader.exec_module(module)
    return module


def place(error: BaseException) -> tuple[str, int] | None:
    """The last file and line of the user's code that an error passed through; None if there is none."""
    if isinstance(error, SyntaxError):
        there = error.lineno and os.path.isfile(error.filename or "")
        return (str(error.filename), int(error.lineno or 0)) if there else None
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(f.f_code.co_filename, line) for f, line in frames if f.f_globals.get("__name__", "").startswith(PREFIX)]
    return own[-1] if own else None


def plain_names(message: str) -> str:
    """A Python error message with the module names that the user knows."""
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
            files = [Path(str(spec.origin))] if spec.has_location else []
            for folder in spec.submodule_search_locations or ():
                files += Path(folder).rglob("*.py")
            top = len(Path((spec.submodule_search_locations or [str(spec.origin)])[0]).parent.parts)
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
        elif isinstance(node, ast.ImportFrom) and node.module:
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
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": functools.partial(_import, package)}
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


def load_experiments(path: Path) -> tuple[Experiment, list[Experiment]]:
    """`config` and `sweep` of an experiment file; an absent sweep is empty, and an absent config its first.

    Raises UserError if there is no such file, it cannot be run, or it defines neither.
    """
    if not os.path.isfile(path):
        raise UserError(f"there is no experiment file {path}")
    if path.suffix != ".py":
        raise UserError(f"{path} is not an experiment: it must be a Python file, such as {path.stem}.py")
    try:
        module = run_file(path)
    except UserError as error:
        raise UserError(f"{path}{_line(error, path, ', line {}')}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever the file does wrong
        if said := _wrong_field(error):
            raise UserError(f"{path}{_line(error, path, ', line {}')}: {said}") from error
        message = error.msg if isinstance(error, SyntaxError) else plain_names(str(error))
        line = _line(error, path, " (line {})")
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {message}{_meant(error)}{line}") from error
    names = vars(module)
    sweep = names.get("sweep", [])
    if not isinstance(sweep, list | tuple):
        raise UserError(f"{path}: sweep={short(sweep)} must be a list of experiments")
    config: Any = names.get("config", sweep[0] if sweep else None)
    for name, value in {"config": config, **{f"sweep[{k}]": e for k, e in enumerate(sweep)}}.items():
        if not isinstance(value, Experiment):
            there = f"{name}={short(value)} is none" if value is not None else "it has neither"
            raise UserError(f"{path} must define `config`, an Experiment, or `sweep`, a list of them: {there}")
    return config, list(sweep)


def _line(error: BaseException, path: Path, form: str) -> str:
    """The last line that was reached of the file, or of a file that it imports, in `form`; nothing if none was."""
    if (there := place(error)) is None:
        return ""
    file, line = there
    return form.format(line if file == str(path.absolute()) else f"{line} of {file}")


def _wrong_field(error: BaseException) -> str | None:
    """What to say of a field that a class of ours, or of the user's, does not have; None for any other error."""
    found = re.match(r"([\w.]+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not isinstance(error, TypeError) or not found:
        return None
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("ssljax")]
    for kind in (getattr(module, found[1], None) for module in modules):
        if dataclasses.is_dataclass(kind):
            return f"{found[1]} has no field {found[2]!r}{did_you_mean(found[2], [f.name for f in settings(kind)])}"
    return None


def _meant(error: BaseException) -> str:
    """The end of a sentence about a name that a module of ours does not have: the one that was meant, perhaps."""
    found = re.match(
        r"cannot import name '(\w+)' from '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'", str(error)
    )
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("ssljax."):
        module, name = "ssljax", str(error.name).split(".")[1]
        names = [m.name for m in pkgutil.iter_modules(sys.modules[module].__path__)]
    elif isinstance(error, ImportError | AttributeError) and found:
        module, name = found[2] or found[3], found[1] or found[4]
        names = getattr(sys.modules.get(module), "__all__", [])
    else:
        return ""
    meant = nearest(name, names)
    return f": did you mean {meant!r}?" if meant else ""
