"""DINO on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 89.52 after 1000 epochs. Not
run here yet.

ssljax train experiments/cifar10/dino.py
ssljax plan experiments/cifar10/dino.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import DINO, EMA
from ssljax.models import DINOHead, ResNet
from ssljax.optim import LARS
from ssljax.schedules import Cosine, Linear
from ssljax.views import asymmetric_pair

config = Experiment(
    name="cifar10_dino",
    data=TFDS("cifar10"),
    views=asymmetric_pair(32, blur=(0.0, 0.0)),
    method=DINO(
        encoder=ResNet(depth=18, stem="cifar"),
        projector=DINOHead(hidden=(2048, 2048), out=4096),
        teacher=EMA(momentum=Cosine(0.9995, 1.0)),
        teacher_temperature=Linear(0.04, 0.07, until=0.05),
        freeze_last=0.001,
    ),
    optimizer=LARS(lr=0.3, weight_decay=1e-06, warmup=0.01, trust_coefficient=0.02, limit=True),
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
