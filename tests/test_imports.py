"""Imports point down, flax stays in models, scann in the index, and orbax in the checkpoints."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ssljax"
# What each folder, and each module at the root, may import of the others, from the bottom up.
ALLOWED = {
    "__init__": {
        "data",
        "cli",
        "config",
        "evaluation",
        "export",
        "search",
        "training",
        "types",
    },  # all within functions
    "types": set(),
    "packages": {"types"},
    "schedules": {"types"},
    "queue": {"types"},
    "sharding": {"queue", "types"},
    "losses": {"sharding", "types"},
    "models": {"packages", "sharding", "types"},
    "optim": {"models", "schedules", "types"},
    "data": {"packages", "sharding", "types"},
    "views": {"data", "models", "sharding", "types"},
    "methods": {"losses", "models", "queue", "schedules", "sharding", "types"},
    "train": {"methods", "types"},
    "evaluation": {"config", "data", "models", "sharding", "training", "types", "views"},
    "search": {"data", "evaluation", "types"},
    "config": {"data", "evaluation", "methods", "models", "optim", "schedules", "search", "types", "views"},
    "report": {"config", "data", "evaluation", "models", "training", "types", "views"},
    "training": {"config", "data", "evaluation", "models", "sharding", "train", "types", "views"},
    "export": {"config", "data", "evaluation", "models", "search", "sharding", "training", "types", "views"},
    "plan": {"config", "data", "evaluation", "models", "sharding", "training", "types"},
    "cli": {
        *("config", "data", "evaluation", "export", "models", "plan", "report", "search", "sharding"),
        *("training", "types", "views"),
    },
}
ONLY_IN = {
    "flax": "models/",
    "safetensors": "models/",
    "tokenizers": "data/titles/",
    "scann": "search/index/scann.py",
    "huggingface_hub": ("export/hub.py", "models/weights/location.py"),
    "faiss": "search/index/faiss.py",
    "orbax": "training/checkpoint.py",
    "fastapi": "search/serve/",
    "pydantic": "search/serve/",
    "starlette": "search/serve/",
    "uvicorn": "search/serve/server.py",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports."""
    names = set()
    tree = ast.parse(path.read_text())
    for node in tree.body:  # what only type checkers read is no import
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    others = {name.split(".")[1] for name in imported(path) if name.startswith("ssljax.")} - {part}
    assert others <= ALLOWED[part]


@pytest.mark.parametrize("library, place", ONLY_IN.items())
def test_library_is_imported_in_one_place(library, place):
    users = {str(p.relative_to(PACKAGE)) for p in FILES if any(n.split(".")[0] == library for n in imported(p))}
    assert all(user.startswith(place) for user in users), users
