"""The tables of docs/claims.md: what five published systems claim, and what was seen of it here."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from markdown_table import HERE, NOT_RUN, markdown

from ssljax.training.experiment_file import load_experiments

STYLE, ATTRIBUTE, PRODUCT = "test/style/cmc@1", "test/attribute/map@r", "test/product/cmc@1"
LISTING = "test/listing/auc"
SEEDS = (0, 1, 2)
KINDS = ("Perspective", "Watermark", "Recolour", "Collage")  # on which system B says that its baseline failed
FAILURE_KINDS = (*KINDS, "Light")
DIFFICULTIES = {  # and what the queries are searched among
    "hard": "the 81 studio photos of groceries",
    "local": "100,000 photos, with queries from Fashion",
    "all": "100,000 photos, with queries from Fashion and Grocery",
}
COMPARED_RUNS = tuple(f"claims_robust_{name}_0" for name in ("ecommerce", "siamese", "siamese_ecommerce"))
RESELLER_KINDS = ("JPEG", "BorderCrop", "Scribble")
RESELLER_RUNS = ("claims_resellers_ranking_0", "claims_resellers_ranking_disturbed_0")
TABLES = "claims_tables.md"


class Seen(NamedTuple):
    """A figure of one run or of several seeds."""

    mean: float
    low: float
    """of the 95 % interval over groups of queries, the first seed's; the mean itself if there is none"""
    high: float
    seeds: tuple[float, ...]
    """the figures of the seeds, or the smallest and the largest"""

    @classmethod
    def of(cls, tables: Sequence[dict], figure: str) -> "Seen":
        """A figure over the tables of runs that differ in the seed alone."""
        values = tuple(table[figure] for table in tables)
        mean = sum(values) / len(values)
        return cls(mean, tables[0].get(f"{figure}-low", mean), tables[0].get(f"{figure}-high", mean), values)

    def __str__(self) -> str:
        notes = [f"{self.low:.3f} to {self.high:.3f}"] if self.low < self.high else []
        if len(self.seeds) > 1:
            notes.append(f"seeds {min(self.seeds):.3f} to {max(self.seeds):.3f}")
        return f"{self.mean:.3f}" + f" ({'; '.join(notes)})" * bool(notes)


def seen(names: Sequence[str], figure: str) -> Seen | None:
    """A figure over those runs, which differ in the seed alone, that were run; None if none was."""
    paths = [path for path in (HERE / f"{name}.json" for name in names) if path.exists()]
    return Seen.of([json.loads(path.read_text())["table"]["trained"] for path in paths], figure) if paths else None


def seeds(name: str) -> list[str]:
    """The runs of all seeds."""
    return [f"{name}_{seed}" for seed in SEEDS]


def disturbed(names: Sequence[str]) -> list[dict]:
    """The records of robustness of those runs that have one."""
    paths = (HERE / "robustness" / f"{name}.json" for name in names)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def curve(record: dict, kind: str) -> dict:
    """The curve of CMC@1 of a record of robustness, for queries that are disturbed in one way."""
    wanted = ("student", "query", "cmc@1", kind)
    return next(c for c in record["curves"] if (c["way"], c["side"], c["figure"], c["disturbance"]) == wanted)


def at_medium(record: dict, of: dict) -> float:
    """What a record's curve is at medium strength."""
    return of["values"][record["suite"]["strengths"].index(record["medium"])]


def claims() -> str:
    """A line for each claim: system, claim, what was seen, the verdict, the page with more, and the command."""
    rows = [_natural_views(), _listings(), _robust(), _difficulties(), _matching(), _labels(), _in_sequence()]
    rows += [_attributes(), _tasks()]
    header = ["system", "claim", "seen here", "verdict", "more", "repeat it by"]
    return "Figures in brackets are 95 % intervals over groups of queries:\n\n" + markdown(header, rows)


