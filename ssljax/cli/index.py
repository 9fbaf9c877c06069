"""`ssljax index`: builds an index of embeddings."""

import argparse
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ssljax.cli.shared import Output, writing
from ssljax.evaluation import Embeddings
from ssljax.search import Builder, Exact, Faiss, ScaNN, default_index, save_collection
from ssljax.training.logging import console, print_result
from ssljax.types import UserError

Kind = Literal["exact", "scann", "faiss"]
KINDS: dict[Kind, type[Builder]] = {"exact": Exact, "scann": ScaNN, "faiss": Faiss}
DEFAULT_KIND: Kind = next(name for name, kind in KINDS.items() if isinstance(default_index(), kind))


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """Build an index of embeddings. Another --kind has other settings: `ssljax index --kind exact --help`."""

    embeddings: tyro.conf.Positional[tuple[Path, ...]]
    """Files that `ssljax embed` wrote, or RUN/embeddings/*.npz."""
    output: Output
    """The folder to write; an index that is there is replaced."""
    kind: Kind = DEFAULT_KIND
    """The kind of index."""
    settings: Annotated[Any, tyro.conf.arg(name="")] = default_index()


def main(arguments: list[str]) -> None:
    """`ssljax index FILE... -o INDEX [--kind KIND]`."""
    kind = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    kind.add_argument("--kind", choices=list(KINDS), default=DEFAULT_KIND)
    try:
        settings = KINDS[kind.parse_known_args(arguments)[0].kind]()
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    default = IndexOptions(tyro.MISSING, tyro.MISSING, settings=settings)
    options = tyro.cli(IndexOptions, args=arguments, default=default, prog="ssljax index")
    if not options.embeddings:
        raise UserError("name at least one file of embeddings: ssljax index FILE... -o INDEX")
    embeddings = Embeddings.joined([Embeddings.load(path) for path in options.embeddings])
    with writing(options.output, "--output"):
        save_collection(options.output, options.settings, embeddings)
    console.print(f"{len(embeddings):,} items in {embeddings.vectors.shape[1]:,} dimensions.")
    print_result(options.output)
