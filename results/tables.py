"""Writes the figures of results/*.json into the pages, between the markers `<!-- results -->` and `<!-- /results -->`.

python results/tables.py            rewrites README.md and the pages of docs/ that have such markers
python results/tables.py --check    exits 1 if a page is not what the results say
"""

import json
import re
import sys
from pathlib import Path

from claims import (
    COMPARED_RUNS,
    DIFFICULTIES,
    FAILURE_KINDS,
    KINDS,
    RESELLER_KINDS,
    RESELLER_RUNS,
    Seen,
    at_medium,
    at_size,
    claims,
    curve,
    disturbed,
    matching_steps,
    seeds,
    seen,
)
from markdown_table import HERE, NOT_RUN, markdown
from pairs import CLAIM_PAIRS, PAIRS, TUNED_PAIRS, alone, comparisons
from plan_tables import before_and_after, plans

from ssljax.training.experiment_file import load_experiments

README, DOCS, EXPERIMENTS = (HERE.parent / name for name in ("README.md", "docs", "experiments"))
BEGIN, END = "<!-- results -->\n", "<!-- /results -->\n"
HEADLINES = ("quickstart", "pretrained_imported", "pretrained_tuned")
PRODUCT_FIGURES = ("test/product/cmc@1", "test/iconic/cmc@1")
STYLE_FIGURES = ("test/style/cmc@1", "test/style/map@r")
ATTRIBUTE_FIGURES = ("test/attribute/cmc@1", "test/attribute/map@r")
LISTING_FIGURES = tuple(f"test/listing/{name}" for name in ("auc", "within", "between"))
SMALL_FASHION = {
    "imported, with earlier maps": ["claims_robust_imported_0"],
    "221 steps of MoCo": seeds("claims_robust_standard"),
    "186 steps of the contrastive loss on pairs of a style": seeds("claims_robust_siamese"),
    "221 steps of MoCo, then 186 of the contrastive loss": seeds("claims_robust_siamese_after_moco"),
}
SMALL_GROCERY = {
    "imported, with earlier maps": ["claims_natural_photos_imported"],
    "112 steps of DINO with small crops": seeds("claims_in_sequence_dino"),
    "112 steps of MoBY with natural views": seeds("claims_natural_photos_natural"),
    "112 steps of the multi-similarity loss on all labels": seeds("claims_in_sequence_labels_100"),
    "56 steps of MoBY, then 56 of the multi-similarity loss": seeds("claims_in_sequence_after_moby_100"),
}
ROWS = ("raw pixels", "untrained", "trained", "teacher")
BENCHMARK = "benchmark_"
WAYS = ("photo-to-title", "title-to-photo")


def experiments() -> str:
    """What the first evaluator of the README's experiments found, beside raw pixels."""
    rows = []
    for path in [HERE / f"{name}.json" for name in HEADLINES]:
        if not path.exists():
            rows.append([path.stem, NOT_RUN, *[""] * len(ROWS)])
            continue
        record = json.loads(path.read_text())
        names = [n for n in record["table"]["trained"] if n.endswith(("cmc@1", "map@r"))]
        for name in names:
            table = {"untrained": record["table"].get("imported"), **record["table"]}
            values = [f"{table[row][name]:.3f}" if table.get(row) else "" for row in ROWS]
            rows.append([record["name"], name, *values])
        rows[-len(names)][0] += f" ({_circumstances(record)})"
    return markdown(["experiment", "figure", *ROWS], rows)


def names_of(*files: str) -> list[str]:
    """The runs of the sweeps of experiment files."""
    return [experiment.name for file in files for experiment in load_experiments(EXPERIMENTS / f"{file}.py")[1]]


