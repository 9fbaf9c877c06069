"""Fashion on an accelerator: what the other modules here ask of a small encoder for minutes, with ResNet-50 and larger
crops, from scratch, for 5,500 steps of 512 each (64, where only those are possible). Not run yet.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py, whose photos are 60 x 80.

    ssljax sweep experiments/metric_learning/full.py
"""

import dataclasses
from typing import Any

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Classes, FewLabels, Photos, Triplets
from ssljax.evaluation import Retrieval
from ssljax.methods import (
    EMA,
    VAE,
    ArcFace,
    AttributeClassification,
    Contrastive,
    CosFace,
    GivenTriplets,
    Lifted,
    Memory,
    MetricLearning,
    MoCo,
    MultiSimilarity,
    MultiTask,
    NPairs,
    ProxyAnchor,
    ProxyNCA,
    SubCenterArcFace,
    SupCon,
    Triplet,
)
from ssljax.models import MLP, Identity, ResNet
from ssljax.optim import SGD
from ssljax.schedules import Linear
from ssljax.views import OneCropEach, TwoCrops

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
STYLES = 25984  # 25,979 of all splits, and as many more as make a multiple of 8 devices
ENCODER = ResNet(depth=50, stem="cifar")
CROPS = {"size": 64, "evaluation_size": 80, "scale": (0.3, 1.0)}
CROPS |= {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
STEPS = 5500
SMALL = {"batch_size": 64, "optimizer": SGD(lr=0.0125, weight_decay=1e-4, warmup=0.05)}


def full(name: str, method: Any, sampler: Any, steps_per_epoch: int, **changes: Any) -> Experiment:
    """A method, its sampler, and as many epochs of what that has as make 5,500 steps."""
    experiment = Experiment(
        name=f"full_{name}",
        data=FASHION,
        sampler=sampler,
        views=OneCropEach(**CROPS),
        method=method,
        optimizer=SGD(lr=0.1, weight_decay=1e-4, warmup=0.05),
        epochs=STEPS // steps_per_epoch,
        batch_size=512,
        photo_size=80,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )
    return dataclasses.replace(experiment, **changes)


def moco(name: str, **changes: Any) -> Experiment:
    """Self-supervision on all photos."""
    method = MoCo(
        encoder=ResNet(depth=50, stem="cifar", norm_groups=8),
        projector=MLP(hidden=(2048,), out=128),
        temperature=0.1,
        queue_size=16384,
        teacher=EMA(momentum=0.99),
        shuffle=True,
    )
    return full(name, method, Photos(), 55, views=TwoCrops(**CROPS), **changes)


def by_style(
    name: str,
    criterion: Any,
    per_class: int = 4,
    within: str | None = None,
    head_lr: float | None = None,
    memory: int = 0,
) -> Experiment:
    """From the styles of two photos or more."""
    optimizer = SGD(lr=0.1, head_lr=head_lr, weight_decay=1e-4, warmup=0.05)
    method = MetricLearning(encoder=ENCODER, criterion=criterion, memory=Memory(size=memory))
    return full(name, method, Classes(per_class=per_class, within=within, least=2), 23, optimizer=optimizer)


def small(name: str, criterion: Any, memory: int = 0) -> Experiment:
    """The same of batches of 64, with a learning rate to match."""
    method = MetricLearning(encoder=ENCODER, criterion=criterion, memory=Memory(size=memory))
    return full(name, method, Classes(per_class=4, least=2), 187, **SMALL)


def by_attributes(name: str, method: Any, mining: AttributeTriplets, *, hard: bool = False) -> Experiment:
    """From triplets of attributes."""
    return full(name, method, Triplets(mining, refresh_every=5 if hard else None), 55)


def few_labels(percent: int, steps_per_epoch: int, **changes: Any) -> Experiment:
    """With the names of some styles."""
    config = full(
        f"labels_{percent}",
        MetricLearning(encoder=ENCODER, criterion=MultiSimilarity()),
        Classes(least=2),
        steps_per_epoch,
        **changes,
    )
    return dataclasses.replace(config, data=FewLabels(FASHION, share=percent / 100))


RAMP = Linear(0.0, 0.5, until=0.2)
LOSSES = {
    "contrastive": Contrastive(),
    "multi_similarity": MultiSimilarity(),
    "sup_con": SupCon(),
    "n_pairs": NPairs(normalise=True),
    "lifted": Lifted(),
    "cosface": CosFace(classes=STYLES, margin=Linear(0.0, 0.35, until=0.2)),
    "arcface": ArcFace(classes=STYLES, margin=RAMP),
    "sub_center_arcface": SubCenterArcFace(classes=STYLES, margin=RAMP),
}
MINING = ("all", "easy", "semi_hard", "hard", "batch_hard")
LEVELS = AttributeTriplets()
TASKS = {
    "ranking": (GivenTriplets(encoder=Identity()), 5.0),
    "attributes": (AttributeClassification(encoder=Identity(), values=(5, 126, 46), labelled_views=1), 1.0),
    "vae": (VAE(encoder=Identity()), 0.01),
}


def tasks(*names: str) -> Experiment:
    """Some of the tasks."""
    methods, weights = zip(*(TASKS[name] for name in names), strict=True)
    method = MultiTask(encoder=ENCODER, tasks=methods, task_weights=weights)
    return by_attributes("tasks_" + "_".join(names), method, LEVELS)


config = by_style("batch_hard", Triplet())
sweep = [
    # mining and losses
    *(by_style(which, Triplet(mining=which)) for which in MINING),
    *(by_style(name, criterion) for name, criterion in LOSSES.items()),
    by_style("proxy_nca", ProxyNCA(classes=STYLES), head_lr=10.0),
    by_style("proxy_anchor", ProxyAnchor(classes=STYLES), head_lr=10.0),
    # with memory and without
    by_style("contrastive_memory", Contrastive(), memory=8192),
    small("contrastive_small", Contrastive()),
    small("contrastive_small_memory", Contrastive(), memory=8192),
    # shapes of the batch
    *(by_style(f"{512 // k}x{k}", MultiSimilarity(), k) for k in (2, 8, 16)),
    by_style("128x4_within", MultiSimilarity(), within="articleType"),
    # attributes
    by_attributes("levels", GivenTriplets(encoder=ENCODER), LEVELS),
    by_attributes("levels_hard", GivenTriplets(encoder=ENCODER), LEVELS, hard=True),
    *(
        by_attributes(
            f"{name}_hard",
            GivenTriplets(encoder=ENCODER),
            AttributeTriplets((name,), cuts=(1.0, 0.0), draws=(6,)),
            hard=True,
        )
        for name in FASHION.attributes
    ),
    # tasks
    *map(tasks, TASKS),
    tasks(*TASKS),
    # how many labels; those of all are multi_similarity
    moco("moco_half", epochs=50),
    moco("moco"),
    few_labels(10, 2),
    few_labels(1, 1, **SMALL),  # 102 photos
]
