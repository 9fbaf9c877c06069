"""The table of docs/claims.md: what five published systems claim, and what was seen of it here."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from markdown_table import HERE, NOT_RUN, markdown

STYLE, ATTRIBUTE, PRODUCT = "test/style/cmc@1", "test/attribute/map@r", "test/product/cmc@1"
SEEDS = (0, 1, 2)


class Seen(NamedTuple):
    """A figure of one run or of several seeds."""

    mean: float
    low: float
    """of the interval of the first run over groups of queries"""
    high: float
    seeds: tuple[float, ...]

    def __str__(self) -> str:
        seeds = f"; seeds {min(self.seeds):.3f} to {max(self.seeds):.3f}" if len(self.seeds) > 1 else ""
        interval = f" ({self.low:.3f} to {self.high:.3f}{seeds})" if self.low < self.high else ""
        return f"{self.mean:.3f}{interval}"


def seen(names: Sequence[str], figure: str, row: str = "trained") -> Seen | None:
    """A figure over those runs, which differ in the seed alone, that were run; None if none was."""
    paths = [path for path in (HERE / f"{name}.json" for name in names) if path.exists()]
    if not paths:
        return None
    tables = [json.loads(path.read_text())["table"][row] for path in paths]
    values = tuple(table[figure] for table in tables)
    mean = sum(values) / len(values)
    return Seen(mean, tables[0].get(f"{figure}-low", mean), tables[0].get(f"{figure}-high", mean), values)


def seeds(name: str) -> list[str]:
    """The runs of all seeds."""
    return [f"{name}_{seed}" for seed in SEEDS]


def ladder() -> dict[str, dict[str, float]]:
    """The steps of matching by photo and title; empty if they were not run."""
    path = HERE / "benchmark_titles.json"
    return json.loads(path.read_text())["table"]["test"] if path.exists() else {}


def lost(name: str, kind: str) -> float:
    """The share of CMC@1 that a run loses under a disturbance of medium strength."""
    record = json.loads((HERE / "robustness" / f"{name}.json").read_text())
    wanted = ("student", "query", "cmc@1", kind)
    curve = next(c for c in record["curves"] if (c["way"], c["side"], c["figure"], c["disturbance"]) == wanted)
    return 1 - curve["values"][record["suite"]["strengths"].index(record["medium"])] / curve["clean"]


def claims() -> str:
    """A line for each claim: system, claim, what was seen, the verdict, the page with more, and the command."""
    rows = [_natural_views(), _listings(), _robust(), _matching(), _labels(), _attributes(), _tasks()]
    header = ["system", "claim", "seen here", "verdict", "more", "repeat it by"]
    return "Figures in brackets are 95 % intervals over groups of queries:\n\n" + markdown(header, rows)


def _line(system: str, claim: str, found: str, verdict: str, page: str, file: str) -> list[str]:
    return [system, claim, found, verdict, f"[{page}]({page})", f"`ssljax sweep experiments/{file}.py`"]


def _compared(a: Seen | None, b: Seen | None, ratio: float = 1.0) -> str:
    """Whether b is `ratio` times a or more: by all seeds, and beyond the interval."""
    if a is None or b is None:
        return NOT_RUN
    one = "" if len(b.seeds) > 1 else ", one seed"
    if max(a.seeds) >= min(b.seeds):
        return f"not seen{one}"
    if one and b.low <= a.mean and b.low < b.high:
        return "in sign, one seed, within the interval"
    if b.mean >= ratio * a.mean:
        return f"seen{one}"
    return f"in sign{one}: {b.mean / a.mean:.2f} times instead of {ratio:g}"


def _natural_views() -> list[str]:
    a, b = (seen([f"natural_views_moby_{views}"], PRODUCT) for views in ("augmented", "natural"))
    found = f"from random weights, MoBY, product CMC@1: augmented {a}, natural {b}"
    return _line("A", "natural views replace augmented ones", found, _compared(a, b), "ecommerce.md", "natural_views")


def _listings() -> list[str]:
    a, b = (seen([f"natural_views_moby_{views}"], "test/listing/auc") for views in ("augmented", "natural"))
    c = seen(seeds("claims_natural_views_simclr"), "test/listing/auc")
    found = f"two photos of a listing are nearer than two of others (AUC): MoBY {a} augmented, {b} natural"
    if c:
        found += f"; from ImageNet's weights, SimCLR on natural pairs {c}"
    claim = "photos of one listing lie closer than those of others"
    return _line("A", claim, found, _compared(a, b), "ecommerce.md", "claims/natural_views")


def _robust() -> list[str]:
    kinds = ("Perspective", "Watermark", "Recolour", "Collage")
    shares = [f"{k} {lost('shop_views_standard', k):.0%} → {lost('shop_views_ecommerce', k):.0%}" for k in kinds]
    halved = sum(lost("shop_views_ecommerce", k) <= lost("shop_views_standard", k) / 2 for k in kinds)
    a, b = (seen([f"shop_views_{views}"], STYLE) for views in ("standard", "ecommerce"))
    found = f"CMC@1 lost at medium strength, standard → e-commerce views: {', '.join(shares)}; clean {a} → {b}"
    claim = "shop-specific views withstand what shops do to photos"
    said = "in part" if halved else "not seen"
    verdict = f"{said}: {halved} of {len(kinds)} losses halved, from random weights and five epochs"
    return _line("B", claim, found, verdict, "ecommerce.md", "shop_views")


def _matching() -> list[str]:
    steps = ladder()
    claim = "photo and title together find more than either (F1 .724 joined, .753 normalised first, .793 at the end)"
    command = "`python results/titles.py`"
    if not steps:
        return ["C", claim, NOT_RUN, NOT_RUN, "[titles.md](titles.md)", command]
    shown = ("photo", "title, a bag of BPE tokens", "both, concat", "both, normalise_first", "both, gated")
    found = "F1: " + ", ".join(f"{step} {steps[step]['F1']:.3f}" for step in shown)
    found += f", the best after post-processing {max(step['F1'] for step in steps.values()):.3f}"
    best = max(steps[step]["F1"] for step in shown[:2])
    verdict = "seen" if steps["both, normalise_first"]["from"] > best else "not seen"
    return ["C", claim, found, verdict, "[titles.md](titles.md)", command]


def _labels() -> list[str]:
    parts = {f"{percent} %": seen(seeds(f"claims_labels_{percent}"), STYLE) for percent in (1, 10, 100)}
    imported = seen(["fine_tuning_fashion_levels"], STYLE)
    found = f"style CMC@1 from ImageNet's weights: as they are {imported or NOT_RUN}; with labels of " + ", ".join(
        f"{share} of styles {value or NOT_RUN}" for share, value in parts.items()
    )
    claim = "metric learning beats what was trained without labels, given enough of them"
    return _line("D", claim, found, _compared(imported, parts["100 %"]), "claims.md", "claims/labels")


def _attributes() -> list[str]:
    by = {name: seen(seeds(f"claims_attributes_{name}"), ATTRIBUTE) for name in ("levels", "iou")}
    alone = {n: seen(seeds(f"claims_attributes_{n}"), ATTRIBUTE) for n in ("gender", "articleType", "baseColour")}
    there = {name: value for name, value in alone.items() if value}
    best = max(there, key=lambda name: there[name].mean, default=None)
    found = f"attribute MAP@R with hard negatives: levels {by['levels'] or NOT_RUN}, IoU {by['iou'] or NOT_RUN}"
    found += f", the best single one ({best}) {there[best]}" if best else ""
    claim = "triplets by several attributes are twice as good as by one"
    verdict = _compared(there.get(best or ""), by["iou"], 2.0)
    return _line("E", claim, found, verdict, "claims.md", "claims/attributes")


def _tasks() -> list[str]:
    alone = {name: seen(seeds(f"claims_attributes_{name}"), ATTRIBUTE) for name in ("iou", "naming")}
    both = seen(seeds("claims_attributes_ranking_and_naming"), ATTRIBUTE)
    found = {"ranking": alone["iou"], "naming": alone["naming"], "both": both}
    shown = "attribute MAP@R: " + ", ".join(f"{task} {value or NOT_RUN}" for task, value in found.items())
    there = [value for value in alone.values() if value]
    best = max(there, key=lambda value: value.mean) if len(there) == 2 else None
    claim = "several tasks are 4 % better than the best alone"
    return _line("E", claim, shown, _compared(best, both, 1.04), "claims.md", "claims/attributes")