def sweep(files: tuple[str, ...], figures: tuple[str, ...], *, start: str | None = None) -> str:
    """A line for each run of sweeps and each of its networks, and a column for each figure; raw pixels last.

    `start` is the run whose encoder all runs start from: it has a line, too.
    """
    rows, baselines, circumstances = [], {}, ""
    for name in names_of(*files):
        path = HERE / f"{name}.json"
        if not path.exists():
            rows.append([name, NOT_RUN, *[""] * (len(figures) - 1)])
            continue
        record = json.loads(path.read_text())
        circumstances = _circumstances(record)
        start_row = "imported" if "imported" in record["table"] else "untrained"
        baselines = {f"{start}, the start": record["table"][start_row]} if start else {}
        baselines |= {row: record["table"][row] for row in ("raw pixels",) if row in record["table"]}
        for network in ("trained", "teacher"):
            if network in record["table"]:
                label = name + (", teacher" if network == "teacher" else "")
                rows.append([label, *(str(Seen.of([record["table"][network]], figure)) for figure in figures)])
    for label, baseline in baselines.items():
        rows.append([label, *(str(Seen.of([baseline], figure)) for figure in figures)])
    said = ", ".join(f"[`experiments/{file}.py`](../experiments/{file}.py)" for file in files)
    title = f"By {said}" + (f" ({circumstances} for the last)" if circumstances else "")
    return f"{title}:\n\n" + markdown(["", *figures], rows)


def fine_tuning(data: str, from_nothing: str, figures: tuple[str, ...]) -> str:
    """A line for each way to use an encoder that ImageNet has trained, and a column for each figure.

    With several seeds it is their mean, the interval that of the first, and then the smallest and the largest.
    """

    def run(name: str, after: str = "", *, repeated: bool = False) -> tuple[list[str], str, str]:
        name = f"fine_tuning_{data}_{name}"
        return seeds(name) if repeated else [name], "trained", after

    # runs, the row of their tables, and what is added to the evaluator's name
    on_vectors = {
        "colours alone": (["colours_fashion"], "trained", ""),
        "with earlier maps and colours, each whitened": run("colours_whitened", "_whitened"),
        "with earlier maps and colours, each whitened, and projected by labels": run("colours_whitened", "_by_labels"),
        "the same, and then query expansion": run("colours_whitened", "_expanded"),
        "with earlier maps, whitened by labels, and a projection that SupCon trains": run(
            "maps_projection", repeated=True
        ),
        "with earlier maps and colours, whitened by labels, and a projection that SupCon trains": run(
            "colours_projection", repeated=True
        ),
        "the same, and query expansion after it": run("colours_projection", "_expanded", repeated=True),
        "with earlier maps of two encoders and colours, each whitened": run("encoders_whitened", "_whitened"),
        "with earlier maps of two encoders and colours, each whitened, and projected by labels": run(
            "encoders_whitened", "_by_labels"
        ),
        "with earlier maps of two encoders and colours, whitened by labels, and a projection that SupCon trains": run(
            "encoders_projection", repeated=True
        ),
        "the same two encoders and colours, and query expansion after it": run(
            "encoders_projection", "_expanded", repeated=True
        ),
    }
    ways = {
        "raw pixels": (["colours_fashion"] if data == "fashion" else run("imported")[0], "raw pixels", ""),
        f"{from_nothing}, from nothing": ([from_nothing], "trained", ""),
        "imported, as it is": run("imported"),
        "imported, whitened": run("imported", "_whitened"),
        "with earlier maps": run("levels"),
        "with earlier maps, whitened": run("levels", "_whitened"),
        "with earlier maps, projected by labels in closed form": run("levels", "_by_labels"),
        "with earlier maps, each whitened": run("parts", "_whitened"),
        "with earlier maps, each whitened, and projected by labels": run("parts", "_by_labels"),
        **({"the same, and query expansion": run("parts", "_expanded")} | on_vectors if data == "fashion" else {}),
        "projection only, sub-center ArcFace": run("projection_0"),
        "tuned by labels": run("tuned", repeated=True),
        "tuned by labels, projected by labels": run("tuned", "_by_labels", repeated=True),
    }
    rows = []
    for way, (names, row, after) in ways.items():
        records = [json.loads(path.read_text()) for name in names if (path := HERE / f"{name}.json").exists()]
        named = ["/".join((split, kind + after, figure)) for split, kind, figure in (f.split("/") for f in figures)]
        tables = [record["table"][row] for record in records if named[0] in record["table"][row]]
        if not tables:
            rows.append([way, NOT_RUN, *[""] * len(figures)])
            continue
        minutes = sum(record["seconds"] for record in records) / len(records) / 60 if row == "trained" else 0
        cells = [str(Seen.of(tables, figure)) if figure in tables[0] else "" for figure in named]
        rows.append([way, *cells, f"{minutes:.1f}" if minutes else ""])
    return f"{data.capitalize()}:\n\n" + markdown(["", *figures, "minutes of training"], rows)


