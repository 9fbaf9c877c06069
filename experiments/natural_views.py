"""Natural views on Grocery: do two photos of one shelf teach more than two augmentations of one photo?

Data: the "Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019) at $SSLJAX_DATA/grocery; three photos in a
row of one product are a listing. MoBY and SimSiam, each with augmented views, with natural views (in all items), and
with both (in half of them), for as many steps of as many items; all else is equal.

Figures: the product of a phone photo among the train split's (product), and among the studio photos (iconic); how
often two photos of a listing are nearer than photos of two listings (listing/auc). Published: nothing on this
protocol; Mercari (2021) tells of natural views, and of a figure of such distances, without numbers.

    ssljax sweep experiments/natural_views.py
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Grocery, Listings
from ssljax.evaluation import Retrieval, Separation
from ssljax.methods import EMA, MoBY, SimSiam
from ssljax.models import MLP, ResNet
from ssljax.optim import AdamW
from ssljax.schedules import Cosine
from ssljax.views import TwoCrops

ENCODER = ResNet(depth=10, stem="imagenet", width=32)
METHODS = {
    "moby": MoBY(
        encoder=ENCODER,
        projector=MLP(hidden=(512,), out=128, batch_norm=True),
        predictor=MLP(hidden=(512,), out=128, batch_norm=True),
        teacher=EMA(momentum=Cosine(0.98, 1.0)),
        queue_size=512,
    ),
    "sim_siam": SimSiam(
        encoder=ENCODER,
        projector=MLP(hidden=(512,), out=512, batch_norm=True, last_batch_norm=True, last_affine=False),
        predictor=MLP(hidden=(128,), out=512, batch_norm=True),
    ),
}
SHARES = {"augmented": 0.0, "natural": 1.0, "both": 0.5}


def natural_views(method: str, views: str, **changes: Any) -> Experiment:
    """One of the methods as a function of the share of natural views."""
    return Experiment(
        name=f"natural_views_{method}_{views}",
        data=Grocery(),
        sampler=Listings(),
        views=TwoCrops(size=64, scale=(0.2, 1.0), hue=0.02, grey=0.0, blur=0.0, natural=SHARES[views]),
        method=METHODS[method],
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=60,
        batch_size=64,
        photo_size=80,
        cache="device",
        evaluate=(
            Retrieval(relevant="product", gallery="train", name="product"),
            Retrieval(relevant="product", gallery="iconic", ks=(1, 5), name="iconic"),
            Separation(relevant="listing", name="listing"),
        ),
        **changes,
    )


config = natural_views("moby", "both")
sweep = [natural_views(method, views) for method in METHODS for views in SHARES]
