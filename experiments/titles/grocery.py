"""Grocery: is a product found better by a phone photo, by half of the words of its description, or by both?

Data: the "Hierarchical Grocery Store Image Dataset" at $SSLJAX_DATA/grocery. The title of each photo is the description
of its product, of which half the words are dropped and a tenth misspelt, others for each photo; in English for all 81
products, in Swedish for the packaged ones. Photos are those that claims/photos.py has embedded by ImageNet's weights.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/titles/grocery.py

Published: nothing on this protocol.
"""

from typing import Any, Literal

from ssljax.config import Experiment
from ssljax.data import BPE, Grocery, NoisyTitles, TitleAugmentation, Titles
from ssljax.evaluation import Retrieval, SavedEmbeddings
from ssljax.methods import ArcFace, MetricLearning
from ssljax.models import MLP, BagOfTokens, Fusion
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import PhotoAndTitle, SavedVectors

PHOTO = MLP(hidden=(), out=256)
BAG = BagOfTokens(vocabulary=1024, dim=256)


def grocery(name: str, encoder: Any, language: Literal["english", "swedish"] = "english", seed: int = 0) -> Experiment:
    """An encoder of photos, of titles, or of both."""
    described = NoisyTitles(Grocery(title=language), without_last=0, drop=0.5, misspell=0.1)
    return Experiment(
        name=f"titles_grocery_{name}_{seed}",
        data=SavedEmbeddings(described, "runs/imported_grocery"),
        views=PhotoAndTitle(SavedVectors(), drop_photo=0.1 * bool(encoder.title), drop_title=0.1 * bool(encoder.photo)),
        titles=Titles(BPE(vocabulary=1024), length=64, augmentation=TitleAugmentation(drop=0.1, misspell=0.05)),
        method=MetricLearning(encoder, criterion=ArcFace(classes=81, scale=16.0, margin=0.2)),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.1),
        epochs=30,
        batch_size=128,
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        evaluate=(
            Retrieval("product", gallery="train", name="product", interval=0.95),
            Retrieval("product", gallery="iconic", ks=(1, 5), name="iconic", interval=0.95),
        ),
    )


def both(language: Literal["english", "swedish"], seed: int) -> Experiment:
    """Photos and titles."""
    return grocery(f"both_{language}", Fusion(photo=PHOTO, title=BAG), language, seed)


config = both("english", 0)
sweep = [
    run
    for seed in (0, 1, 2)
    for run in (
        grocery("photo", Fusion(photo=PHOTO, title=None), seed=seed),
        grocery("title", Fusion(photo=None, title=BAG), seed=seed),
        both("english", seed),
        both("swedish", seed),
    )
]
