"""`ssljax match`: which items are the same product, by photo, title or both."""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, cast

import numpy as np
import tyro

from ssljax.cli.embed import DataOptions
from ssljax.cli.matched_items import (
    By,
    Kind,
    MatchedItems,
    aligned,
    relevant_of,
    titles_of,
)
from ssljax.cli.shared import Output, PathOrHub, command_line, new_bad_inputs, results_of, writing
from ssljax.data.atomic_files import replace_file
from ssljax.data.text import csv_cell
from ssljax.evaluation import Embeddings, relevance
from ssljax.evaluation.matching import (
    MOST,
    Candidates,
    Groups,
    Judged,
    MatchLists,
    blended,
    calibrate_blending,
    calibrate_union,
    concatenated,
    group,
    row_f1,
)
from ssljax.evaluation.tfidf import TFIDF
from ssljax.evaluation.tfidf import top_k as top_k_words
from ssljax.report import write_groups
from ssljax.search import build_for_all
from ssljax.training.logging import console, print_result
from ssljax.types import UserError

NAMES: dict[Kind, str] = {"photo": "photo", "title": "title", "both": "photo and title", "words": "words of titles"}


@dataclasses.dataclass(frozen=True)
class MatchOptions(DataOptions):
    """Find the items that are the same product, and write a file with the matches and the group of each."""

    where: tyro.conf.Positional[PathOrHub]
    """A run folder; or, without DATA, an index that `ssljax index` built, or a file that `ssljax embed` wrote."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """The catalogue, folder of photos, or experiment file whose items are matched; by default the run's gallery."""
    output: Output = Path("matches.csv")
    """The file to write, .csv or .parquet, with the columns id, matches (ids, separated by blanks in a .csv; the item
    itself is the first, as on Kaggle) and group."""
    pairs: Path | None = None
    """Also write a file, .csv or .parquet, with a row for each match: id, match, score, margin (the score less the
    threshold) and by (what it was found by)."""
    html: Path | None = None
    """Also write a page that shows the groups, doubtful ones first."""
    by: By | None = None
    """Compare photos, titles, or both: by default all that the network reads. Titles are compared by their words
    (TF-IDF) if the network reads none."""
    with_: Annotated[tuple[PathOrHub, ...], tyro.conf.arg(name="with")] = ()
    """More runs (or files of embeddings) for an ensemble: the mean of their cosines counts."""
    threshold: tuple[float, ...] = ()
    """The score from which on an item matches; with photos and titles apart one for each, photos first. By default the
    one that a ShopeeF1 of the run has chosen, or else the best one for the split --calibrate of the run's data."""
    min2: bool = False
    """Also match the nearest item from a lower threshold on, chosen with the other: where nearly all have a partner."""
    blend: bool = False
    """Average each item with its near neighbours first, in up to three stages, with thresholds from --calibrate."""
    groups: Literal["components", "mutual"] = "components"
    """Connect two items if either matches the other, or only if both do."""
    most: int = MOST
    """The largest number of matches of an item, itself included."""
    calibrate: str = "val"
    """The split of the run's own data whose known products the thresholds are chosen by."""
    relevant: tuple[str, ...] = ()
    """The columns there in which items of one product agree; by default those of the run's ShopeeF1 or Retrieval."""


