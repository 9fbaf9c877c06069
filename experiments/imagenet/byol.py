"""BYOL on ImageNet: how far does a student get without negatives?

Grill et al. 2020: ResNet-50, 1000 epochs, batch 4096, linear top-1 74.3 (300 epochs: 72.5). Not run here.

ssljax train experiments/imagenet/byol.py
ssljax plan experiments/imagenet/byol.py --on v5e:8x8 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import BYOL, EMA
from ssljax.models import ResNet
from ssljax.optim import LARS
from ssljax.schedules import Cosine
from ssljax.views import asymmetric_pair

config = Experiment(
    name="imagenet_byol",
    data=TFDS("imagenet2012"),
    views=asymmetric_pair(224),
    method=BYOL(encoder=ResNet(depth=50, dtype="bfloat16"), teacher=EMA(momentum=Cosine(0.99, 1.0))),
    optimizer=LARS(lr=4.8, weight_decay=1e-6, warmup=1 / 30),
    epochs=300,
    batch_size=4096,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
