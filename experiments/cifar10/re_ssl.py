"""ReSSL on CIFAR-10: how well do neighbours of its embedding tell the class?

solo-learn (da Costa et al. 2022), whose recipe this is, reports an online linear top-1 of 90.63 after 1000 epochs.
Not run here yet.

ssljax train experiments/cifar10/re_ssl.py
ssljax plan experiments/cifar10/re_ssl.py --on v5e:1x1 --photos 50000
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import EMA, ReSSL
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.schedules import Cosine
from ssljax.views import weak_strong_pair

config = Experiment(
    name="cifar10_re_ssl",
    data=TFDS("cifar10"),
    views=weak_strong_pair(32),
    method=ReSSL(encoder=ResNet(depth=18, stem="cifar"), queue_size=65536, teacher=EMA(momentum=Cosine(0.99, 1.0))),
    optimizer=SGD(lr=0.05, weight_decay=0.0001, warmup=0.01),
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
