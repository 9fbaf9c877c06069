"""`ssljax search`: the items that are nearest to photos, to words, or to both."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from ssljax.cli.shared import (
    Network,
    PathOrHub,
    TrustCode,
    check_at_least_one,
    command_line,
    experiment_of,
    is_index,
    is_run,
    photos_by_id,
    source_of,
    writing,
)
from ssljax.config import Experiment
from ssljax.data import Catalogue, Items
from ssljax.data.decode import BadImage, decode, thumbnail_or_grey
from ssljax.data.paths import check_no_address
from ssljax.evaluation.embed import Encoder
from ssljax.evaluation.restore import NETWORK_ALONE, Restored, Untrusted
from ssljax.report import THUMBNAIL, Found, Query, write_search
from ssljax.search import Collection
from ssljax.search.model import check_origin
from ssljax.search.words import check_weight, checked_text, queries
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The items that are nearest to photos, to words, or to both."""

    where: tyro.conf.Positional[PathOrHub]
    """An index that `ssljax index` built, or a run folder, whose own index is searched."""
    photos: tyro.conf.Positional[tuple[str, ...]]
    """Image files."""
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Words to search by, such as "red floral dress", with the network of a run that reads titles. With photos, each
    is searched by together with each text ("like this, but blue"). Several: --text A --text B."""
    text_weight: float = 0.5
    """With photos: how much the text counts, from 0 (the photo alone) to 1 (the text alone)."""
    top: Annotated[int, tyro.conf.arg(aliases=["--k"])] = 10
    """How many items for each."""
    html: Path | None = None
    """Also write a page that shows what was searched by and what was found."""
    run: PathOrHub | None = None
    """The run that embeds the photos; by default the one that embedded what the index holds."""
    network: Network | None = None
    """Which of its networks; by default the one that embedded what the index holds."""
    trust_code: TrustCode = False


def main(arguments: list[str]) -> None:
    """`ssljax search WHERE [PHOTO...] [--text WORDS]`."""
    options = tyro.cli(SearchOptions, args=arguments, prog="ssljax search")
    check_at_least_one(top=options.top)
    check_weight(options.text_weight)
    if not options.photos and not options.text:
        raise UserError("name at least one photo, or words: ssljax search WHERE PHOTO..., or WHERE --text WORDS")
    found = Searched.of(options.where, options.run, options.network, trust_code=options.trust_code)
    texts = [checked_text(text, found.encoder) for text in options.text]
    photos, bad = {}, []
    for photo in options.photos:
        try:
            check_no_address(photo, "photo")
            photos[Path(photo)] = decode(photo, found.encoder.photo_size)
        except UserError as error:
            bad.append(str(error))
        except BadImage as error:
            bad.append(f"{photo} cannot be read: {error}")
    if photos or not options.photos:
        _answer(options, found, photos, texts)
    if bad:  # after the answers to the others
        raise UserError("\n".join(bad))


def _answer(
    options: SearchOptions, found: "Searched", photos: dict[Path, tuple[np.ndarray, float]], texts: list[str]
) -> None:
    """Prints, and shows on a page, what is nearest to each photo, decoded, with each text."""
    embed, embed_titles = found.encoder.embed, found.encoder.embed_titles
    seen = [embed(image[None], np.array([aspect], np.float32)) for image, aspect in photos.values()]
    read = embed_titles(texts) if embed_titles and texts else None
    vectors = queries(np.concatenate(seen) if seen else None, read, options.text_weight)
    ids, scores = found.collection.search(vectors, options.top)
    answers = list(zip(itertools.product(photos or [None], texts or [None]), ids, scores, strict=True))
    for (photo, text), row_ids, row_scores in answers:
        if max(len(options.photos), 1) * max(len(texts), 1) > 1:
            print_result(" + ".join(str(part) for part in (photo, text and f'"{text}"') if part))
        _print_nearest(found.collection, list(row_ids), row_scores)
    if options.html is not None:
        shown = [
            Query(photo and str(photo), text, photo and thumbnail_or_grey(photo, THUMBNAIL), found.shown(*row))
            for (photo, text), *row in answers
        ]
        with writing(options.html, "--html"):
            write_search(options.html, str(options.where), len(found.collection), shown)
        console.print(f"The page is {options.html}.")


@dataclasses.dataclass(frozen=True)
class Searched:
    """An index that is open, what embeds photos for it, and where the photos of its items are."""

    collection: Collection
    encoder: Encoder
    photo: Callable[[str], Any]
    """id → what `decode` reads; None if there is no photo"""

    @classmethod
    def of(
        cls,
        where: Path,
        run: Path | None,
        network: Network | None = None,
        *,
        to_change: bool = False,
        trust_code: bool = False,
    ) -> "Searched":
        """Opens an index, or that of a run folder; raises UserError if its vectors are not of the run as it is now."""
        own = is_run(where)
        if own:
            experiment_of(Run(where), trust_code, NETWORK_ALONE)  # a damaged run folder is to be told first
            if not Run(where).index.exists():
                raise UserError(f"{where} has no index yet: train it to the end first")
        elif not is_index(where):
            raise UserError(f"{where} is not a run folder, nor an index: name what `ssljax train` or `index` made")
        folder = Run(where).index if own else where
        try:
            collection = Collection.open(folder, to_change=to_change)
        except UserError as error:
            command = command_line("evaluate", [str(where)]) if own else "ssljax index"
            anew = str(error).endswith("build the index anew")
            raise UserError(f"{error} with `{command}`" if anew else str(error)) from None
        try:
            embedding = Run(run or (where if own else _origin_of(collection)))
            experiment = experiment_of(embedding, trust_code, NETWORK_ALONE)
            which = network or (collection.origin.network if collection.origin else "student")
            encoder = Restored.of(embedding, experiment, complete=False).encoder(which)
            check_origin(collection, encoder.origin, embedding.path)
        except BaseException:
            collection.close()
            raise
        trained = source_of(experiment)
        collection.title = trained.title if isinstance(trained, Catalogue) else None
        return cls(collection, encoder, _photos(collection, experiment if own else None))

    def shown(self, ids: np.ndarray, scores: np.ndarray) -> list[Found]:
        """What a page shows of these items."""
        pairs = zip(ids, scores.tolist(), strict=True)
        return [
            Found(id, self.collection.item(id).caption(id), score, thumbnail_or_grey(self.photo(id), THUMBNAIL))
            for id, score in pairs
        ]


def _origin_of(collection: Collection) -> Path:
    origin = collection.origin
    if origin is None:
        raise UserError(f"{collection.folder} does not say which run embedded its items: name it by --run")
    if not os.path.isdir(origin.run):
        raise UserError(f"{origin.run}, the run that embedded {collection.folder}, is not there: name it by --run")
    return Path(origin.run)


def _photos(collection: Collection, experiment: Experiment | None) -> Callable[[str], Any]:
    """Id → photo: of the collection's files; for a run's own index also of its data, which may be no files."""

    def gallery() -> Iterable[Items]:
        if experiment is None or isinstance(experiment.data, Untrusted):
            return ()
        return map(experiment.data.load, experiment.gallery)

    in_data = photos_by_id(gallery)

    def photo(id: str) -> Any:
        if id not in collection:
            return None
        path = collection.item(id).photo
        return in_data(id) if path is None else path

    return photo


def _print_nearest(collection: Collection, ids: list[str], scores: np.ndarray) -> None:
    items = [collection.item(id) for id in ids]
    columns = list(dict.fromkeys(name for item in items for name in item.columns if name != "id"))
    shown = [name for name in ("title", "label", "listing") if name in columns] or columns[:3]
    printed = Table("", "score", "id", *shown)
    for rank, (id, score, item) in enumerate(zip(ids, scores, items, strict=True), 1):
        printed.add_row(str(rank), f"{score:.3f}", id, *(item.columns.get(name, "") for name in shown))
    print_table(printed)