def small_photos(title: str, ways: dict[str, list[str]], figures: tuple[str, ...]) -> str:
    """A line for each way to train on small photos, whose runs are given, and a column for each figure."""
    rows = [[way, *(str(seen(names, figure) or NOT_RUN) for figure in figures)] for way, names in ways.items()]
    return f"{title}:\n\n" + markdown(["", *figures], rows)


def over_seeds(file: str, figures: tuple[str, ...], *, said: str = "") -> str:
    """A line for each run of a sweep, whatever its seed, and a column for each figure: the mean, the interval of the
    first seed, and then the smallest and the largest. `said` explains the lines' names."""
    rows = []
    for label, (tables, wanted) in _by_seeds(file).items():
        cells = [str(Seen.of(tables, figure)) if tables and figure in tables[0] else "" for figure in figures]
        rows.append([label, f"{len(tables)} of {wanted}", *(cells if tables else [NOT_RUN, *cells[1:]])])
    title = f"By [`experiments/{file}.py`](../experiments/{file}.py)"
    return f"{title}{said}:\n\n" + markdown(["", "seeds run", *(f.removeprefix("test/") for f in figures)], rows)


def told(file: str) -> str:
    """How well the runs of a sweep tell attributes, means over seeds: a line for each run, attribute and way."""
    rows, shares = [], (1, 5, 10, 100)
    for label, (tables, _) in _by_seeds(file).items():
        for figure in tables[0] if tables else ():
            if figure.startswith("test/attributes/") and figure.endswith("/majority"):
                column = figure.split("/")[2]
                for way, name in (("neighbours", "accuracy"), ("a linear classifier", "linear")):
                    figures = [f"test/attributes/{column}/{name}@{share}%" for share in shares]
                    means = [sum(table[f] for table in tables) / len(tables) for f in figures]
                    rows.append([label, column, way, *(f"{mean:.3f}" for mean in means)])
    header = ["", "attribute", "predicted by", *(f"{share} % of the labels" for share in shares)]
    return "Accuracy of predicted attributes:\n\n" + markdown(header, rows or [[NOT_RUN, *[""] * 6]])


def _by_seeds(file: str) -> dict[str, tuple[list[dict], int]]:
    """Run of a sweep, whatever its seed → the figures of the seeds that were run, and how many there are to run."""
    runs = _whatever_the_seed(names_of(file))
    paths = {run: [path for n in names if (path := HERE / f"{n}.json").exists()] for run, names in runs.items()}
    return {
        run: ([json.loads(path.read_text())["table"]["trained"] for path in there], len(runs[run]))
        for run, there in paths.items()
    }


def _whatever_the_seed(names: list[str]) -> dict[str, list[str]]:
    """The runs that differ in the seed alone, which ends their names; a difficulty may follow it."""
    runs: dict[str, list[str]] = {}
    for name in names:
        runs.setdefault(re.sub(r"_\d(?=$|-)", "", name), []).append(name)
    return runs


