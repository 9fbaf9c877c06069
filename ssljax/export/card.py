"""The model card: what a network is, what it learnt from, how well it finds, and how it is loaded."""

from collections.abc import Callable
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.atomic_files import write_text
from ssljax.models.weights.layouts import written
from ssljax.training.export import shown_table, starts_in
from ssljax.training.run_folder import Run
from ssljax.types import Embed

UNSTATED = "its licence is not stated; see where the file came from"


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
    trained = "Trained with ssljax."
    if not e.epochs:
        trained = "It was not trained: these are the weights it started from."
        recipe |= {"optimizer": "", "training": f"none, seed {e.seed}"}
    parts = [
        f"# {e.name}",
        f"A network that embeds photos: those of the same or of similar items have a high cosine. {trained}",
        f"## Load\n\n{load}",
        f"## Data\n\n{_text(e.data)}",
        "## Recipe\n\n" + "\n".join(f"- {name}: {value}" for name, value in recipe.items() if value),
        "## Metrics\n\n" + figures_table(shown_table(results)),
        more,
        "## Weights it started from\n\n" + _starts(starts_in(results, method)),
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


def _starts(starts: list[dict[str, str | None]]) -> str:
    files = [f"- `{start['weights']}`: {start['license'] or UNSTATED}" for start in starts]
    return "\n".join(files) or "None: the weights began as random numbers."
