"""NNCLR on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 91.88 after 1000 epochs. Not
run here yet.

ssljax train experiments/cifar10/nnclr.py
ssljax plan experiments/cifar10/nnclr.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import NNCLR
from ssljax.models import ResNet
from ssljax.optim import LARS
from ssljax.views import asymmetric_pair

config = Experiment(
    name="cifar10_nnclr",
    data=TFDS("cifar10"),
    views=asymmetric_pair(32, blur=(0.0, 0.0)),
    method=NNCLR(encoder=ResNet(depth=18, stem="cifar"), queue_size=65536, temperature=0.2),
    optimizer=LARS(lr=0.4, weight_decay=1e-05, warmup=0.01, trust_coefficient=0.02, limit=True),
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