def matching_steps() -> str:
    """A line for each step of matching by photo and title: F1 as published and as seen here."""
    published = {"both, concat": ".724", "both, normalise_first": ".753", "... blended, and min2": ".784 to .793"}
    rows = []
    for step, figures in _ladder().items():
        ends = (figures["lowest seed"], figures["highest seed"])
        found = Seen(figures["F1"], figures["from"], figures["to"], ends)
        rows.append([step.replace("...", "the ensemble,"), published.get(step, ""), str(found)])
    title = (
        "System C, step by step (published, too: min2 on photo and title joined .743, a union without blending .776)"
    )
    return f"{title}:\n\n" + markdown(["step", "F1 as published", "F1 here"], rows or [[NOT_RUN, "", ""]])


def at_size() -> str:
    """A line for each experiment that asks for a claim at a size like the published one, with the time it takes."""
    systems = {
        "A": "ecommerce_natural_views",
        "B": "ecommerce_moco",
        "D": "landmarks_in_sequence",
        "E": "ecommerce_resellers",
    }
    rows = []
    for system, plan in systems.items():
        path = HERE / "plans" / f"{plan}.json"
        record = json.loads(path.read_text()) if path.exists() else {"time": None}
        folder, file = plan.split("_", 1)
        cells = [system, f"[`experiments/{folder}/{file}.py`](../experiments/{folder}/{file}.py)"]
        if not (record["time"] or {}).get("hours"):
            rows.append([*cells, NOT_RUN, "", "", ""])
            continue
        runs = len(load_experiments(HERE.parent / "experiments" / folder / f"{file}.py")[1])
        cells += [f"TPU {record['target']}", f"{record['photos']:,}", str(runs)]
        rows.append([*cells, f"{record['time']['hours']:.1f}"])
    header = ["system", "experiment", "machine", "photos or listings", "runs", "hours of the first, by `ssljax plan`"]
    return "What would decide these claims at size; none of it was run:\n\n" + markdown(header, rows)


def _ladder() -> dict[str, dict[str, float]]:
    """The steps of matching by photo and title; empty if they were not run."""
    path = HERE / "benchmark_titles.json"
    return json.loads(path.read_text())["table"]["test"] if path.exists() else {}


def _line(system: str, claim: str, found: str, verdict: str, *commands: str, page: str = TABLES) -> list[str]:
    return [system, claim, found, verdict, f"[{page}]({page})", ", ".join(f"`{command}`" for command in commands)]


def _compared(
    a: Seen | None,
    b: Seen | None,
    ratio: float = 1.0,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    figure: str = "cmc@1",
) -> str:
    """Whether b is above a, by `ratio` at least.

    Each seed of b must be above each of a, and in the pairs of runs that were compared on the same queries the interval
    of the difference above zero. One seed alone must be beyond the interval of its own.
    """
    if a is None or b is None:
        return NOT_RUN
    if max(a.seeds) >= min(b.seeds):
        return "not seen" + ", one seed" * (len(b.seeds) == 1)
    paths = [path for x, y in pairs if (path := HERE / "comparisons" / f"{x}-{y}.json").exists()]
    lows = [json.loads(path.read_text())["differences"][figure]["low"] for path in paths]
    if lows and min(lows) <= 0:
        return "higher, within the interval of the paired difference"
    if len(b.seeds) == 1 and not lows:
        if b.low == b.high:
            return "higher, one seed, without an interval"
        if b.low <= a.mean:
            return "higher, one seed, within the interval"
    times, one = f", {b.mean / a.mean:.2f} times" * (ratio > 1), ", one seed" * (len(b.seeds) == 1)
    return f"seen{times}{one}" if b.mean >= ratio * a.mean else f"higher{times} instead of {ratio:g}{one}"