@dataclasses.dataclass(frozen=True, eq=False)
class Matched:
    """Items with their matches, and facts to print and to show on the page."""

    items: Embeddings
    matches: MatchLists
    kinds: list[str]
    """what the matches' `kinds` are called"""
    photo: Callable[[str], Any]
    """id → what `decode` reads, or None"""
    facts: dict[str, str]

    @classmethod
    def of(cls, options: MatchOptions) -> "Matched":
        """Embeds, chooses thresholds, and matches; raises UserError for what a user does wrong."""
        bad = new_bad_inputs(options.output)
        sources = [
            MatchedItems.of(where, options.data, options.by, options, bad) for where in (options.where, *options.with_)
        ]
        rankings = _rankings(sources)
        items, kinds = rankings[0].items, [NAMES[ranking.kind] for ranking in rankings]
        if len(items) < 2:
            raise UserError(f"{options.data or options.where} has one item, and matching needs at least two")
        thresholds = _thresholds(options, sources, rankings)
        candidates = [ranking.candidates(options.most, thresholds.stages[k]) for k, ranking in enumerate(rankings)]
        facts = {
            "items": f"{len(items):,}",
            "threshold": ", ".join(
                f"{t:.3f} by {name}" if np.isfinite(t) else f"{name} does not help"
                for t, name in zip(thresholds.each, kinds, strict=True)
            ),
            "chosen": thresholds.said,
            "photos that cannot be read": f"{_lines(bad):,}, listed in {bad}" if bad.exists() else "",
        }
        return cls(items, _matches(candidates, thresholds, options.most), kinds, sources[0].photo, facts)

    def write_page(
        self, path: Path, name: object, groups: Groups, command: str, notes: dict[int, str] | None = None
    ) -> None:
        """Writes the page of --html."""
        with writing(path, "--html"):
            write_groups(path, str(name), self.items, self.matches, groups, self.photo, self.facts, command, notes)
        console.print(f"The page is {path}.")


def main(arguments: list[str]) -> None:
    """`ssljax match WHERE [DATA] -o FILE`."""
    options = tyro.cli(MatchOptions, args=arguments, prog="ssljax match")
    check_files(output=options.output, pairs=options.pairs, html=options.html)
    _check(options)
    matched = Matched.of(options)
    ids, matches = matched.items.ids, matched.matches
    found = group(matches, options.groups)
    matched.facts["matches"] = f"{int((matches.rows >= 0).sum()):,}"
    matched.facts["groups of several items"] = f"{int((found.sizes > 1).sum()):,}"
    write_rows(options.output, "--output", ["id", "matches", "group"], _rows(ids, matches, found))
    if options.pairs is not None:
        names = ["id", "match", "score", "margin", "by"]
        write_rows(options.pairs, "--pairs", names, _pairs(ids, matches, matched.kinds))
    print_facts(matched.facts)
    if options.html is not None:
        matched.write_page(options.html, options.data or options.where, found, command_line("match", arguments))
    print_result(options.output)


def print_facts(facts: dict[str, str]) -> None:
    """Prints what was done."""
    console.print("; ".join(f"{name}: {value}" for name, value in facts.items() if value))


