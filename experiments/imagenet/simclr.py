"""SimCLR on ImageNet: what does a large batch of negatives give?

Chen et al. 2020: ResNet-50, batch 4096, linear top-1 after 100 epochs 64.5, after 1000 epochs 69.3. Not run here.

ssljax train experiments/imagenet/simclr.py
ssljax plan experiments/imagenet/simclr.py --on v5e:4x8 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.optim import LARS
from ssljax.views import symmetric_pair

config = Experiment(
    name="imagenet_simclr",
    data=TFDS("imagenet2012"),
    views=symmetric_pair(224),
    method=SimCLR(
        encoder=ResNet(depth=50, dtype="bfloat16"),
        projector=MLP(hidden=(2048,), out=128, batch_norm=True, last_batch_norm=True),
        temperature=0.1,
    ),
    optimizer=LARS(lr=4.8, weight_decay=1e-6, warmup=0.1),
    epochs=100,
    batch_size=4096,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
