"""SwAV on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 89.17 after 1000 epochs. Not
run here yet.

ssljax train experiments/cifar10/swav.py
ssljax plan experiments/cifar10/swav.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SwAV
from ssljax.models import Prototypes, ResNet
from ssljax.optim import LARS
from ssljax.views import symmetric_pair

config = Experiment(
    name="cifar10_swav",
    data=TFDS("cifar10"),
    views=symmetric_pair(32),
    method=SwAV(
        encoder=ResNet(depth=18, stem="cifar"),
        prototypes=Prototypes(out=3000),
        queue_size=3840,
        queue_from=0.05,
        freeze_prototypes=0.002,
    ),
    optimizer=LARS(lr=0.6, weight_decay=1e-06, warmup=0.01, trust_coefficient=0.02, limit=True),
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
