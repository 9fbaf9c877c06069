"""What `ssljax match` and `ssljax duplicates` are pointed at: a run, an index or a file of embeddings."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssljax.cli.embed import DataOptions, on_data
from ssljax.cli.shared import experiment_of, is_index, is_run, photos_by_id
from ssljax.config import Experiment
from ssljax.data.columns import raw_text, text
from ssljax.data.text import did_you_mean
from ssljax.evaluation import Embeddings, Retrieval, ShopeeF1
from ssljax.evaluation.restore import NETWORK_ALONE, Restored
from ssljax.search import Collection
from ssljax.training.run_folder import Run
from ssljax.types import UserError

By = Literal["image", "title", "both"]
Kind = Literal["photo", "title", "both", "words"]
"""What a ranking compares: what a network has made of photos, of titles or of both; or the words of titles."""
NO_RUN = "{} does not say which run embedded it, or that run is not there, or was trained again since: name {}"


@dataclasses.dataclass(frozen=True, eq=False)
class MatchedItems:
    """Items to match, and the network that embeds them, if it is at hand."""

    where: Path
    kinds: tuple[Kind, ...]
    """what the items are ranked by"""
    embed: Callable[[Kind], Embeddings]
    """the items; of "words" with vectors that say nothing"""
    photo: Callable[[str], Any]
    """id → what `decode` reads; None if there is no photo"""
    restored: Restored | None
    """the run, with its own data; None if it is not there"""
    network: str
    """the one of the run's networks that the vectors are of"""
    is_own_whole: bool
    """whether vectors are what the run's evaluators judged: of everything that its network reads"""

    @classmethod
    def of(cls, where: Path, data: Path | None, by: By | None, options: DataOptions, bad: Path) -> "MatchedItems":
        """Opens what is at `where`.

        Args:
          where: a run folder, an index, or a file of embeddings.
          data: with a run, the catalogue, folder or experiment file to embed; None takes the run's gallery.
          by: what to compare; None takes all that the network reads.
          options: how data is read.
          bad: the file that lists photos which cannot be read.

        Raises:
          UserError: there is none of these, or what it holds cannot be compared so.
        """
        if is_run(where):
            return cls._of_run(where, data, by, options, bad)
        if data is not None:
            raise UserError(f"{data}: only a run can embed a catalogue, and {where} is not a run folder: leave it out")
        if where.suffix in (".npz", ".parquet"):
            embeddings = Embeddings.load(where)
        elif is_index(where):
            embeddings = _all_of(Collection.open(where))
        else:
            raise UserError(
                f"{where} is not a run folder, an index, nor a file of embeddings (.npz, .parquet): name what "
                "`ssljax train`, `index` or `embed` made"
            )
        reads = embeddings.title_vectors is not None
        origin, restored = embeddings.origin, None
        if origin is not None and is_run(Path(origin.run)):
            run = Run(Path(origin.run))
            restored = Restored.of(run, experiment_of(run, options.trust_code, NETWORK_ALONE))
            if restored.origin(origin.network) != origin:
                restored = None  # it was trained again since

        def embed(kind: Kind) -> Embeddings:
            return embeddings.of_titles if kind == "title" else embeddings

        kinds = _kinds(by or "image", reads=reads, apart=True)
        if restored is not None and restored.titles is not None and not restored.embedder.embeds_titles:
            if by in ("image", "title"):
                raise UserError(
                    f"{where} holds vectors of photos and titles together, and none of {by}s alone: name the run "
                    f"{restored.run.path} instead"
                )
            kinds = ("both",)
        photos = {} if embeddings.photos is None else dict(zip(embeddings.ids, embeddings.photos, strict=True))
        network = "student" if origin is None else origin.network
        whole = network == "student" and kinds in (("photo",), ("both",))
        return cls(where, kinds, embed, lambda id: photos.get(id) or None, restored, network, whole)

    @classmethod
    def _of_run(cls, where: Path, data: Path | None, by: By | None, options: DataOptions, bad: Path) -> "MatchedItems":
        run = Run(where)
        experiment = experiment_of(run, options.trust_code, NETWORK_ALONE)
        other, splits = (
            (experiment, options.splits or experiment.gallery) if data is None else on_data(options, data, experiment)
        )
        restored = Restored.of(run, experiment)
        to_match = restored if data is None else Restored.of(run, other, bad_inputs=bad)
        reads, apart = restored.titles is not None, restored.embedder.embeds_titles
        kinds = _kinds(by or ("both" if reads else "image"), reads=reads, apart=apart)
        embed = functools.partial(embeddings_of, to_match, splits, network=options.network)
        whole = options.network == "student" and kinds == (("both",) if reads and not apart else ("photo",))
        photo = photos_by_id(lambda: map(to_match.load, splits))
        return cls(where, kinds, functools.cache(embed), photo, restored, options.network, whole)

    def calibration(self, kind: Kind, split: str) -> Embeddings:
        """A split of the run's own data, whose products are known; raises UserError if the run is not there."""
        if self.restored is None:
            raise UserError(NO_RUN.format(self.where, "--threshold"))
        return embeddings_of(self.restored, (split,), kind, network=self.network)


