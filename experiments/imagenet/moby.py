"""MoBY on ImageNet with Swin-T: does MoCo's queue with BYOL's predictor suit transformers?

Xie et al. 2021: 300 epochs, linear top-1 75.0 to 75.3 (DeiT-S: 72.8), of batch 512, AdamW at 1e-3, decay .05, queue
4096, T .2, drop path .2 in the student. Not run here.

ssljax train experiments/imagenet/moby.py
ssljax plan experiments/imagenet/moby.py --on v5e:2x4 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import MoBY
from ssljax.models import Swin
from ssljax.optim import AdamW
from ssljax.views import asymmetric_pair

config = Experiment(
    name="imagenet_moby",
    data=TFDS("imagenet2012"),
    views=asymmetric_pair(224, scale=(0.2, 1.0)),
    method=MoBY(encoder=Swin(variant="T", drop_path=0.2, dtype="bfloat16"), queue_size=4096, temperature=0.2),
    optimizer=AdamW(lr=1e-3, weight_decay=0.05, warmup=0.1),
    epochs=300,
    batch_size=512,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
