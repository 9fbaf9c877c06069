"""Grocery from imported weights: do two photos of one shelf teach a projection what belongs together?

As natural_views.py, which starts from random weights, but on what ImageNet's EfficientNet-Lite0 has made of the photos
(run claims/photos.py first): a projection learns from pairs of photos of one listing, without labels, by SimCLR, MoBY
or SimSiam. There are no augmented views of saved vectors; augmented and natural ones are compared there.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/claims/natural_views.py

Published (Mercari, 2021): photos of one listing come to lie closer together than photos of others; no numbers.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Grocery, Listings
from ssljax.evaluation import Retrieval, SavedEmbeddings, Separation
from ssljax.methods import EMA, MoBY, SimCLR, SimSiam
from ssljax.models import MLP
from ssljax.optim import AdamW
from ssljax.schedules import Cosine
from ssljax.search import Exact
from ssljax.views import SavedVectors

PROJECTION = MLP(hidden=(), out=512)
HEAD = MLP(hidden=(512,), out=128, batch_norm=True)
METHODS = {
    "simclr": SimCLR(encoder=PROJECTION, projector=HEAD, temperature=0.1),
    "moby": MoBY(
        encoder=PROJECTION,
        projector=HEAD,
        predictor=HEAD,
        teacher=EMA(momentum=Cosine(0.98, 1.0)),
        queue_size=512,
    ),
    "sim_siam": SimSiam(
        encoder=PROJECTION,
        projector=MLP(hidden=(512,), out=512, batch_norm=True, last_batch_norm=True, last_affine=False),
        predictor=MLP(hidden=(128,), out=512, batch_norm=True),
    ),
}


def natural_views(method: str, seed: int = 0, *, epochs: int = 40) -> Experiment:
    """A method on two photos of each listing; without an epoch, the photos as the imported network sees them."""
    return Experiment(
        name=f"claims_natural_views_{method}_{seed}",
        data=SavedEmbeddings(Grocery(), "runs/imported_grocery"),
        sampler=Listings(),
        views=SavedVectors(),
        method=METHODS[method],
        optimizer=AdamW(lr=5e-4, weight_decay=0.01, warmup=0.05),
        epochs=epochs,
        batch_size=64,
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        evaluate=judged(),
    )


def judged() -> tuple[Any, ...]:
    """Products among the train split's and the studio photos, and listings apart."""
    return (
        Retrieval(relevant="product", gallery="train", name="product", interval=0.95),
        Retrieval(relevant="product", gallery="iconic", ks=(1, 5), name="iconic", interval=0.95),
        Separation(relevant="listing", name="listing"),
    )


config = natural_views("simclr")
sweep = [natural_views(method, seed) for seed in (0, 1, 2) for method in METHODS]
