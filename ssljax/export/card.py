"""The model card: what a network is, what it learnt from, how well it finds, and how it is loaded."""

import dataclasses
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.atomic_files import write_text
from ssljax.models import Pretrained
from ssljax.models.weights.layouts import written
from ssljax.models.weights.load import forget, read_cached
from ssljax.models.weights.location import PACKAGE
from ssljax.training.run_folder import Run
from ssljax.types import Embed, UserError

UNSTATED = "its licence is not stated in the file; see where the file came from"


def write_card(
    run: Run, experiment: Experiment, load: Callable[[str], Items], embed: Embed, results: dict[str, Any]
) -> None:
    """Writes card.md of a finished run into its folder."""
    write_text(run.card, card(experiment, results, LOAD_RUN.format(run.path.name)))


LOAD_RUN = '```python\nmodel = ssljax.load("{}")\nvectors = model.embed(["photo.jpg"]).vectors\n```\n'


def card(experiment: Experiment, results: dict[str, Any], load: str, more: str = "", what: str = "student") -> str:
    """The card as Markdown.

    Args:
        experiment: that of the run.
        results: of its results.json.
        load: Markdown that says how it is loaded.
        more: Markdown that comes after the figures.
        what: which network it is of.
    """
    e, method = experiment, experiment.method
    recipe = {
        "network": what,
        "method": type(method).__name__,
        "encoder": _text(getattr(method, "encoder", None)),
        "views": _text(e.views),
        "optimizer": _text(e.optimizer),
        "training": f"{results['steps']:,} steps of {e.batch_size} items, {e.epochs} epochs, seed {e.seed}",
    }
    parts = [
        f"# {e.name}",
        "A network that embeds photos: those of the same or of similar items have a high cosine. Trained with ssljax.",
        f"## Load\n\n{load}",
        f"## Data\n\n{_text(e.data)}",
        "## Recipe\n\n" + "\n".join(f"- {name}: {value}" for name, value in recipe.items() if value),
        "## Metrics\n\n" + figures_table(results["table"]),
        more,
        "## Weights it started from\n\n" + _starts(method),
        f"## Preprocessing\n\nPhotos are turned upright, converted to sRGB and resized to {e.photo_size} x "
        f"{e.photo_size} pixels, and their aspect ratio is kept beside them. The network sees the evaluation view of "
        "these, which the recipe's views make.",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _text(value: Any) -> str:
    """A setting in one line, as Markdown; nothing for None."""
    return "" if value is None else f"`{written(value)}`"


def figures_table(table: dict[str, dict[str, float]]) -> str:
    """Figures as Markdown: a row each, and a column for each network."""
    names = dict.fromkeys(name for row in table.values() for name in row)
    lines = [["figure", *table], ["---"] * (len(table) + 1)]
    lines += [[name, *(_figure(row.get(name)) for row in table.values())] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _starts(method: Any) -> str:
    files = [f"- `{start.weights}`: {_licence(start.weights)}" for start in _pretrained(method)]
    return "\n".join(files) or "None: the weights began as random numbers."


def _pretrained(value: Any) -> Iterator[Any]:
    """Every `Pretrained` in a value that has a file."""
    if isinstance(value, Pretrained) and value.weights:
        yield value
    if isinstance(value, tuple):
        for part in value:
            yield from _pretrained(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.init:
                yield from _pretrained(getattr(value, field.name, None))


def _licence(weights: str) -> str:
    """What the file says of its licence, or the installed package that it lies in."""
    try:
        said = read_cached(weights).metadata.get("license")
        forget()
        if said or not weights.startswith(PACKAGE):
            return said or UNSTATED
        package = metadata.metadata(weights.removeprefix(PACKAGE))
    except (UserError, OSError, metadata.PackageNotFoundError):
        return UNSTATED
    stated = (package[field] for field in ("License-Expression", "License") if field in package)
    return next(filter(None, stated), UNSTATED)
