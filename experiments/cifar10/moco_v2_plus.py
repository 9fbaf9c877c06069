"""MoCo v2+ on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 92.94 after 1000 epochs.
Not run here yet.

ssljax train experiments/cifar10/moco_v2_plus.py
ssljax plan experiments/cifar10/moco_v2_plus.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import EMA, MoBY
from ssljax.models import MLP, Identity, ResNet
from ssljax.optim import SGD
from ssljax.schedules import Cosine
from ssljax.views import weak_pair

config = Experiment(
    name="cifar10_moco_v2_plus",
    data=TFDS("cifar10"),
    views=weak_pair(32),
    method=MoBY(
        encoder=ResNet(depth=18, stem="cifar"),
        projector=MLP(hidden=(2048,), out=256),
        predictor=Identity(),
        queue_size=32768,
        teacher=EMA(momentum=Cosine(0.99, 0.999)),
        scale=0.5,
    ),
    optimizer=SGD(lr=0.3, weight_decay=0.0001, warmup=0.01),
    epochs=1000,
    batch_size=256,
    photo_size=32,
    cache="device",
    precision="bfloat16",
    monitor=(KNN(),),
    monitor_every=50,
    evaluate=(KNN(), LinearProbe()),
    gallery=("train", "test"),
)
