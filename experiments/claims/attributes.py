"""Fashion, attributes, from imported weights: triplets by several attributes or by one, and several tasks or one?

As metric_learning/attribute_triplets.py and many_tasks.py, which start from an encoder that MoCo trained from nothing,
but on what ImageNet's EfficientNet-Lite0 has made of the photos (run claims/photos.py first): a linear projection
learns, in about two minutes a run, so that there are three seeds of each. Negatives are the nearest of eight, except in
seed 0, which has random ones too.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/claims/attributes.py

Published ("Visually Similar Products Retrieval for Shopsy", 2022, private data): triplets by several attributes are
twice as good as those from one label, and several tasks 4 % better than the best alone.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Triplets
from ssljax.evaluation import Retrieval, SavedEmbeddings
from ssljax.methods import AttributeClassification, GivenTriplets, MultiTask
from ssljax.models import MLP, Identity
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import SavedVectors

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
PROJECTION = MLP(hidden=(), out=256)
LEVELS = AttributeTriplets()
IOU = AttributeTriplets(likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))
# of a single attribute: positives have its value, negatives another
SINGLE = {name: AttributeTriplets((name,), cuts=(1.0, 0.0), draws=(6,)) for name in FASHION.attributes}
MINING = {"levels": LEVELS, "iou": IOU, **SINGLE}
RANKING = GivenTriplets(encoder=Identity())
NAMING = AttributeClassification(encoder=Identity(), values=(5, 126, 46), labelled_views=1)


def attributes(name: str, method: Any, mining: AttributeTriplets, *, seed: int, hard: bool = True) -> Experiment:
    """What a projection learns from mined triplets."""
    return Experiment(
        name=f"claims_attributes_{name}_{seed}",
        data=SavedEmbeddings(FASHION, "runs/imported_fashion"),
        sampler=Triplets(mining, refresh_every=1 if hard else None),
        views=SavedVectors(),
        method=method,
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=3,
        batch_size=128,
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        evaluate=(
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
        ),
    )


def triplets(by: str, seed: int, *, hard: bool = True) -> Experiment:
    """Ranking alone, as a function of how triplets are mined."""
    name = by if hard else f"{by}_random"
    return attributes(name, GivenTriplets(encoder=PROJECTION), MINING[by], seed=seed, hard=hard)


def tasks(name: str, *parts: Any, seed: int, uncertainty: bool = False) -> Experiment:
    """Tasks on the same triplets, by thresholds on the IoU."""
    weights = tuple(5.0 if part is RANKING else 1.0 for part in parts)
    method = MultiTask(encoder=PROJECTION, tasks=parts, task_weights=weights, uncertainty=uncertainty)
    return attributes(name, method, IOU, seed=seed)


config = triplets("levels", 0)
sweep = [
    run
    for seed in (0, 1, 2)
    for run in (
        *(triplets(by, seed) for by in MINING),
        tasks("naming", NAMING, seed=seed),
        tasks("ranking_and_naming", RANKING, NAMING, seed=seed),
        tasks("ranking_and_naming_learnt", RANKING, NAMING, seed=seed, uncertainty=True),
    )
] + [triplets(by, 0, hard=False) for by in MINING]