def _natural_views() -> list[str]:
    shown, verdicts, both = [], [], ("augmented", "natural")
    runs = {
        "random": [[f"natural_views_moby_{views}"] for views in both],
        "ImageNet's": [seeds(f"claims_natural_photos_{views}") for views in both],
    }
    for start, names in runs.items():
        a, b = (seen(of, PRODUCT) for of in names)
        shown.append(f"from {start} weights, augmented {a or NOT_RUN}, natural {b or NOT_RUN}")
        verdicts.append(f"from {start} weights {_compared(a, b, pairs=list(zip(*names, strict=True)))}")
    shown.append(f"imported and not trained {seen(['claims_natural_photos_imported'], PRODUCT) or NOT_RUN}")
    claim = "two photos of a listing teach more than two augmentations of one photo"
    found = "MoBY, product CMC@1: " + "; ".join(shown)
    return _line("A", claim, found, "; ".join(verdicts), "ssljax sweep experiments/claims/natural_photos.py")


def _listings() -> list[str]:
    start, end = (
        seen(names, LISTING) for names in (["claims_natural_views_imported"], seeds("claims_natural_views_moby"))
    )
    imported, augmented, natural = (
        seen(names, LISTING)
        for names in (
            ["claims_natural_photos_imported"],
            seeds("claims_natural_photos_augmented"),
            seeds("claims_natural_photos_natural"),
        )
    )
    found = (
        "AUC, how often a pair of photos within a listing is nearer than a pair across listings: ImageNet's vectors "
        f"{start or NOT_RUN}, a projection of them by MoBY on natural pairs {end or NOT_RUN}; at 96 px imported "
        f"{imported or NOT_RUN}, MoBY's last blocks with augmented views {augmented or NOT_RUN}, with natural ones "
        f"{natural or NOT_RUN}"
    )
    claim = "photos of one listing come to lie closer than those of others"
    verdict = f"a projection beside the vectors: {_compared(start, end)}; "
    verdict += f"natural beside augmented views: {_compared(augmented, natural)}"
    commands = (f"ssljax sweep experiments/claims/{file}.py" for file in ("natural_views", "natural_photos"))
    return _line("A", claim, found, verdict, *commands)


def _robust() -> list[str]:
    names = {
        "imported": "imported",
        "standard": "MoCo",
        "ecommerce": "MoCo with e-commerce views",
        "siamese": "Siamese",
        "siamese_ecommerce": "Siamese with e-commerce views",
    }
    clean = {name: seen(seeds(f"claims_robust_{name}"), STYLE) for name in names}
    records = {name: disturbed(seeds(f"claims_robust_{name}")) for name in names}
    losses = {name: [_lost(of, kind) for kind in KINDS] for name, of in records.items() if of}
    shares = [f"{kind} {' → '.join(f'{of[k]:.0%}' for of in losses.values())}" for k, kind in enumerate(KINDS)]
    found = "style CMC@1 from ImageNet's weights: "
    found += ", ".join(f"{names[name]} {value or NOT_RUN}" for name, value in clean.items())
    found += f"; lost at medium strength, in this order: {', '.join(shares)}" if losses else ""
    verdicts = []
    for standard, shop, called in (("standard", "ecommerce", "MoCo"), ("siamese", "siamese_ecommerce", "Siamese")):
        a, b = clean[standard], clean[shop]
        if a and b and {standard, shop} <= set(losses):
            halved = sum(y <= x / 2 for x, y in zip(losses[standard], losses[shop], strict=True))
            price = f"clean CMC@1 {100 * (b.mean - a.mean):+.1f} points"
            verdicts.append(f"by {called} {halved} of {len(KINDS)} losses halved, {price}")
    for rival, its in (("siamese", "standard views"), ("siamese_ecommerce", "the same views")):
        if {rival, "ecommerce"} <= set(losses):
            a, b = (
                [[at_medium(r, curve(r, k)) for r in records[name]] for k in KINDS] for name in (rival, "ecommerce")
            )
            more = [kind for kind, x, y in zip(KINDS, a, b, strict=True) if min(y) > max(x)]
            verdicts.append(f"MoCo finds more than Siamese with {its} under {', '.join(more) or 'none'}, in each seed")
    claim = "MoCo with views that disturb photos as shops do is robust to it, and beats a Siamese baseline"
    return _line("B", claim, found, "; ".join(verdicts) or NOT_RUN, "python results/robust.py")


