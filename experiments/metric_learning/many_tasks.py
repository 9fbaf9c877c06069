"""Fashion, attributes: does one encoder find more if it ranks, names attributes and draws photos, all at once?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py, with gender, article type and
colour. All tasks see the same triplets, by thresholds on the IoU of these attributes and with hard negatives, the best
of attribute_triplets.py; attributes are those of the anchor. The encoder is that of moco_fashion.py, whose last two
blocks learn: train that first.

    ssljax train experiments/moco_fashion.py
    ssljax sweep experiments/metric_learning/many_tasks.py

Published: 4 % more than the best task alone, on private data ("Visually Similar Products Retrieval for Shopsy", 2022).
"""

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Triplets
from ssljax.evaluation import Retrieval
from ssljax.methods import VAE, AttributeClassification, GivenTriplets, MultiTask
from ssljax.models import Frozen, Identity, Pretrained, ResNet
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
TRIPLETS = AttributeTriplets(likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))
TASKS = {  # and what brings their losses to the order of 1
    "ranking": (GivenTriplets(encoder=Identity()), 5.0),
    "attributes": (AttributeClassification(encoder=Identity(), values=(5, 126, 46), labelled_views=1), 1.0),
    "vae": (VAE(encoder=Identity()), 0.01),
}


def many_tasks(*names: str, uncertainty: bool = False) -> Experiment:
    """What is learnt from tasks, as a function of which, and of whether their weights are learnt."""
    tasks, weights = zip(*(TASKS[name] for name in names), strict=True)
    return Experiment(
        name="many_tasks_" + "_".join(names) + ("_uncertainty" if uncertainty else ""),
        data=FASHION,
        sampler=Triplets(TRIPLETS, refresh_every=1),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MultiTask(encoder=ENCODER, tasks=tasks, task_weights=weights, uncertainty=uncertainty),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=1,
        batch_size=64,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
            Retrieval(relevant="articleType", name="article", interval=0.95),
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
        ),
    )


config = many_tasks(*TASKS)
sweep = [
    *map(many_tasks, TASKS),
    many_tasks("ranking", "attributes"),
    config,
    many_tasks(*TASKS, uncertainty=True),
]
