"""Grocery from imported weights: do two photos of one shelf teach a projection what belongs together?

As natural_views.py in the folder above, which starts from random weights, but on what ImageNet's EfficientNet-Lite0 has
made of the photos (run claims/photos.py first): a projection learns from pairs of photos of one listing, without
labels, by SimCLR, MoBY or SimSiam. There are no augmented views of saved vectors; natural_photos.py compares them with
natural ones. The run "imported" is the network as it is, on Grocery and, for attributes told from neighbours or by a
linear classifier from 1, 5, 10 and 100 % of the labels, on Fashion.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/claims/natural_views.py

Published (Mercari, 2021): photos of one listing come to lie closer together than photos of others; no numbers.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Grocery, Listings, Photos
from ssljax.evaluation import Attributes, Retrieval, SavedEmbeddings, Separation
from ssljax.methods import EMA, MetricLearning, MoBY, SimCLR, SimSiam
from ssljax.models import MLP, Identity
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


IMPORTED = MetricLearning(encoder=Identity())
FASHION = Catalogue(path="fashion/styles.csv", label="productDisplayName")


def on_vectors(
    name: str, data: Any, vectors: str, method: Any, evaluate: tuple[Any, ...], **changes: Any
) -> Experiment:
    """A method on saved vectors of photos."""
    usual = {"optimizer": AdamW(lr=5e-4, weight_decay=0.01, warmup=0.05), "epochs": 40, "batch_size": 64}
    return Experiment(
        name=f"claims_{name}",
        data=SavedEmbeddings(data, vectors),
        views=SavedVectors(),
        method=method,
        photo_size=8,
        cache="device",
        baselines=False,
        index=Exact(),
        evaluate=evaluate,
        **usual | changes,
    )


def natural_views(name: str, method: Any, **changes: Any) -> Experiment:
    """Judged by products among the train split's and the studio photos, by listings apart, and by attributes told."""
    evaluate = (
        Retrieval(relevant="product", gallery="train", name="product", interval=0.95),
        Retrieval(relevant="product", gallery="iconic", ks=(1, 5), name="iconic", interval=0.95),
        Separation(relevant="listing", name="listing"),
        Attributes(columns=("product", "category"), linear_steps=300),
    )
    return on_vectors(f"natural_views_{name}", Grocery(), "runs/imported_grocery", method, evaluate, **changes)


def trained(method: str, seed: int) -> Experiment:
    """A projection that learns from two photos of each listing."""
    return natural_views(f"{method}_{seed}", METHODS[method], sampler=Listings(), seed=seed)


imported = natural_views("imported", IMPORTED, sampler=Photos(), epochs=0)
fashion = on_vectors(
    "neighbours_fashion",
    FASHION,
    "runs/imported_fashion",
    IMPORTED,
    (Attributes(columns=("articleType", "baseColour", "gender"), linear_steps=300),),
    epochs=0,
)
everything = [trained(method, seed) for seed in (0, 1, 2) for method in METHODS]
config = everything[0]
sweep = [config, imported, fashion, *everything[1:]]
