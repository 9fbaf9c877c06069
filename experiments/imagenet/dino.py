"""DINO on ImageNet with ViT-S/16: what do small crops, the center, the teacher's temperature and its momentum give?

Caron et al. 2021, table 8: linear top-1 after 100 / 300 epochs with two crops of 224 px 67.8 / 72.5, with 2, 6 and 10
crops of 96 px more 71.5 / 74.5, 73.8 / 75.9 and 74.6 / 76.1. After 300 epochs with Sinkhorn-Knopp in the center's
place 76.0, without a momentum .1 (table 7). kNN after 100 epochs (appendix D) at a momentum of the center of 0, .9,
.99 and .999: 69.1, 69.7, 69.4 and .1; at a teacher's temperature of 0, .02, .04, .06, .08 and .04 to .07: 43.9, 66.7,
69.6, 68.7, .1 and 69.7. Not run here.

ssljax train experiments/imagenet/dino.py
ssljax sweep experiments/imagenet/dino.py
ssljax plan experiments/imagenet/dino.py --on v5e:4x4 --photos 1281167
ssljax plan experiments/imagenet/dino.py --on v5e:16x16 --photos 1281167 --batch-size 16384
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import DINO, EMA
from ssljax.models import DINOHead, ViT
from ssljax.optim import AdamW
from ssljax.schedules import Cosine, Linear
from ssljax.views import MultiCrop


def dino(name: str, *, local_count: int = 10, epochs: int = 100, **changes: Any) -> Experiment:
    """DINO as a function of the number of local crops, with `changes` to the method."""
    method = {"teacher_temperature": Linear(0.04, 0.07, until=30 / epochs), "freeze_last": 1 / epochs}
    return Experiment(
        name=f"imagenet_dino_{name}",
        data=TFDS("imagenet2012"),
        views=MultiCrop(size=224, local_size=96, local_count=local_count),
        method=DINO(
            encoder=ViT(variant="S", patch=16, drop_path=0.1, dtype="bfloat16"),
            projector=DINOHead(hidden=(2048, 2048), bottleneck=256, out=65536, dtype="bfloat16"),
            **method | changes,
        ),
        optimizer=AdamW(lr=2e-3, weight_decay=Cosine(0.04, 0.4), warmup=10 / epochs, clip_norm=3.0),
        epochs=epochs,
        batch_size=1024,
        photo_size=256,
        threads=32,
        evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
        gallery=("validation",),
    )


config = dino("local10")
sweep = [
    config,
    *(dino(f"local{n}", local_count=n) for n in (0, 2, 6)),
    *(dino(f"center_momentum{m}", center_momentum=m) for m in (0.0, 0.99, 0.999)),
    *(dino(f"teacher_temperature{t}", teacher_temperature=t) for t in (0.02, 0.04, 0.06, 0.08)),
    dino("no_momentum", teacher=EMA(momentum=0.0)),
    dino("sinkhorn", centering="sinkhorn"),
]
