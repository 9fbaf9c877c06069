"""MoCo on Fashion: do views that disturb photos as shops do make it robust, and against which disturbance?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. MoCo with standard views and
with e-commerce views, the Siamese baseline on labelled pairs (styles), and the e-commerce views less one disturbance.
What each loses is what `ssljax robustness` tells of the runs:

    ssljax sweep experiments/shop_views.py
    ssljax robustness runs/shop_views_ecommerce

Published: more recall than a Siamese baseline, most on other perspectives, watermarks, colours, and several items in a
photo (same-item matching, South-East Asia, 2021), without numbers.
"""

import dataclasses
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, Contrastive, MetricLearning, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import AdamW
from ssljax.views import Collage, EcommerceViews, Perspective, TwoCrops, Watermark

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = ResNet(depth=10, stem="cifar", width=16, pool=2, norm_groups=8)
MOCO = MoCo(
    encoder=ENCODER,
    projector=MLP(hidden=(256,), out=128),
    temperature=0.1,
    queue_size=4096,
    teacher=EMA(momentum=0.99),
    shuffle=True,
)
CROPS = {"size": 32, "evaluation_size": 64, "scale": (0.3, 1.0), "hue": 0.02, "grey": 0.0, "blur": 0.0}
STANDARD, SHOP = TwoCrops(**CROPS, contrast=0.3, saturation=0.2), EcommerceViews(**CROPS)


def shop_views(name: str, *, views: Any, method: Any = MOCO, epochs: int = 5) -> Experiment:
    """A method as a function of its views."""
    return Experiment(
        name=f"shop_views_{name}",
        data=FASHION,
        views=views,
        method=method,
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=epochs,
        batch_size=128,
        photo_size=64,
        cache="device",
        evaluate=(Retrieval(relevant="productDisplayName", name="style"),),
    )


def without(k: int) -> Experiment:
    """The e-commerce views less one of their disturbances."""
    left = SHOP.disturbances[:k] + SHOP.disturbances[k + 1 :]
    name = type(SHOP.disturbances[k]).__name__.lower()
    return shop_views(f"without_{name}", views=dataclasses.replace(SHOP, disturbances=left))


OFTEN = dataclasses.replace(SHOP, disturbances=(Perspective(0.5, 1.0), Watermark(0.5, 1.0), Collage(0.3, 1.0)))
"""What it takes: stronger perspectives, and more watermarks and collages than the published recipe has."""

config = shop_views("ecommerce", views=SHOP)
sweep = [
    shop_views("standard", views=STANDARD),
    config,
    shop_views("siamese", views=STANDARD, method=MetricLearning(encoder=ENCODER, criterion=Contrastive())),
    *(without(k) for k in range(len(SHOP.disturbances))),
    shop_views("standard_longer", views=STANDARD, epochs=20),
    shop_views("often_longer", views=OFTEN, epochs=20),
    shop_views("ecommerce_longer", views=SHOP, epochs=20),
]
