"""Fashion, styles: what are labels worth? Self-supervision, and metric learning with 1, 10 or 100 % of styles named.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. The same encoder from scratch,
837 to 884 steps of batches of 128: MoCo on all photos, and the multi-similarity loss on those whose style is named and
has two photos or more (102, 1,181 and 11,992 of 28,333). MoCo with half of the steps is what few_labels_tuned.py goes
on from. `ssljax compare` shows what one run finds and the other misses.

    ssljax sweep experiments/metric_learning/few_labels.py
    ssljax compare runs/few_labels_moco runs/few_labels_100

Published: metric learning against DINO, after fine-tuning on private shop photos, told without numbers.
"""

import dataclasses
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes, FewLabels
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, MetricLearning, MoCo, MultiSimilarity
from ssljax.models import MLP, ResNet
from ssljax.optim import AdamW
from ssljax.views import OneCropEach, TwoCrops

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = ResNet(depth=10, stem="cifar", width=16, pool=2)
CROPS = {"size": 32, "evaluation_size": 64, "scale": (0.3, 1.0)}
CROPS |= {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
STEPS = 884  # four epochs of all photos


def few_labels(name: str, *, steps_per_epoch: int, steps: int = STEPS, **parts: Any) -> Experiment:
    """Some steps of a method, as a function of all that differs."""
    return Experiment(
        name=f"few_labels_{name}",
        **parts,
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=steps // steps_per_epoch,
        batch_size=128,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


def labelled(percent: int, *, steps_per_epoch: int) -> Experiment:
    """Metric learning, as a function of how many styles are named."""
    return few_labels(
        str(percent),
        data=FewLabels(FASHION, share=percent / 100),
        sampler=Classes(per_class=4, least=2),
        views=OneCropEach(**CROPS),
        method=MetricLearning(encoder=ENCODER, criterion=MultiSimilarity()),
        steps_per_epoch=steps_per_epoch,
    )


def self_supervised(name: str, *, steps: int = STEPS) -> Experiment:
    """MoCo on all photos, as a function of the steps."""
    moco = MoCo(
        encoder=dataclasses.replace(ENCODER, norm_groups=8),
        projector=MLP(hidden=(256,), out=128),
        temperature=0.1,
        queue_size=4096,
        teacher=EMA(momentum=0.99),
        shuffle=True,
    )
    return few_labels(name, data=FASHION, views=TwoCrops(**CROPS), method=moco, steps_per_epoch=221, steps=steps)


config = self_supervised("moco")
sweep = [
    self_supervised("moco_half", steps=STEPS // 2),
    config,
    labelled(1, steps_per_epoch=1),
    labelled(10, steps_per_epoch=9),
    labelled(100, steps_per_epoch=93),
]
