"""`ssljax index-advice`: measures the kinds of index on your own vectors, and recommends one."""

import dataclasses
from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ssljax.cli.index import KINDS
from ssljax.cli.shared import Output, check_png, command_line, write_png
from ssljax.evaluation import Embeddings
from ssljax.search import advice
from ssljax.search.index import Builder, Metric
from ssljax.training.logging import console, print_result, print_table
from ssljax.types import settings


@dataclasses.dataclass(frozen=True)
class IndexAdviceOptions:
    """Measure exact search, ScaNN and (if it is installed) FAISS on the vectors of a file, such as
    RUN/embeddings/test.npz, and recommend the quickest index that finds enough and keeps up."""

    embeddings: tyro.conf.Positional[Path]
    """An .npz file of embeddings."""
    recall: float = 0.95
    """The least share of the true ten nearest that must be found."""
    updates_per_hour: float = 0
    """How many items come or change."""
    metric: Metric = "cosine"
    """By what the nearest are: cosine, dot product, or squared distance (l2)."""
    output: Output = Path("index_advice.png")
    """The picture of recall against speed, a PNG file."""


def main(arguments: list[str]) -> None:
    """`ssljax index-advice EMBEDDINGS [OPTIONS]`."""
    options = tyro.cli(IndexAdviceOptions, args=arguments, prog="ssljax index-advice")
    check_png(options.output)
    found = advice.index_advice(
        Embeddings.load(options.embeddings).vectors,
        recall=options.recall,
        updates_per_hour=options.updates_per_hour,
        metric=options.metric,
        progress=lambda kind: console.print(f"{kind} ..."),
    )
    printed = Table("", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("recall\n@10", "queries\n/s", "p50\nms", "p99\nms", "build\ns", "MiB", "updates\n/h"):
        printed.add_column(name, justify="right", no_wrap=True)
    for row in found.shown:
        figures = (row.qps, row.p50_ms, row.p99_ms, row.build_seconds, row.memory_mib, row.updates_per_hour)
        printed.add_row(row.kind, f"{row.recall:.3f}", *map(_rounded, figures))
    print_table(printed)
    print_result(
        f"{found.reason[0].upper()}{found.reason[1:]}.\n\n{command_to_build(options.embeddings, found.builder)}\n"
    )
    write_png(options.output, lambda file: advice.plot(found.rows, file))


def command_to_build(embeddings: Path, builder: Builder) -> str:
    """The command that builds such an index of the embeddings."""
    kind = next(name for name, kind in KINDS.items() if isinstance(builder, kind))
    words = [str(embeddings), "-o", f"{embeddings.stem}.index", "--kind", kind]
    for field in settings(builder):
        value, option = getattr(builder, field.name), f"--{field.name.replace('_', '-')}"
        if value != field.default:
            words += [option] if value is True else [option, str(value)]
    return command_line("index", words)


def _rounded(figure: float) -> str:
    """In at most seven characters."""
    if figure >= 1e6:
        return f"{figure / 1e6:,.0f} M"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}" if figure >= 0.001 else "< 0.001"
