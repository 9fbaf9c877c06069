"""Tables in Markdown, and what their makers share."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_RUN = "not run"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
