"""SimSiam on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 90.51 after 1000 epochs.
Not run here yet.

ssljax train experiments/cifar10/sim_siam.py
ssljax plan experiments/cifar10/sim_siam.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SimSiam
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.views import weak_pair

config = Experiment(
    name="cifar10_sim_siam",
    data=TFDS("cifar10"),
    views=weak_pair(32),
    method=SimSiam(encoder=ResNet(depth=18, stem="cifar")),
    optimizer=SGD(lr=0.5, weight_decay=1e-05, warmup=0.01),
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