def _mean_and_range(values: list[float], form: str) -> str:
    """The mean of values, and with several the smallest and the largest; empty if there are none."""
    if not values:
        return ""
    mean = format(sum(values) / len(values), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


def run_only(table: str) -> str:
    """A table without the lines of what was not run, which the guides have."""
    return "".join(line for line in table.splitlines(True) if NOT_RUN not in line)


def robustness(names: list[str], kinds: tuple[str, ...], side: str = "query", among: str = "") -> str:
    """A line for each run, whatever its seed: CMC@1 of its clean queries, and the share that is lost under each kind.

    With several seeds it is the mean, and then the smallest and the largest. `among` says what the queries are searched
    among, if not their own data.
    """
    rows, said, whose = [], "", {"query": "the queries", "gallery": "the gallery", "both": "both sides"}[side]
    for label, seeds_of in _whatever_the_seed(names).items():
        clean, lost = [], {kind: [] for kind in kinds}
        for record in disturbed(seeds_of):
            shown = ("student", side, "cmc@1")
            of = {c["disturbance"]: c for c in record["curves"] if (c["way"], c["side"], c["figure"]) == shown}
            if of:
                clean.append(next(iter(of.values()))["clean"])
                said = f"{record['queries']:,} queries, {whose} disturbed at strength {record['medium']:g}"
            for kind in lost.keys() & of:
                lost[kind].append(1 - at_medium(record, of[kind]) / of[kind]["clean"])
        fewer = [f", {len(v)} seeds" * (0 < len(v) < len(clean)) for v in lost.values()]
        cells = [_mean_and_range(v, ".0%") + count for v, count in zip(lost.values(), fewer, strict=True)]
        rows.append([label, f"{len(clean)} of {len(seeds_of)}", _mean_and_range(clean, ".3f") or NOT_RUN, *cells])
    if not said:
        return f"Robustness{among}, {whose} disturbed: {NOT_RUN}.\n"
    header = ["", "seeds", "clean CMC@1", *(f"lost: {kind}" for kind in kinds)]
    return f"Robustness{among} ({said}):\n\n" + markdown(header, rows)


def strengths(names: list[str], kinds: tuple[str, ...]) -> str:
    """A line for each run, whatever its seed, and kind of disturbance: CMC@1 at each strength, the mean over seeds."""
    rows, header = [], []
    for label, seeds_of in _whatever_the_seed(names).items():
        records = disturbed(seeds_of)
        for kind in kinds if records else ():
            curves = [curve(record, kind) for record in records]
            values = [[of["clean"], *of["values"]] for of in curves]
            header = ["clean", *(f"{strength:g}" for strength in records[0]["suite"]["strengths"])]
            rows.append([label, kind, *(f"{sum(v) / len(v):.3f}" for v in zip(*values, strict=True))])
    title = "CMC@1 of disturbed queries by the strength of the disturbance, means over seeds"
    return f"{title}:\n\n" + markdown(["", "", *header], rows)


def _circumstances(record: dict) -> str:
    environment = record["environment"]
    return f"{environment['device']}, {environment['cpu_cores']} cores, {record['seconds'] / 60:.0f} min"


def benchmark(name: str, title: str) -> str:
    """The table of one benchmark, group → row → figures, as its script recorded it."""
    path = HERE / f"{BENCHMARK}{name}.json"
    if not path.exists():
        return f"{title}: {NOT_RUN}.\n"
    record = json.loads(path.read_text())
    measured = [f for rows in record["table"].values() for f in rows.values() if isinstance(f, dict)]
    columns = list(dict.fromkeys(c for figures in measured for c, value in figures.items() if value is not None))
    rows = [
        [group, row, *_cells(figures, columns)]
        for group, rows in record["table"].items()
        for row, figures in rows.items()
    ]
    e = record["environment"]
    machine = f"{e['device']}, {e['cpu_cores']} cores, Python {e['python']}, jax {e['versions']['jax']}"
    return f"{title} ({machine}):\n\n" + markdown(["", "", *(c.replace("_", " ") for c in columns)], rows)


def matching() -> str:
    """A line for each number of items that were matched."""
    record = json.loads((HERE / f"{BENCHMARK}matching.json").read_text())
    header = ["items", "milliseconds an item", "MiB beside the vectors", "row-wise F1", "seconds a stage of blending"]
    rows = []
    for one in record["table"]:
        blending = one.get("seconds a stage of blending")
        memory = f"{one['MiB beside them at the peak']:,.0f}"
        figures = f"{one['milliseconds an item']:.2f}", memory, f"{one['row-f1']:.3f}"
        rows.append([f"{one['items']:,}", *figures, NOT_RUN if blending is None else f"{blending:.1f}"])
    return f"{record['note']}:\n\n" + markdown(header, rows)


def _cells(figures: dict | str, columns: list[str]) -> list[str]:
    if isinstance(figures, str):  # why there are none
        return [figures, *[""] * (len(columns) - 1)]
    return ["" if figures.get(c) is None else _number(figures[c]) for c in columns]


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def pages() -> dict[Path, str]:
    """The pages with generated tables, as they should be."""
    robust = names_of("claims/robust")
    tuned = [
        fine_tuning("fashion", "moco_fashion", (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1])),
        fine_tuning("grocery", "natural_views_moby_natural", PRODUCT_FIGURES),
    ]
    small = [
        small_photos(
            "Fashion, trained on crops of 64 px and judged at 80", SMALL_FASHION, (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1])
        ),
        small_photos("Grocery, trained on crops of 64 px and judged at 96", SMALL_GROCERY, PRODUCT_FIGURES),
    ]
    parts = {
        README: [run_only(table) for table in (*tuned, experiments())],
        DOCS / "fine_tuning.md": [*tuned, *small, comparisons(*TUNED_PAIRS)],
        DOCS / "speed.md": [
            benchmark("train_step", "Training steps beside PyTorch"),
            benchmark("input_pipeline", "Input pipeline"),
            before_and_after(),
        ],
        DOCS / "ecommerce.md": [
            sweep(("natural_views",), (*PRODUCT_FIGURES, LISTING_FIGURES[0])),
            sweep(("shop_views",), STYLE_FIGURES),
            robustness(names_of("shop_views"), FAILURE_KINDS),
            benchmark("views", "Views, 64 photos at a time"),
        ],
        DOCS / "losses.md": [
            benchmark("losses", "Time and memory, forward and backward, D = 128, temperature .2"),
            benchmark("parity", "Largest relative difference from other libraries, in value and in gradient"),
        ],
        DOCS / "export.md": [benchmark("export", "Smaller files, of 1,000 photos of a run's gallery")],
        DOCS / "metrics.md": [benchmark("metrics", "Largest difference of figures from other libraries")],
        DOCS / "indexes.md": [
            benchmark("index", "Search by cosine, recall@10, batches of 10,000"),
        ],
        DOCS / "methods.md": [
            benchmark("methods", "Training steps with ResNet-18, CIFAR's stem, 32 px, float32"),
        ],
        DOCS / "serve.md": [
            benchmark("serve", "Requests to a service with 10,000 items"),
            benchmark("serve_updates", "Searches by the id of an item while others are added"),
        ],
        DOCS / "watermarks.md": [
            benchmark("watermarks", "Marks found, and PSNR where they are before and after they are removed, in dB"),
        ],
        DOCS / "matching.md": [matching()],
        DOCS / "post_processing.md": [benchmark("rerank", "Test split of Fashion")],
        DOCS / "attributes.md": [
            benchmark("attributes", "Accuracy of predicted attributes, from shares of the labels and all"),
            benchmark("words", "Words of the title"),
        ],
        DOCS / "metric_learning.md": [
            sweep(("metric_learning/mining",), (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1]), start="moco_fashion"),
            sweep(("metric_learning/memory",), STYLE_FIGURES, start="moco_fashion"),
            sweep(("metric_learning/batch_shapes",), STYLE_FIGURES, start="moco_fashion"),
            sweep(
                ("metric_learning/attribute_triplets",), (*ATTRIBUTE_FIGURES, STYLE_FIGURES[0]), start="moco_fashion"
            ),
            sweep(("metric_learning/many_tasks",), (*ATTRIBUTE_FIGURES, STYLE_FIGURES[0]), start="moco_fashion"),
            sweep(
                ("metric_learning/few_labels", "metric_learning/few_labels_tuned"),
                (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1]),
            ),
            alone("few_labels_moco", "few_labels_100", 10),
            comparisons(*PAIRS),
            benchmark("metric_learning", "Metric learning, forward and backward, D = 128"),
        ],
        DOCS / "accelerators.md": [plans(), before_and_after()],
        DOCS / "claims.md": [claims(), matching_steps(), at_size()],
        DOCS / "claims_tables.md": [
            over_seeds("claims/natural_photos", (*PRODUCT_FIGURES, *LISTING_FIGURES)),
            over_seeds("claims/natural_views", (*PRODUCT_FIGURES, LISTING_FIGURES[0])),
            told("claims/natural_views"),
            over_seeds(
                "claims/robust",
                (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1]),
                said=" (standard, ecommerce and often: views for MoCo; siamese: pairs of photos of a style, "
                "with standard views unless it says ecommerce)",
            ),
            robustness(robust, FAILURE_KINDS),
            strengths(robust, KINDS),
            *(robustness([robust[0]], FAILURE_KINDS, side) for side in ("gallery", "both")),
            *(
                robustness([f"{name}-{difficulty}" for name in COMPARED_RUNS], FAILURE_KINDS, among=f" among {among}")
                for difficulty, among in DIFFICULTIES.items()
            ),
            benchmark(
                "remedies",
                "The share of 1,000 queries that find their style, disturbed at strength 0.6, by ways to ask",
            ),
            benchmark(
                "unmarked", "CMC@1 of styles: photos as they are, with sellers' watermarks, and with these removed"
            ),
            over_seeds("claims/labels", (*STYLE_FIGURES, ATTRIBUTE_FIGURES[1])),
            over_seeds(
                "claims/in_sequence",
                (*PRODUCT_FIGURES, LISTING_FIGURES[0]),
                said=" (labels: of 10 or 100 % of the products; after_moby: the same for half of the steps, after "
                "moby_half; dino_vit: from random weights)",
            ),
            alone("claims_in_sequence_dino_0", "claims_in_sequence_labels_100_0", 10),
            over_seeds("claims/attributes", (*ATTRIBUTE_FIGURES, STYLE_FIGURES[0])),
            over_seeds("claims/resellers", (*ATTRIBUTE_FIGURES, STYLE_FIGURES[0])),
            robustness(list(RESELLER_RUNS), RESELLER_KINDS),
            benchmark(
                "index_advice",
                "Kinds of index on all photos of Fashion; recommended for recall@10 of .95 and 28 updates a second",
            ),
            comparisons(*CLAIM_PAIRS),
        ],
        DOCS / "titles.md": [
            benchmark("titles", "Matched products of Fashion's test split, row-wise F1, means of three seeds"),
            sweep(("titles/fashion",), (*STYLE_FIGURES, "test/style/row-f1")),
            sweep(("titles/clip",), tuple(f"test/style/{way}/cmc@{k}" for way in WAYS for k in (1, 5, 10))),
            sweep(("titles/grocery",), PRODUCT_FIGURES),
        ],
        DOCS / "triplets.md": [benchmark("triplets", "Mining of six triplets a photo")],
    }
    return {page: _filled(page.read_text(), tables) for page, tables in parts.items()}


def _filled(text: str, tables: list[str]) -> str:
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n".join(tables) + END + after


def main() -> None:
    """Rewrites the pages, or checks them."""
    for page, text in pages().items():
        if "--check" in sys.argv[1:]:
            if text != page.read_text():
                sys.exit(f"{page.name} is not what results/*.json say")
        else:
            page.write_text(text)


if __name__ == "__main__":
    main()
