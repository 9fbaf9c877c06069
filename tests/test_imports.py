"""Imports point down, flax stays in models, scann in the index, and orbax in the checkpoints."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ssljax"
# What each part may import of the others, from the bottom up.
ALLOWED = {
    "types": set(),
    "allocator": set(),
    "fields": {"types"},
    "schedules": {"types"},
    "queue": {"types"},
    "files": {"types"},
    "paths": {"types"},
    "text": set(),
    "sharding": {"queue", "types"},
    "losses": {"sharding", "types"},
    "models": {"sharding", "types"},
    "optim": {"fields", "models", "schedules", "types"},
    "views": {"fields", "paths", "types"},
    "data": {"fields", "files", "logging", "paths", "sharding", "text", "types"},
    "methods": {"fields", "losses", "models", "queue", "schedules", "sharding", "types"},
    "retrieval": {"data", "fields", "files", "text", "types"},
    "signals": set(),
    "train": {"types"},
    "checkpoint": {"files", "logging", "sharding", "types"},
    "logging": {"files", "text"},
    "experiment_file": set(),
    "config": {"data", "experiment_file", "fields", "methods", "models", "optim", "retrieval", "types", "views"},
    "contact_sheet": {"config", "data", "fields", "types", "views"},
    "run": {"config", "experiment_file", "files", "logging", "sharding", "types"},
    "embed": {"config", "data", "retrieval", "sharding", "types"},
    "finish": {"config", "data", "embed", "files", "logging", "models", "retrieval", "run", "sharding", "types"},
    "comparison": {"config", "files", "finish", "retrieval", "run", "types"},
    "robustness": {"config", "data", "embed", "files", "logging", "retrieval", "run", "types", "views"},
    "unmark": {"data", "logging", "paths", "retrieval", "text", "types"},
    "loop": {"checkpoint", "config", "data", "embed", "files", "finish", "logging", "models"}
    | {"retrieval", "robustness", "run", "sharding", "signals", "train", "types"},
    "serve": {"data", "embed", "retrieval", "types"},
    "commands": {"comparison", "config", "contact_sheet", "data", "embed", "files", "finish", "logging", "loop"}
    | {"paths", "retrieval", "run", "serve", "sharding", "text", "types", "unmark"},
    "__main__": {"cli"},
    "cli": {"allocator", "commands", "data", "sharding", "signals", "text", "types"},
}
ONLY_IN = {
    "flax": "models/",
    "safetensors": "models/pretrained.py",
    "scann": "retrieval/index/scann.py",
    "faiss": "retrieval/index/faiss.py",
    "orbax": "checkpoint.py",
    "starlette": "serve/",
    "uvicorn": "serve/server.py",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    others = {name.split(".")[1] for name in imported(path) if name.startswith("ssljax.")} - {part}
    assert others <= (ALLOWED[part] if part != "__init__" else set())


@pytest.mark.parametrize("library, place", ONLY_IN.items())
def test_library_is_imported_in_one_place(library, place):
    users = {str(p.relative_to(PACKAGE)) for p in FILES if any(n.split(".")[0] == library for n in imported(p))}
    assert all(user.startswith(place) for user in users), users