def _lost(records: Sequence[dict], kind: str) -> float:
    """The share of CMC@1 that is lost when queries are disturbed at medium strength, the mean over runs."""
    curves = [(record, curve(record, kind)) for record in records]
    return sum(1 - at_medium(record, of) / of["clean"] for record, of in curves) / len(curves)


def _difficulties() -> list[str]:
    shown, verdicts = [], []
    for difficulty, among in DIFFICULTIES.items():
        records = disturbed([f"{name}-{difficulty}" for name in COMPARED_RUNS])
        if len(records) < len(COMPARED_RUNS):
            shown.append(f"{among}, {NOT_RUN}")
            continue
        queries = records[0]["queries"]
        found = {"clean": [curve(record, KINDS[0])["clean"] for record in records]}
        found |= {kind: [at_medium(record, curve(record, kind)) for record in records] for kind in KINDS}
        shown.append(f"{among}, {', '.join(f'{value:.3f}' for value in found['clean'])}")
        for place, its in ((1, "standard"), (2, "the same")):
            more = [kind for kind, values in found.items() if _apart(values[0], values[place], queries)]
            fewer = [kind for kind, values in found.items() if _apart(values[place], values[0], queries)]
            said = " and ".join(
                f"{word} under {', '.join(kinds)}" for word, kinds in (("more", more), ("fewer", fewer)) if kinds
            )
            verdicts.append(f"{among}, MoCo beside Siamese with {its} views: {said or 'no difference'}")
    claim = "MoCo with such views finds more than a Siamese baseline at three difficulties"
    found = "CMC@1 of clean queries by MoCo with e-commerce views, Siamese, and Siamese with the same views; among "
    verdict = (
        "; ".join(("beyond two standard errors, clean or disturbed, one seed", *verdicts)) if verdicts else NOT_RUN
    )
    return _line("B", claim, found + "; among ".join(shown), verdict, "python results/robust.py")


def _apart(a: float, b: float, queries: int) -> bool:
    """Whether share a of so many queries is above b by two standard errors, as if their queries were others."""
    return a - b > 2 * ((a * (1 - a) + b * (1 - b)) / queries) ** 0.5


def _matching() -> list[str]:
    steps, command = _ladder(), "python results/titles.py"
    claim = "photo and title together find more than either"
    if not steps:
        return _line("C", claim, NOT_RUN, NOT_RUN, command, page="titles.md")
    shown = ("photo", "title, a bag of BPE tokens", "title, a bag of n-grams", "both, concat", "both, normalise_first")
    found = "F1: " + ", ".join(f"{step} {steps[step]['F1']:.3f}" for step in shown)
    found += f", an ensemble blended, and min2 {steps['... blended, and min2']['F1']:.3f}"
    best = max(steps[step]["F1"] for step in shown[:3])
    verdict = "seen" if steps["both, normalise_first"]["from"] > best else "not seen"
    return _line("C", claim, found, verdict, command, page="titles.md")


def _labels() -> list[str]:
    parts = {f"{percent} %": seen(seeds(f"claims_labels_{percent}"), STYLE) for percent in (1, 10, 100)}
    imported = seen(["imported_fashion"], STYLE)
    found = f"style CMC@1 of vectors as imported {imported or NOT_RUN}; of a projection by labels of " + ", ".join(
        f"{share} of styles {value or NOT_RUN}" for share, value in parts.items()
    )
    verdict = _compared(
        imported, parts["100 %"], pairs=[("imported_fashion", run) for run in seeds("claims_labels_100")]
    )
    claim = "labels of the catalogue improve imported weights, given enough of them"
    return _line("D", claim, found, verdict, "ssljax sweep experiments/claims/labels.py")


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
    verdicts = []
    for a, b, said in (
        ("MoBY", "labels", "labels beside MoBY"),
        ("DINO", "labels", "labels beside DINO"),
        ("labels", "half MoBY, then half labels", "labels after MoBY beside labels"),
    ):
        pairs = list(zip(seeds(ways[a]), seeds(ways[b]), strict=True))
        verdicts.append(f"{said}: {_compared(products[a], products[b], pairs=pairs)}")
    claim = "metric learning beats self-supervision on the same photos, and gains from following it"
    return _line("D", claim, found, "; ".join(verdicts), "ssljax sweep experiments/claims/in_sequence.py")


