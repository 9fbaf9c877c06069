"""Fashion on an accelerator: metric learning beside self-supervision, from scratch, with ResNet-50 and larger crops.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py, whose photos are 60 x 80. What
the other modules here ask of a small encoder for minutes, by published settings: 5,500 steps of 512 each. Not run yet.

    ssljax sweep experiments/metric_learning/full.py
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, Catalogue, Classes, Photos, Triplets
from ssljax.methods import VAE, ArcFace, Attributes, GivenTriplets, MoCo, MultiSimilarity, MultiTask, Triplet
from ssljax.models import MLP, Identity, ResNet
from ssljax.optim import SGD
from ssljax.retrieval import Retrieval
from ssljax.schedules import Linear
from ssljax.views import OneCropEach, TwoCrops

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
STYLES = 25984  # 25,979 of all splits, and as many more as make a multiple of 8 devices
ENCODER = ResNet(depth=50, stem="cifar")
CROPS = {"size": 64, "evaluation_size": 80, "scale": (0.3, 1.0)}
CROPS |= {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
ONE_CROP = OneCropEach(**CROPS)
BY_STYLE, BY_ATTRIBUTES = Classes(per_class=4, least=2), Triplets(AttributeTriplets())
TASKS = (
    GivenTriplets(encoder=Identity()),
    Attributes(encoder=Identity(), values=(5, 126, 46), labelled_views=1),
    VAE(encoder=Identity()),
)


def full(name: str, method: Any, sampler: Any, *, views: Any = ONE_CROP, epochs: int = 100) -> Experiment:
    """A method, its sampler, and as many epochs of what that has as make 5,500 steps."""
    return Experiment(
        name=f"full_{name}",
        data=FASHION,
        sampler=sampler,
        views=views,
        method=method,
        optimizer=SGD(lr=0.1, weight_decay=1e-4, warmup=0.05),
        epochs=epochs,
        batch_size=512,
        photo_size=80,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


MOCO = MoCo(
    encoder=ResNet(depth=50, stem="cifar", norm_groups=8),
    projector=MLP(hidden=(2048,), out=128),
    temperature=0.1,
    queue_size=16384,
    momentum=0.99,
    shuffle=True,
)
config = full("batch_hard", Triplet(encoder=ENCODER), BY_STYLE, epochs=240)
sweep = [
    full("moco", MOCO, Photos(), views=TwoCrops(**CROPS)),
    config,
    full("multi_similarity_memory", MultiSimilarity(encoder=ENCODER, memory_size=8192), BY_STYLE, epochs=240),
    full("arcface", ArcFace(encoder=ENCODER, classes=STYLES, margin=Linear(0.0, 0.5, until=0.2)), Photos()),
    full("triplets", GivenTriplets(encoder=ENCODER), BY_ATTRIBUTES),
    full("tasks", MultiTask(encoder=ENCODER, tasks=TASKS, task_weights=(5.0, 1.0, 0.01)), BY_ATTRIBUTES),
]
