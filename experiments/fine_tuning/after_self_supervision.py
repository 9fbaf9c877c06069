"""Are labels worth more where the encoder has seen the photos before, without labels?

Metric learning as in fashion.py and grocery.py, which begin with ImageNet's weights, but from the encoders that MoCo
and MoBY have gone on to train there, without labels: run those first. Data: "Fashion Product Images (Small)" at
$SSLJAX_DATA/fashion, and the "Hierarchical Grocery Store Image Dataset" at $SSLJAX_DATA/grocery.

    python results/pretrained.py        trains all, compares, and writes the records of docs/fine_tuning.md

Published: nothing on these protocols. Not run yet.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes, Grocery
from ssljax.evaluation import Retrieval, Whitening
from ssljax.methods import ArcFace, MetricLearning, SupCon
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)


def after(run: str, encoder: EfficientNet) -> Any:
    """The encoder of a run, of which the last blocks learn."""
    weights = f"runs/fine_tuning_{run}/weights/student.safetensors"
    return Frozen(Pretrained(encoder, weights), but_last=8, statistics=True)


def labels(name: str, method: Any, **parts: Any) -> Experiment:
    """Metric learning for as long as where it begins with ImageNet's weights."""
    optimizer = AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1)
    return Experiment(
        name=f"fine_tuning_{name}", method=method, optimizer=optimizer, cache="device", baselines=False, **parts
    )


RELEVANT = {"style": "productDisplayName", "attribute": ("gender", "articleType", "baseColour")}
MAPS = EfficientNet("lite0", levels=((2, 4), (3, 4), (5, 3)))
PROJECTED = {
    kind: Whitening(dim=dim, shrinkage=0.3, labels=RELEVANT[kind], parts=MAPS.parts)
    for kind, dim in (("style", 384), ("attribute", 256))
}

config = labels(
    "fashion_labels_after_moco",
    MetricLearning(
        after("fashion_moco", MAPS),
        MLP(hidden=(), out=512, last_batch_norm=True),
        criterion=SupCon(temperature=0.1),
        encoder_from=0.1,
    ),
    data=FASHION,
    sampler=Classes(per_class=2, least=2),
    views=OneCropEach(
        size=128,
        evaluation_size=144,
        scale=(0.7, 1.0),
        ratio=(0.7, 0.8),
        flip=0.0,
        brightness=0.2,
        contrast=0.2,
        saturation=0.1,
        hue=0.01,
        grey=0.0,
        blur=0.0,
    ),
    photo_size=80,
    epochs=1,
    batch_size=128,
    evaluate=(
        *(Retrieval(relevant, name=kind, interval=0.95) for kind, relevant in RELEVANT.items()),
        *(
            Retrieval(relevant, name=f"{kind}_by_labels", interval=0.95, after=(PROJECTED[kind],))
            for kind, relevant in RELEVANT.items()
        ),
    ),
)
grocery = labels(
    "grocery_labels_after_moby",
    MetricLearning(
        after("grocery_moby", EfficientNet("lite0", levels=((3, 1), (5, 1)))),
        criterion=ArcFace(classes=81, scale=16.0, margin=0.2),
        encoder_from=0.1,
    ),
    data=Grocery(),
    views=OneCropEach(size=128, evaluation_size=160, scale=(0.3, 1.0), hue=0.02, grey=0.0, blur=0.0),
    photo_size=160,
    epochs=8,
    batch_size=64,
    evaluate=tuple(
        Retrieval("product", gallery=gallery, ks=(1, 5), name=name, interval=0.95)
        for name, gallery in (("product", "train"), ("iconic", "iconic"))
    ),
)
sweep = [config, grocery]
