"""VICReg on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 92.07 after 1000 epochs. Not
run here yet.

ssljax train experiments/cifar10/vicreg.py
ssljax plan experiments/cifar10/vicreg.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import VICReg
from ssljax.models import ResNet
from ssljax.optim import LARS
from ssljax.views import TwoCrops

config = Experiment(
    name="cifar10_vicreg",
    data=TFDS("cifar10"),
    views=TwoCrops(size=32, scale=(0.2, 1.0), saturation=0.2, blur=0.0, solarise=0.1),
    method=VICReg(encoder=ResNet(depth=18, stem="cifar"), variance=50.0),  # their hinge is the sum of two views
    optimizer=LARS(lr=0.3, weight_decay=0.0001, warmup=0.01, trust_coefficient=0.02, limit=True),
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
