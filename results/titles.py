"""Trains the experiments that match photos of Fashion with titles, and judges each step of the matching.

python results/titles.py            about two hours of two CPU cores; what is complete is kept
python results/titles.py --judge    judges the seeds that are complete, and trains nothing

Writes results/titles_*.json and results/benchmark_titles.json, of which `python results/tables.py` makes the tables of
docs/titles.md. As in Shopee's price match, every listing has a partner: of each split those whose style has two photos
or more. Thresholds are chosen on `val`, which has no style in common with `test`.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from claims import SEEDS
from commands import ROOT, ssljax

from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Embeddings, PerQuery, intervals
from ssljax.evaluation.matching import (
    Candidates,
    Judged,
    MatchLists,
    blended,
    calibrate_blending,
    calibrate_union,
    concatenated,
    row_f1,
)
from ssljax.evaluation.tfidf import TFIDF, top_k
from ssljax.evaluation.vectors import normalise
from ssljax.training.run_folder import environment

SPLITS = ("val", "test")
ALONE = {
    "photo": "photo",
    "title, a bag of BPE tokens": "title",
    "title, a bag of n-grams": "letters",
    "both, concat": "concat",
    "both, normalise_first": "normalise_first",
    "both, gated": "gated",
}
ENSEMBLE = ("photo", "title", "letters")
Figures = tuple[np.ndarray, np.ndarray]
"""F1 of the rows of `test` at the thresholds chosen on `val`, and at those that are best on `test` itself"""


def saved(run: str, seed: int, split: str) -> Path:
    """The embeddings that a run keeps."""
    return ROOT / f"runs/titles_fashion_{run}_{seed}/embeddings/{split}.npz"


class Seed:
    """The runs of one seed, on both splits."""

    def __init__(self, seed: int):
        self.seed = seed
        self.items = {split: self._embeddings("photo", split) for split in SPLITS}
        styles = [self.items[split].columns["productDisplayName"] for split in SPLITS]
        names = [name.strip().lower() for part in styles for name in part]
        _, numbers, sizes = np.unique(names, return_inverse=True, return_counts=True)
        groups = dict(zip(SPLITS, np.split(numbers, [len(styles[0])]), strict=True))
        self.rows = {split: np.flatnonzero(sizes[groups[split]] > 1) for split in SPLITS}
        self.groups = {split: groups[split][self.rows[split]] for split in SPLITS}

    def _embeddings(self, run: str, split: str) -> Embeddings:
        return Embeddings.load(saved(run, self.seed, split))

    def vectors(self, run: str, split: str) -> np.ndarray:
        """f32[n, D], of unit length."""
        return normalise(self._embeddings(run, split).vectors[self.rows[split]])

    def joined(self, split: str) -> np.ndarray:
        """f32[n, D], the ensemble of photo and titles: the photo counts as much as the two encoders of titles."""
        parts = [self.vectors(run, split) for run in ENSEMBLE]
        return concatenated(parts, (2**0.5, 1.0, 1.0))

    def tfidf(self, split: str) -> Candidates:
        """By the words of the titles."""
        titles = {s: self.items[s].columns["title"][self.rows[s]].tolist() for s in SPLITS}
        rows = TFIDF().fit(titles["val"] + titles["test"])(titles[split])
        return Candidates(*top_k(rows, rows, 49, exclude=np.arange(rows.shape[0])))

    def judge(self, candidates: Callable[[str], Candidates], *, use_min2: bool = False) -> Figures:
        """F1 of the rows of test, by thresholds chosen on val and by the best of test itself."""
        val, test = (Judged.of(candidates(split), self.groups[split]) for split in SPLITS)
        chosen, best = ((j.best_min2() if use_min2 else (j.best_threshold(),)) for j in (val, test))
        return test.f1(*chosen), test.f1(*best)

    def judge_union(self, parts: Callable[[str], Sequence[Candidates]]) -> Figures:
        """The same of the union of several candidates, each with its threshold."""

        def f1(of: str) -> np.ndarray:
            thresholds = calibrate_union(parts(of), self.groups[of])
            lists = [MatchLists.of(part, t) for part, t in zip(parts("test"), thresholds, strict=True)]
            return row_f1(MatchLists.union(lists).rows, self.groups["test"])

        return f1("val"), f1("test")

    def ladder(self) -> dict[str, Figures]:
        """Step → figures: each encoder alone, ways to join them, and what follows."""
        found = {
            label: self.judge(lambda s, run=run: Candidates.of(self.vectors(run, s))) for label, run in ALONE.items()
        }
        found["title, TF-IDF"] = self.judge(self.tfidf)
        joined = {split: self.joined(split) for split in SPLITS}
        thresholds = calibrate_blending(joined["val"], self.groups["val"])
        after = {split: blended(joined[split], thresholds) for split in SPLITS}
        found["ensemble of three: photo, tokens, n-grams"] = self.judge(lambda s: Candidates.of(joined[s]))
        found["... and min2"] = self.judge(lambda s: Candidates.of(joined[s]), use_min2=True)
        found["... blended, and min2"] = self.judge(lambda s: Candidates.of(after[s]), use_min2=True)
        alone = {s: [Candidates.of(self.vectors(run, s)) for run in ("photo", "title")] for s in SPLITS}
        found["... blended, united with photo and title"] = self.judge_union(
            lambda s: [Candidates.of(after[s]), *alone[s]]
        )
        return found


def main() -> None:
    """Trains, judges, and writes the record."""
    if "--judge" not in sys.argv[1:]:
        ssljax("sweep", "experiments/claims/photos.py")
        ssljax("sweep", "experiments/titles/fashion.py")
        ssljax("sweep", "experiments/titles/clip.py")
    seeds = [Seed(seed) for seed in SEEDS if all(saved(run, seed, "test").exists() for run in ALONE.values())]
    found, table = [seed.ladder() for seed in seeds], {}
    for label in found[0]:
        chosen, best = zip(*(each[label] for each in found), strict=True)
        over_seeds = np.mean(chosen, axis=0)  # of each row
        rows = np.arange(len(over_seeds))
        low, high = intervals(PerQuery(rows, seeds[0].groups["test"], {"F1": over_seeds}))["F1"]
        table[label] = {
            "F1": float(over_seeds.mean()),
            "from": low,
            "to": high,
            "lowest seed": float(min(f1.mean() for f1 in chosen)),
            "highest seed": float(max(f1.mean() for f1 in chosen)),
            "F1 at the best threshold": float(np.mean(best)),
        }
        print(f"{label:45s} {table[label]}")
    write_json(ROOT / "results" / "benchmark_titles.json", {"environment": environment(), "table": {"test": table}})


if __name__ == "__main__":
    main()
