"""MoCo v3 on ImageNet with ViT-S/16: is a large batch as good as a queue, for a transformer?

Chen et al. 2021 (facebookresearch/moco-v3, CONFIG.md): after 300 epochs linear top-1 73.2 (ViT-B/16: 76.7; ResNet-50:
72.8). The patch projection is frozen, which keeps the training stable (section 4.2). Not run here.

ssljax train experiments/imagenet/moco_v3.py
ssljax plan experiments/imagenet/moco_v3.py --on v5e:4x8 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import EMA, MoCoV3
from ssljax.models import MLP, ViT
from ssljax.optim import AdamW
from ssljax.schedules import Cosine
from ssljax.views import asymmetric_pair

HEAD = {"out": 256, "batch_norm": True, "last_batch_norm": True, "last_affine": False}

config = Experiment(
    name="imagenet_moco_v3",
    data=TFDS("imagenet2012"),
    views=asymmetric_pair(224),
    method=MoCoV3(
        encoder=ViT(variant="S", heads=12, positions="sincos", frozen_patches=True, dtype="bfloat16"),
        projector=MLP(hidden=(4096, 4096), **HEAD),
        predictor=MLP(hidden=(4096,), **HEAD),
        temperature=0.2,
        teacher=EMA(momentum=Cosine(0.99, 1.0)),
    ),
    optimizer=AdamW(lr=2.4e-3, weight_decay=0.1, warmup=40 / 300),
    epochs=300,
    batch_size=4096,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