def embeddings_of(restored: Restored, splits: Sequence[str], kind: Kind, *, network: str) -> Embeddings:
    """The splits by what `kind` compares; raises UserError as `Restored.embed`."""
    if kind == "words":
        return Embeddings.joined([Embeddings.unseen(restored.load(split)) for split in splits])
    if restored.titles is None or kind == "both":
        return restored.embed(splits, network)
    return restored.embed(splits, network, by=kind)


def _all_of(collection: Collection) -> Embeddings:
    """The vectors of all items and what is known of them, in no particular order."""
    ids = list(map(str, collection.index.ids))
    known = collection.items(ids)
    items = [known[id] for id in ids]
    names = dict.fromkeys(name for item in items for name in item.columns)
    columns = {name: text(item.columns.get(name, "") for item in items) for name in names}
    photos = raw_text("" if item.photo is None else str(item.photo) for item in items)
    vectors = collection.index.vectors_of(ids) if ids else np.empty((0, collection.dimensions), np.float32)
    return Embeddings(text(ids), vectors, columns, photos=photos, origin=collection.origin)


def _kinds(by: By, *, reads: bool, apart: bool) -> tuple[Kind, ...]:
    """What to rank by: of a network that `reads` titles, and may embed them `apart` from photos, its vectors."""
    if by == "image":
        return ("photo",)
    title: Kind = "title" if reads else "words"
    if by == "title":
        return (title,)
    return ("both",) if reads and not apart else ("photo", title)


def aligned(parts: Sequence[Embeddings], names: Sequence[object]) -> list[Embeddings]:
    """The parts with the items of the first one, in its order; raises UserError, by their names, if one lacks some."""
    first, found = parts[0], [parts[0]]
    for part, name in zip(parts[1:], names[1:], strict=True):
        row = {id: k for k, id in enumerate(part.ids)}
        missing = [id for id in first.ids if id not in row]
        if missing:
            raise UserError(
                f"{name} lacks {len(missing):,} of the {len(first):,} items of {names[0]}, such as {missing[0]!r}: an "
                "ensemble needs vectors of the same items"
            )
        found.append(part.select(np.array([row[id] for id in first.ids], int)))
    return found


def titles_of(embeddings: Embeddings, name: object) -> list[str]:
    """The titles of the items; raises UserError if there is none."""
    titles = embeddings.columns.get("title")
    if titles is None or not any(title.strip() for title in titles):
        columns = list(embeddings.columns)
        there = did_you_mean("title", columns) if columns else ", nor any other column"
        raise UserError(f"{name} has no titles to compare{there}: name the column by --title, or compare --by image")
    return [str(title) for title in titles]


def relevant_of(experiment: Experiment, embeddings: Embeddings) -> str | tuple[str, ...]:
    """The columns in which items of one product agree: those that the run was evaluated by, or listings, or labels."""
    for kind in (ShopeeF1, Retrieval):
        for evaluator in experiment.evaluate:
            if isinstance(evaluator, kind):
                return evaluator.relevant
    return "label" if embeddings.listing is None and embeddings.label is not None else "listing"