def check_files(**paths: Path | None) -> None:
    """Raises UserError if a file to write is a folder, or its name does not end as that of a table or a page does."""
    for name, path in paths.items():
        kinds = (".html",) if name == "html" else (".csv", ".parquet")
        if path is not None and path.is_dir():
            raise UserError(f"{name}={path} is a folder: name a file in it, such as {path / name}{kinds[0]}")
        if path is not None and path.suffix not in kinds:
            raise UserError(f"{name}={path} must end in {' or '.join(kinds)}: try {path.name or name}{kinds[0]}")


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Raises UserError unless each is a cosine, from -1 to 1."""
    for threshold in thresholds:
        if not -1 <= threshold <= 1:
            raise UserError(f"threshold={threshold} must be a cosine between -1 and 1: try 0.8")


def _check(options: MatchOptions) -> None:
    if not 2 <= options.most <= 1000:
        raise UserError(f"most={options.most} must be between 2 and 1000: it counts the item itself")
    check_thresholds(options.threshold)
    for name in ("min2", "blend"):
        if getattr(options, name) and options.threshold:
            raise UserError(f"--{name} has thresholds of its own, which a split chooses: leave out --threshold")


@dataclasses.dataclass(frozen=True, eq=False)
class _Ranking:
    """What items are ranked by, and what tells how good that is."""

    kind: Kind
    items: Embeddings
    """ids, columns, and of one network the vectors"""
    vectors: np.ndarray | None
    """f32[n, D], of unit length; None for words"""
    titles: Sequence[str] = ()
    """of "words": the titles whose terms are counted"""

    def candidates(self, most: int, stages: Sequence[float] = ()) -> Candidates:
        if self.vectors is not None:
            build = build_for_all(len(self.vectors))
            return Candidates.of(blended(self.vectors, stages, build=build), most - 1, build=build)
        rows = TFIDF().fit(self.titles)(titles_of(self.items, "the data"))
        return Candidates(*top_k_words(rows, rows, most - 1, exclude=np.arange(len(self.items))))


def _rankings(sources: Sequence[MatchedItems], calibrate: str | None = None) -> list[_Ranking]:
    """The rankings of the items, or of a split to calibrate by, each of all sources together.

    Rows are aligned with the items of the first source's first ranking.
    """
    if len({len(source.kinds) for source in sources}) > 1:
        raise UserError("the runs read different things, and cannot be combined: choose --by image or --by title")

    def embedded(source: MatchedItems, kind: Kind) -> Embeddings:
        return source.embed(kind) if calibrate is None else source.calibration(kind, calibrate)

    rankings, first = [], None
    for place in range(len(sources[0].kinds)):
        kinds: list[Kind] = [source.kinds[place] for source in sources]
        used = [k for k, kind in enumerate(kinds) if kind != "words"] or [0]
        parts = [embedded(sources[k], kinds[k]) for k in used]
        names: list[Any] = [sources[k].where for k in used]
        if first is not None:  # photos that cannot be read have titles all the same
            parts, names = [first, *parts], [sources[0].where, *names]
        parts = aligned(parts, names)
        first = first or parts[0]
        kind = kinds[used[0]]
        if kind == "words":
            titles = titles_of(sources[0].embed("words"), sources[0].where)
            rankings.append(_Ranking(kind, parts[-1], None, titles))
        else:
            vectors = concatenated([part.vectors for part in parts[-len(used) :]])
            rankings.append(_Ranking(kind, parts[-1], vectors))
    return rankings


@dataclasses.dataclass(frozen=True)
class _Thresholds:
    """The scores from which on items match, and how they were chosen."""

    each: tuple[float, ...]
    """one a ranking"""
    said: str
    loose: float | None = None
    """of min2"""
    stages: tuple[tuple[float, ...], ...] = ()
    """of blending, for each ranking"""


def _matches(candidates: Sequence[Candidates], thresholds: _Thresholds, most: int) -> MatchLists:
    parts = [MatchLists.of(c, t, thresholds.loose) for c, t in zip(candidates, thresholds.each, strict=True)]
    return parts[0] if len(parts) == 1 else MatchLists.union(parts, most)


def _thresholds(options: MatchOptions, sources: Sequence[MatchedItems], rankings: Sequence[_Ranking]) -> _Thresholds:
    """The thresholds that are given, those of the run's results, or those that are best for a split of its data."""
    none = ((),) * len(rankings)
    if options.threshold:
        if len(options.threshold) != len(rankings):
            names = " and ".join(NAMES[ranking.kind] for ranking in rankings)
            raise UserError(f"--threshold {' '.join(map(str, options.threshold))}: give {len(rankings)}, for {names}")
        return _Thresholds(options.threshold, "by --threshold", stages=none)
    if options.min2 and len(rankings) > 1:
        raise UserError("--min2 needs one ranking, and photos and titles are two here: choose --by image or --by title")
    own = sources[0].is_own_whole and len(sources) == 1 and not (options.min2 or options.blend)
    if own and options.most == MOST and not options.relevant and options.calibrate == "val":
        stored = _stored(sources[0])
        if stored is not None:
            return _Thresholds((stored,), "when the run was evaluated", stages=none)
    return _calibrated(options, sources)


def _stored(source: MatchedItems) -> float | None:
    """The threshold that the first ShopeeF1 of the run chose; None if it had none."""
    if source.restored is None or not source.restored.run.results.exists():
        return None
    table = results_of(source.restored.run, "evaluate the run again")["table"]["trained"]
    return next((value for name, value in table.items() if name.endswith("/threshold")), None)