def _attributes() -> list[str]:
    by = {name: seen(seeds(f"claims_attributes_{name}"), ATTRIBUTE) for name in ("levels", "iou")}
    alone = {n: seen(seeds(f"claims_attributes_{n}"), ATTRIBUTE) for n in ("gender", "articleType", "baseColour")}
    there = {name: value for name, value in alone.items() if value}
    best = max(there, key=lambda name: there[name].mean, default="")
    found = f"attribute MAP@R of vectors as imported {seen(['fine_tuning_fashion_levels'], ATTRIBUTE) or NOT_RUN}; "
    found += f"with hard negatives by levels {by['levels'] or NOT_RUN}, by IoU {by['iou'] or NOT_RUN}"
    found += f", by the best single attribute ({best}) {there[best]}" if best else ""
    pairs = list(zip(seeds(f"claims_attributes_{best}"), seeds("claims_attributes_iou"), strict=True))
    verdicts = [
        f"levels {_compared(there.get(best), by['levels'], 2.0)}",
        f"IoU {_compared(there.get(best), by['iou'], 2.0, pairs=pairs, figure='map@r')}",
    ]
    claim = "triplets by several attributes are twice as good as by one"
    files = ("claims/attributes.py", "fine_tuning/fashion.py --only 1")
    return _line("E", claim, found, "; ".join(verdicts), *(f"ssljax sweep experiments/{file}" for file in files))


def _tasks() -> list[str]:
    shown, verdicts = [], []
    runs = {
        "a projection": {
            "ranking": seeds("claims_attributes_iou"),
            "naming": seeds("claims_attributes_naming"),
            "ranking and naming": seeds("claims_attributes_ranking_and_naming"),
        },
        "the last blocks": {
            "ranking": ["claims_resellers_ranking_0"],
            "naming": ["claims_resellers_naming_0"],
            "VAE": ["claims_resellers_vae_0"],
            "ranking and naming": ["claims_resellers_ranking_naming_0"],
            "ranking and VAE": ["claims_resellers_ranking_vae_0"],
            "naming and VAE": ["claims_resellers_naming_vae_0"],
            "all three": ["claims_resellers_ranking_naming_vae_0"],
        },
    }
    for learning, tasks in runs.items():
        found = {task: seen(names, ATTRIBUTE) for task, names in tasks.items()}
        shown.append(f"{learning}, " + ", ".join(f"{task} {value or NOT_RUN}" for task, value in found.items()))
        if not all(found.values()):
            verdicts.append(f"{learning}: {NOT_RUN}")
            continue
        alone = [task for task in found if task in ("ranking", "naming", "VAE")]
        best = max(alone, key=lambda task: found[task].mean)
        for task in [task for task in found if task not in alone]:
            pairs = list(zip(tasks[best], tasks[task], strict=True))
            compared = _compared(found[best], found[task], 1.04, pairs=pairs, figure="map@r")
            verdicts.append(f"{learning}, {task}: {compared}")
    claim = "several tasks are 4 % better than the best alone"
    said = "attribute MAP@R of what learns: " + "; ".join(shown)
    commands = ("ssljax sweep experiments/claims/attributes.py", "python results/resellers.py")
    return _line("E", claim, said, "; ".join(verdicts), *commands)
