"""The table of docs/claims.md: what five published systems claim, and what was seen of it here."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from markdown_table import HERE, NOT_RUN, markdown

STYLE, ATTRIBUTE, PRODUCT = "test/style/cmc@1", "test/attribute/map@r", "test/product/cmc@1"
LISTING = "test/listing/auc"
SEEDS = (0, 1, 2)
KINDS = ("Perspective", "Watermark", "Recolour", "Collage")  # on which the Siamese baseline of system B failed
DIFFICULTIES = {  # and what the queries are searched among
    "hard": "studio photos of groceries",
    "local": "100,000 photos, of which Fashion's are asked",
    "all": "100,000 photos, of which Fashion's and Grocery's are asked",
}


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


def share_lost(record: dict, curve: dict) -> float:
    """The share of its clean value that a curve of a record of robustness loses at medium strength."""
    return 1 - curve["values"][record["suite"]["strengths"].index(record["medium"])] / curve["clean"]


def disturbed(names: Sequence[str]) -> list[dict]:
    """The records of robustness of those runs that have one."""
    paths = (HERE / "robustness" / f"{name}.json" for name in names)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def lost(records: Sequence[dict], kind: str) -> tuple[float, float]:
    """The share of CMC@1 that is lost when queries are disturbed at medium strength, and what is left of it: means."""
    wanted, shares, left = ("student", "query", "cmc@1", kind), 0.0, 0.0
    for record in records:
        curve = next(c for c in record["curves"] if (c["way"], c["side"], c["figure"], c["disturbance"]) == wanted)
        share = share_lost(record, curve)
        shares, left = shares + share, left + curve["clean"] * (1 - share)
    return shares / len(records), left / len(records)


def claims() -> str:
    """A line for each claim: system, claim, what was seen, the verdict, the page with more, and the command."""
    rows = [
        _natural_views(),
        _listings(),
        _robust(),
        _difficulties(),
        _matching(),
        _labels(),
        _in_sequence(),
        _attributes(),
        _tasks(),
    ]
    header = ["system", "claim", "seen here", "verdict", "more", "repeat it by"]
    return "Figures in brackets are 95 % intervals over groups of queries:\n\n" + markdown(header, rows)


def at_size() -> str:
    """A line for each experiment that would decide a claim at the size it was made at, with the time that it takes."""
    rows = []
    systems = {"A": "ecommerce_natural_views", "B": "ecommerce_moco", "D": "imagenet_dino", "E": "ecommerce_resellers"}
    for system, plan in systems.items():
        path = HERE / "plans" / f"{plan}.json"
        record = json.loads(path.read_text()) if path.exists() else {"time": None}
        folder, file = plan.split("_", 1)
        cells = [system, f"[`experiments/{folder}/{file}.py`](../experiments/{folder}/{file}.py)"]
        if not (record["time"] or {}).get("hours"):
            rows.append([*cells, NOT_RUN, "", ""])
            continue
        photos = f"{record['photos']:,}" if "photos" in record else ""
        rows.append([*cells, record["target"], photos, f"{record['time']['hours']:.1f}"])
    header = ["system", "experiment", "machine", "photos or listings", "hours of a run, by `ssljax plan`"]
    return "What would decide these claims at size; none of it was run:\n\n" + markdown(header, rows)


def matching_steps() -> str:
    """A line for each step of matching by photo and title: F1 as published and as seen here."""
    published = {  # the winners of Shopee's price match, on its private test split
        "both, concat": ".724",
        "both, normalise_first": ".753",
        "... and min2": ".743, before normalise_first",
        "... blended, and min2": ".784 to .793",
        "... blended, united with photo and title": ".776, before blending",
    }
    rows = []
    for step, figures in ladder().items():
        found = Seen(
            *(figures[name] for name in ("F1", "from", "to")), (figures["lowest seed"], figures["highest seed"])
        )
        rows.append([step.replace("...", "the ensemble,"), published.get(step, ""), str(found)])
    header = ["C, step by step", "F1 as published", "F1 here"]
    return "Matching by photo and title:\n\n" + markdown(header, rows or [[NOT_RUN, "", ""]])


def _line(system: str, claim: str, found: str, verdict: str, page: str, file: str) -> list[str]:
    return [system, claim, found, verdict, f"[{page}]({page})", f"`ssljax sweep experiments/{file}.py`"]


def _compared(a: Seen | None, b: Seen | None, ratio: float = 1.0) -> str:
    """Whether b is `ratio` times a or more: each seed of b above each of a, or one seed beyond its interval."""
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
    shown, verdicts, both = [], [], ("augmented", "natural")
    runs = {
        "random": [[f"natural_views_moby_{views}"] for views in both],
        "ImageNet's": [seeds(f"claims_natural_photos_{views}") for views in both],
    }
    for start, names in runs.items():
        a, b = (seen(of, PRODUCT) for of in names)
        shown.append(f"from {start} weights, augmented {a or NOT_RUN}, natural {b or NOT_RUN}")
        verdicts.append(f"from {start} weights {_compared(a, b)}")
    shown.append(f"imported and not trained {seen(['claims_natural_photos_imported'], PRODUCT) or NOT_RUN}")
    claim, file = "natural views replace augmented ones", "claims/natural_photos"
    return _line("A", claim, "MoBY, product CMC@1: " + "; ".join(shown), "; ".join(verdicts), "claims_tables.md", file)


def _listings() -> list[str]:
    start, end = (
        seen(names, LISTING) for names in (["claims_natural_views_imported"], seeds("claims_natural_views_moby"))
    )
    imported, augmented, natural = (
        seen(names, LISTING) or NOT_RUN
        for names in (
            ["claims_natural_photos_imported"],
            seeds("claims_natural_photos_augmented"),
            seeds("claims_natural_photos_natural"),
        )
    )
    found = (
        f"AUC, how often two photos of a listing are nearer than two of others: ImageNet's vectors {start or NOT_RUN}, "
        f"a projection of them by MoBY on natural pairs {end or NOT_RUN}; at 96 px imported {imported}, "
        f"MoBY's last blocks with augmented views {augmented}, with natural ones {natural}"
    )
    claim = "photos of one listing come to lie closer than those of others"
    return _line("A", claim, found, _compared(start, end), "claims_tables.md", "claims/natural_views")


def _robust() -> list[str]:
    names = ("imported", "standard", "ecommerce", "siamese", "siamese_ecommerce")
    clean = {name: seen(seeds(f"claims_robust_{name}"), STYLE) for name in names}
    records = {name: disturbed(seeds(f"claims_robust_{name}")) for name in names}
    losses = {name: [lost(of, kind)[0] for kind in KINDS] for name, of in records.items() if of}
    shares = [f"{kind} {' → '.join(f'{of[k]:.0%}' for of in losses.values())}" for k, kind in enumerate(KINDS)]
    found = f"style CMC@1 from ImageNet's weights: {', '.join(f'{n} {value or NOT_RUN}' for n, value in clean.items())}"
    found += f"; lost at medium strength, {' → '.join(losses)}: {', '.join(shares)}" if losses else ""
    verdicts = []
    for standard, shop, called in (("standard", "ecommerce", "MoCo"), ("siamese", "siamese_ecommerce", "Siamese")):
        a, b = clean[standard], clean[shop]
        if not (a and b and {standard, shop} <= set(losses)):
            continue
        halved = sum(y <= x / 2 for x, y in zip(losses[standard], losses[shop], strict=True))
        cost = 100 * (a.mean - b.mean)
        said = "seen" if halved == len(KINDS) and cost <= 1 else "in part" if halved else "not seen"
        one = "" if len(b.seeds) > 1 else ", one seed"
        price = f"clean CMC@1 {-cost:+.1f} points"
        verdicts.append(f"by {called} {said}{one}: {halved} of {len(KINDS)} losses halved, {price}")
    rivals = ("siamese", "ecommerce")
    if set(rivals) <= set(losses):
        left = [[[lost([record], kind)[1] for record in records[name]] for kind in KINDS] for name in rivals]
        more = [kind for kind, a, b in zip(KINDS, *left, strict=True) if min(b) > max(a)]
        verdicts.append(f"MoCo with ecommerce finds more than siamese under {', '.join(more) or 'none'}")
    claim = "views of what shops do withstand it, and find more than a Siamese baseline"
    command = "`python results/robust.py`"
    return ["B", claim, found, "; ".join(verdicts), "[claims_tables.md](claims_tables.md)", command]


def _difficulties() -> list[str]:
    shown, verdicts = [], []
    for difficulty in DIFFICULTIES:
        runs = {name: disturbed([f"claims_robust_{name}_0-{difficulty}"]) for name in ("ecommerce", "siamese")}
        if not all(runs.values()):
            shown.append(f"{difficulty} {NOT_RUN}")
            continue
        left = {name: {kind: lost(of, kind)[1] for kind in KINDS} for name, of in runs.items()}
        for name, (record,) in runs.items():
            left[name]["clean"] = next(c["clean"] for c in record["curves"] if c["way"] == "student")
        pairs = {kind: (left["ecommerce"][kind], left["siamese"][kind]) for kind in ("clean", *KINDS)}
        shown.append(f"{difficulty}, " + ", ".join(f"{kind} {a:.3f} and {b:.3f}" for kind, (a, b) in pairs.items()))
        verdicts.append(f"{difficulty}: more in {', '.join(kind for kind, (a, b) in pairs.items() if a > b) or 'none'}")
    claim = "MoCo with such views finds more than a Siamese baseline at three difficulties"
    found = "CMC@1 of 1,000 queries by MoCo and by Siamese, disturbed at medium strength: " + "; ".join(shown)
    verdict = f"one seed: {'; '.join(verdicts)}" if verdicts else NOT_RUN
    return ["B", claim, found, verdict, "[claims_tables.md](claims_tables.md)", "`python results/robust.py`"]


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
    return _line("D", claim, found, _compared(imported, parts["100 %"]), "claims_tables.md", "claims/labels")


def _in_sequence() -> list[str]:
    ways = {
        "MoBY": "claims_natural_photos_natural",
        "DINO": "claims_in_sequence_dino",
        "labels": "claims_in_sequence_labels_100",
        "half MoBY, then half labels": "claims_in_sequence_after_moby_100",
    }
    products = {way: seen(seeds(name), PRODUCT) for way, name in ways.items()}
    found = "product CMC@1 after 112 steps from ImageNet's weights: "
    found += ", ".join(f"{way} {value or NOT_RUN}" for way, value in products.items())
    claim = "the same, beside self-supervision on the same photos, and after it"
    verdict = f"beside MoBY {_compared(products['MoBY'], products['labels'])}; "
    verdict += f"after MoBY {_compared(products['labels'], products['half MoBY, then half labels'])}"
    return _line("D", claim, found, verdict, "claims_tables.md", "claims/in_sequence")


def _attributes() -> list[str]:
    by = {name: seen(seeds(f"claims_attributes_{name}"), ATTRIBUTE) for name in ("levels", "iou")}
    alone = {n: seen(seeds(f"claims_attributes_{n}"), ATTRIBUTE) for n in ("gender", "articleType", "baseColour")}
    there = {name: value for name, value in alone.items() if value}
    best = max(there, key=lambda name: there[name].mean, default=None)
    found = f"attribute MAP@R with hard negatives: levels {by['levels'] or NOT_RUN}, IoU {by['iou'] or NOT_RUN}"
    found += f", the best single one ({best}) {there[best]}" if best else ""
    claim = "triplets by several attributes are twice as good as by one"
    verdict = _compared(there.get(best or ""), by["iou"], 2.0)
    return _line("E", claim, found, verdict, "claims_tables.md", "claims/attributes")


def _tasks() -> list[str]:
    shown, verdicts = [], []
    of_a_projection = {"ranking": "iou", "naming": "naming", "both": "ranking_and_naming"}
    projection = {way: seen(seeds(f"claims_attributes_{name}"), ATTRIBUTE) for way, name in of_a_projection.items()}
    of_blocks = {
        "ranking": "ranking",
        "naming": "naming",
        "VAE": "vae",
        "ranking and naming": "ranking_naming",
        "all three": "ranking_naming_vae",
    }
    blocks = {way: seen([f"claims_resellers_{name}_0"], ATTRIBUTE) for way, name in of_blocks.items()}
    for shared, found in (("a projection", projection), ("the last blocks", blocks)):
        shown.append(f"{shared}, " + ", ".join(f"{task} {value or NOT_RUN}" for task, value in found.items()))
        alone = [value for way in ("ranking", "naming", "VAE") if (value := found.get(way))]
        best = max(alone, key=lambda value: value.mean, default=None)
        verdicts.append(f"{shared}: {_compared(best, list(found.values())[-1], 1.04)}")
    claim = "several tasks are 4 % better than the best alone"
    commands = "`ssljax sweep experiments/claims/attributes.py`, `python results/resellers.py`"
    said = "attribute MAP@R of what learns: " + "; ".join(shown)
    return ["E", claim, said, "; ".join(verdicts), "[claims_tables.md](claims_tables.md)", commands]