def _calibrated(options: MatchOptions, sources: Sequence[MatchedItems]) -> _Thresholds:
    """The best thresholds for a split of the first run's own data; raises UserError if it has no known products."""
    where, split = options.where, options.calibrate
    try:
        rankings = _rankings(sources, split)
        items, restored = rankings[0].items, sources[0].restored
        assert restored is not None
        columns = options.relevant or relevant_of(restored.experiment, items)
        groups = relevance(columns, items, field="--relevant")[0]
    except UserError as error:
        raise UserError(f"no threshold can be chosen ({error}): give one by --threshold, such as 0.8") from None
    if np.bincount(groups[groups >= 0]).max(initial=0) < 2:
        raise UserError(
            f"no threshold can be chosen (no two items of split {split!r} of {where} are of one product by "
            f"{columns!r}): give one by --threshold, or another --relevant or --calibrate"
        )
    stages = tuple(
        calibrate_blending(r.vectors, groups, most=options.most) if options.blend and r.vectors is not None else ()
        for r in rankings
    )
    candidates = [ranking.candidates(options.most, stages[k]) for k, ranking in enumerate(rankings)]
    loose = None
    if len(candidates) > 1:
        each = calibrate_union(candidates, groups, most=options.most)
    elif options.min2:
        threshold, loose = Judged.of(candidates[0], groups).best_min2()
        each = (threshold,)
    else:
        each = (Judged.of(candidates[0], groups).best_threshold(),)
    thresholds = _Thresholds(each, "", loose, stages)
    f1 = row_f1(_matches(candidates, thresholds, options.most).rows, groups).mean()
    said = f"by split {split!r}, where F1 is {f1:.3f}"
    if loose is not None:
        said += f"; the nearest from {loose:.3f} on"
    if options.blend:
        helpful = ", ".join(f"{t:.3f}" for part in stages for t in part)
        said += f"; blended from {helpful}" if helpful else "; blending does not help there"
    return dataclasses.replace(thresholds, said=said)


def _rows(ids: np.ndarray, matches: MatchLists, groups: Groups) -> Iterator[tuple[str, list[str], int]]:
    for id, row, number in zip(ids, matches.rows, groups.number.tolist(), strict=True):
        yield str(id), [str(id), *map(str, ids[row[row >= 0]])], number


def _pairs(ids: np.ndarray, matches: MatchLists, kinds: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for id, row, scores, margins, by in zip(
        ids, matches.rows, matches.scores, matches.margins, matches.kinds, strict=True
    ):
        for k in np.flatnonzero(row >= 0):
            yield str(id), str(ids[row[k]]), float(scores[k]), float(margins[k]), kinds[by[k]]


def write_rows(path: Path, option: str, names: Sequence[str], rows: Iterable[tuple]) -> None:
    """Writes rows to a .csv or .parquet file, whole or not at all."""

    def write_csv(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(names)
        writer.writerows(map(_cells, rows))
        text.flush()
        text.detach()

    def write_parquet(file: BinaryIO) -> None:
        import pyarrow  # slow to import, and rarely needed
        import pyarrow.parquet

        columns = list(zip(*rows, strict=True)) or [[]] * len(names)
        pyarrow.parquet.write_table(pyarrow.table(dict(zip(names, map(list, columns), strict=True))), file)

    with writing(path, option):
        replace_file(path, write_csv if path.suffix == ".csv" else write_parquet)


def _cells(row: tuple) -> list[str]:
    """A row as text; raises UserError if ids, which blanks separate, have blanks themselves."""
    cells = []
    for value in row:
        if isinstance(value, list):
            spaced = next((id for id in value if len(id.split()) != 1), None)
            if spaced is not None:
                raise UserError(
                    f"id {spaced!r} has a blank, and blanks separate matches in a .csv: write a .parquet, or --pairs"
                )
            value = " ".join(value)
        if isinstance(value, float):
            value = f"{value:.6f}"
        cells.append("" if value is None else csv_cell(str(value)))
    return cells


def _lines(path: Path) -> int:
    with open(path, encoding="utf-8", errors="replace") as file:
        return sum(1 for _ in cast(Iterable[str], file)) - 1
