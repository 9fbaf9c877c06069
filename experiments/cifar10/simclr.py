"""SimCLR on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 90.74 after 1000 epochs. Not
run here yet.

ssljax train experiments/cifar10/simclr.py
ssljax plan experiments/cifar10/simclr.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.optim import LARS
from ssljax.views import symmetric_pair

config = Experiment(
    name="cifar10_simclr",
    data=TFDS("cifar10"),
    views=symmetric_pair(32),
    method=SimCLR(encoder=ResNet(depth=18, stem="cifar"), projector=MLP(hidden=(2048,), out=256), temperature=0.2),
    optimizer=LARS(lr=0.4, weight_decay=0.0001, warmup=0.01, trust_coefficient=0.02, limit=True),
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
