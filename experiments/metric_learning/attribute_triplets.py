"""Fashion, attributes: are triplets by several attributes better than triplets by one?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py, with gender, article type and
colour. Six triplets are mined for each photo: in levels by the share of the attributes that match, by one attribute, or
by thresholds on the IoU of attributes. Negatives are random, or hard: the nearest of eight by the encoder as it is when
an epoch begins. The encoder is that of moco_fashion.py, whose last two blocks learn: train that first.

    ssljax train experiments/moco_fashion.py
    ssljax sweep experiments/metric_learning/attribute_triplets.py

Published: twice as good as triplets from one label, on private data ("Visually Similar Products Retrieval for Shopsy",
2022); levels and numbers are not public, these are ours.
"""

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Triplets
from ssljax.evaluation import Retrieval
from ssljax.methods import GivenTriplets
from ssljax.models import Frozen, Pretrained, ResNet
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = Frozen(
    Pretrained(ResNet(depth=10, stem="cifar", width=16, pool=2), "runs/moco_fashion/weights/student.safetensors"),
    but_last=2,
)


def attribute_triplets(name: str, mining: AttributeTriplets, *, hard: bool = False) -> Experiment:
    """What is learnt from mined triplets, as a function of how they are mined."""
    return Experiment(
        name=f"attribute_triplets_{name}" + ("_hard" if hard else ""),
        data=FASHION,
        sampler=Triplets(mining, refresh_every=1 if hard else None),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=GivenTriplets(encoder=ENCODER),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=2,
        batch_size=64,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
            Retrieval(relevant="articleType", name="article", interval=0.95),
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
        ),
    )


LEVELS = AttributeTriplets()
IOU = AttributeTriplets(likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))
# of a single attribute: positives have its value, negatives another
SINGLE = {name: AttributeTriplets((name,), cuts=(1.0, 0.0), draws=(6,)) for name in FASHION.attributes}

config = attribute_triplets("by_all_in_levels", LEVELS)
sweep = [
    attribute_triplets(f"by_{name}", mining, hard=hard)
    for hard in (False, True)
    for name, mining in {"all_in_levels": LEVELS, **SINGLE, "all_by_iou": IOU}.items()
]
