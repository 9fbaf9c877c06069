"""Fashion, styles: which triplets of a batch should count, and do losses that weigh all pairs need mining at all?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. A class is a style
(`productDisplayName`); those of one photo are left out. The test's styles are others than the train split's. Batches
are of 64 styles x 2 photos. The encoder is that of moco_fashion.py, whose last two blocks learn: train that first.

    ssljax train experiments/moco_fashion.py
    ssljax sweep experiments/metric_learning/mining.py

Published: the hardest negatives collapse early and semi-hard ones do not (FaceNet, section 3.2); of batches of P x K,
batch-hard is best, with a soft margin (Hermans et al. 2017, table 1). Not on this data.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval
from ssljax.methods import (
    ArcFace,
    Contrastive,
    CosFace,
    Lifted,
    MetricLearning,
    MultiSimilarity,
    NPairs,
    ProxyAnchor,
    ProxyNCA,
    SubCenterArcFace,
    SupCon,
    Triplet,
)
from ssljax.models import Frozen, Pretrained, ResNet
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
STYLES = 25979  # of all splits: the numbers of labels run over them
ENCODER = Frozen(
    Pretrained(ResNet(depth=10, stem="cifar", width=16, pool=2), "runs/moco_fashion/weights/student.safetensors"),
    but_last=2,
)
MINING = ("all", "easy", "semi_hard", "hard", "batch_hard")


def mining(name: str, criterion: Any, *, head_lr: float | None = None) -> Experiment:
    """What is learnt from styles, as a function of the method, and of the learning rate of the classes' vectors."""
    return Experiment(
        name=f"mining_{name}",
        data=FASHION,
        sampler=Classes(per_class=2, least=2),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MetricLearning(encoder=ENCODER, criterion=criterion),
        optimizer=AdamW(lr=1e-3, head_lr=head_lr, weight_decay=0.01, warmup=0.05),
        epochs=4,
        batch_size=128,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = mining("batch_hard", Triplet())
sweep = [
    *(mining(which, Triplet(mining=which)) for which in MINING),
    *(mining(f"{which}_soft", Triplet(mining=which, soft=True)) for which in MINING),
    mining("contrastive", Contrastive()),
    mining("multi_similarity", MultiSimilarity()),
    mining("sup_con", SupCon()),
    mining("n_pairs", NPairs(normalise=True)),
    mining("lifted", Lifted()),
    mining("proxy_nca", ProxyNCA(classes=STYLES), head_lr=0.1),
    mining("proxy_anchor", ProxyAnchor(classes=STYLES), head_lr=0.1),
    mining("cosface", CosFace(classes=STYLES, scale=30.0)),
    mining("arcface", ArcFace(classes=STYLES, scale=30.0, margin=0.3)),
    mining(
        "sub_center_arcface",
        SubCenterArcFace(classes=STYLES, scale=30.0, margin=0.3),
    ),
]
