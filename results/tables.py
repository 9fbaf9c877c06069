"""Writes the figures of results/*.json into the pages, between the markers `<!-- results -->` and `<!-- /results -->`.

python results/tables.py            rewrites README.md and the pages of docs/ that have tables
python results/tables.py --check    exits 1 if a page is not what the results say
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README, DOCS = HERE.parent / "README.md", HERE.parent / "docs"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"
ROWS = ("raw pixels", "untrained", "trained", "teacher")
NOT_RUN = "not run"
BENCHMARK = "benchmark_"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def experiments() -> str:
    """Each finished experiment: what its first evaluator found, beside raw pixels."""
    rows = []
    for path in sorted(HERE.glob("*.json")):
        if path.name.startswith(BENCHMARK):
            continue
        record = json.loads(path.read_text())
        names = [n for n in record["table"]["trained"] if n.endswith(("cmc@1", "map@r"))]
        for name in names:
            values = [f"{record['table'][row][name]:.3f}" if row in record["table"] else "" for row in ROWS]
            rows.append([record["name"], name, *values])
        environment = record["environment"]
        minutes = record["seconds"] / 60
        rows[-len(names)][0] += f" ({environment['device']}, {environment['cpu_cores']} cores, {minutes:.0f} min)"
    return markdown(["experiment", "figure", *ROWS], rows) if rows else f"Experiments: {NOT_RUN}.\n"


def benchmark(name: str, title: str) -> str:
    """The table of one benchmark, group → row → figures, as its script recorded it."""
    path = HERE / f"{BENCHMARK}{name}.json"
    if not path.exists():
        return f"{title}: {NOT_RUN}.\n"
    record = json.loads(path.read_text())
    measured = [f for rows in record["table"].values() for f in rows.values() if isinstance(f, dict)]
    columns = list(dict.fromkeys(c for figures in measured for c, value in figures.items() if value is not None))
    rows = [
        [group, row, *_cells(figures, columns)]
        for group, rows in record["table"].items()
        for row, figures in rows.items()
    ]
    e = record["environment"]
    machine = f"{e['device']}, {e['cpu_cores']} cores, Python {e['python']}, jax {e['versions']['jax']}"
    return f"{title} ({machine}):\n\n" + markdown(["", "", *(c.replace("_", " ") for c in columns)], rows)


def _cells(figures: dict | str, columns: list[str]) -> list[str]:
    if isinstance(figures, str):  # why there are none
        return [figures, *[""] * (len(columns) - 1)]
    return ["" if figures.get(c) is None else _number(figures[c]) for c in columns]


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def pages() -> dict[Path, str]:
    """The pages with generated tables, as they should be."""
    parts = {
        README: [
            experiments(),
            benchmark("train_step", "Training steps beside PyTorch"),
            benchmark("input_pipeline", "Input pipeline"),
        ],
        DOCS / "losses.md": [
            benchmark("losses", "Time and memory, forward and backward, D = 128, temperature .2"),
            benchmark("parity", "Largest relative difference from other libraries, in value and in gradient"),
        ],
        DOCS / "methods.md": [
            benchmark("methods", "Training steps with ResNet-18, CIFAR's stem, 32 px, float32"),
        ],
        DOCS / "metric_learning.md": [benchmark("triplets", "Mining of six triplets a photo")],
    }
    return {page: _filled(page.read_text(), tables) for page, tables in parts.items()}


def _filled(text: str, tables: list[str]) -> str:
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n".join(tables) + END + after


def main() -> None:
    """Rewrites the pages, or checks them."""
    for page, text in pages().items():
        if "--check" in sys.argv[1:]:
            if text != page.read_text():
                sys.exit(f"{page.name} is not what results/*.json say")
        else:
            page.write_text(text)


if __name__ == "__main__":
    main()
