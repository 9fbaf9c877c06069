"""Pairs of runs that the pages compare, and their tables.

python results/pairs.py     compares, by `ssljax compare`, the pairs whose runs are both under runs/

Writes results/comparisons/*.json, of which `python results/tables.py` makes tables.
"""

import json
from collections.abc import Iterable

from claims import SEEDS
from commands import ROOT, ssljax
from markdown_table import HERE, NOT_RUN, markdown

PAIRS = (
    *((f"mining_{one}", "mining_batch_hard") for one in ("all", "multi_similarity")),
    *(
        (f"memory_{loss}_batch_{batch}_memory_0", f"memory_{loss}_batch_{batch}_memory_4096")
        for loss in ("contrastive", "batch_hard")
        for batch in (32, 128, 256)
    ),
    *(("batch_shapes_64x2", f"batch_shapes_{one}") for one in ("32x4", "64x2_within")),
    *(
        (f"attribute_triplets_by_{one}{hard}", f"attribute_triplets_by_all_in_levels{hard}")
        for hard in ("", "_hard")
        for one in ("gender", "articleType", "baseColour", "all_by_iou")
    ),
    *(
        (f"attribute_triplets_by_{one}_hard", "attribute_triplets_by_all_by_iou_hard")
        for one in ("gender", "articleType", "baseColour")
    ),
    *((f"attribute_triplets_by_{one}", f"attribute_triplets_by_{one}_hard") for one in ("all_in_levels", "all_by_iou")),
    *((f"many_tasks_{one}", "many_tasks_ranking_attributes_vae") for one in ("ranking", "attributes")),
    ("many_tasks_ranking_attributes_vae", "many_tasks_ranking_attributes_vae_uncertainty"),
    *(("few_labels_moco", f"few_labels_{of}") for of in ("10", "100", "tuned_1", "tuned_10", "tuned_100")),
    ("few_labels_moco_half", "few_labels_tuned_1"),
    *((f"few_labels_{share}", f"few_labels_tuned_{share}") for share in (1, 10, 100)),
)
TUNED_PAIRS = tuple(
    (f"fine_tuning_{data}_{a}", f"fine_tuning_{data}_{b}")
    for data in ("fashion", "grocery")
    for a, b in (
        ("imported", "levels"),
        ("levels", "projection_0"),
        ("levels", "tuned_0"),
        ("parts", "tuned_0"),
        ("projection_0", "tuned_0"),
    )
) + tuple(
    (f"fine_tuning_fashion_{a}_0", f"fine_tuning_fashion_{b}_0")
    for a, b in (
        ("tuned", "colours_projection"),
        ("maps_projection", "colours_projection"),
        ("colours_projection", "encoders_projection"),
    )
)
CLAIM_PAIRS = (
    *(
        ("claims_natural_photos_" + a, "claims_natural_photos_" + b)
        for a, b in (
            ("imported", "natural_0"),
            *((f"augmented_{seed}", f"{views}_{seed}") for seed in SEEDS for views in ("natural", "both")),
        )
    ),
    *(
        ("claims_natural_views_imported", f"claims_natural_views_{method}_0")
        for method in ("simclr", "moby", "sim_siam")
    ),
    ("claims_robust_imported_0", "claims_robust_standard_0"),
    *(
        (f"claims_robust_{a}_{seed}", f"claims_robust_{b}_{seed}")
        for seed in SEEDS
        for a, b in (
            ("siamese", "standard"),
            ("standard", "ecommerce"),
            ("standard", "often"),
            ("siamese", "siamese_ecommerce"),
            ("siamese", "siamese_after_moco"),
        )
    ),
    *(("imported_fashion", f"claims_labels_{percent}_{seed}") for percent in (1, 10, 100) for seed in SEEDS),
    *(
        (f"claims_in_sequence_{a}_{seed}", f"claims_in_sequence_{b}_{seed}")
        for seed in SEEDS
        for a, b in (("labels_10", "after_moby_10"), ("labels_100", "after_moby_100"))
    ),
    *(
        (f"claims_{a}_{seed}", f"claims_in_sequence_labels_100_{seed}")
        for seed in SEEDS
        for a in ("in_sequence_dino", "natural_photos_natural")
    ),
    *(
        (f"claims_attributes_{a}_{seed}", f"claims_attributes_{b}_{seed}")
        for seed in SEEDS
        for a, b in (
            ("articleType", "iou"),
            ("levels", "iou"),
            ("iou", "ranking_and_naming"),
            ("naming", "ranking_and_naming"),
        )
    ),
    *(
        (f"claims_resellers_{a}_0", f"claims_resellers_{b}_0")
        for a, b in (
            *(("naming", tasks) for tasks in ("ranking_naming", "naming_vae", "ranking_naming_vae")),
            ("ranking_naming_vae", "ranking_naming_vae_learnt"),
        )
    ),
)


def comparisons(*pairs: tuple[str, str]) -> str:
    """A line for each pair of runs, A and B, and how much more B finds, with the interval of the paired difference."""
    rows = []
    for a, b in pairs:
        path = HERE / "comparisons" / f"{a}-{b}.json"
        if not path.exists():
            rows.append([a, b, NOT_RUN, "", "", ""])
            continue
        record = json.loads(path.read_text())
        found = record["differences"]["cmc@1"]
        shown = [
            f"{d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})" for d in (found, record["differences"]["map@r"])
        ]
        rows.append([a, b, *shown, f"{found['worse']:,}", f"{found['better']:,}"])
    header = ["A", "B", "CMC@1, B minus A (95 %)", "MAP@R, B minus A (95 %)", "found by A alone", "by B alone"]
    return "Pairs of runs, by `ssljax compare`:\n\n" + markdown(header, rows)


def alone(a: str, b: str, most: int) -> str:
    """The kinds of queries, at most so many, on which two runs, A and B, differ most."""
    path = HERE / "comparisons" / f"{a}-{b}.json"
    header = ["queries", "in all", f"found by {a} alone", f"by {b} alone"]
    kinds = json.loads(path.read_text())["kinds"] if path.exists() else {}
    rows = [[kind, *(f"{n[key]:,}" for key in ("queries", "a", "b"))] for kind, n in list(kinds.items())[:most]]
    title = f"The {most} kinds of queries on which the two runs differ most"
    return f"{title}:\n\n" + markdown(header, rows or [[NOT_RUN, "", "", ""]])


def compare(pairs: Iterable[tuple[str, str]]) -> None:
    """Compares pairs of runs, and writes their records."""
    for a, b in pairs:
        page, record = ROOT / f"runs/comparisons/{a}-{b}.html", ROOT / f"results/comparisons/{a}-{b}.json"
        page.parent.mkdir(parents=True, exist_ok=True)
        ssljax("compare", f"runs/{a}", f"runs/{b}", "-o", str(page.relative_to(ROOT)))
        record.write_bytes(page.with_suffix(".json").read_bytes())


def main() -> None:
    """Compares what is complete."""
    here = {path.parent.name for path in (ROOT / "runs").glob("*/results.json")}
    compare(pair for pair in (*PAIRS, *TUNED_PAIRS, *CLAIM_PAIRS) if here.issuperset(pair))


if __name__ == "__main__":
    main()
