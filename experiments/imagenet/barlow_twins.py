"""Barlow Twins on ImageNet: how far does a student get without negatives and without a teacher?

Zbontar et al. 2021, table 1: ResNet-50, 1000 epochs, linear top-1 73.2. The authors' code has a learning rate of 1.6
for weights and .0384 for biases and norms; the same comes of a loss times .024, since LARS divides its scale out of the
weights' updates alone. Not run here.

ssljax train experiments/imagenet/barlow_twins.py
ssljax plan experiments/imagenet/barlow_twins.py --on v5e:4x8 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import BarlowTwins
from ssljax.models import MLP, ResNet
from ssljax.optim import LARS
from ssljax.schedules import Cosine
from ssljax.views import asymmetric_pair

config = Experiment(
    name="imagenet_barlow_twins",
    data=TFDS("imagenet2012"),
    views=asymmetric_pair(224),
    method=BarlowTwins(
        encoder=ResNet(depth=50, dtype="bfloat16"),
        projector=MLP(hidden=(8192, 8192), out=8192, batch_norm=True, last_bias=False),
        lambd=0.0051,
        scale=0.024,
    ),
    optimizer=LARS(lr=1.6, weight_decay=1e-6, warmup=0.01, schedule=Cosine(1.0, 0.001)),
    epochs=1000,
    batch_size=2048,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
