"""SwAV on ImageNet: what do assignments to prototypes give, with small crops and a small batch?

Caron et al. 2020 (facebookresearch/swav, batch 256): ResNet-50, 2 x 224 + 6 x 96 px, after 200 and 400 epochs linear
top-1 72.7 and 74.3. The recipe is that of scripts/swav_200ep_bs256_pretrain.sh. Not run here.

ssljax train experiments/imagenet/swav.py
ssljax plan experiments/imagenet/swav.py --on v5e:2x4 --photos 1281167
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SwAV
from ssljax.models import MLP, Prototypes, ResNet
from ssljax.optim import LARS
from ssljax.schedules import Cosine
from ssljax.views import Augmentation, MultiCrop

COLOURS = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "blur": 0.5}
EPOCHS = 200

config = Experiment(
    name="imagenet_swav",
    data=TFDS("imagenet2012"),
    views=MultiCrop(
        **COLOURS, scale=(0.14, 1.0), second=None, local=Augmentation(**COLOURS, scale=(0.05, 0.14)), local_count=6
    ),
    method=SwAV(
        encoder=ResNet(depth=50, dtype="bfloat16"),
        projector=MLP(hidden=(2048,), out=128, batch_norm=True),
        prototypes=Prototypes(out=3000),
        queue_size=3840,
        queue_from=15 / EPOCHS,
        freeze_prototypes=1 / EPOCHS,
    ),
    optimizer=LARS(lr=0.6, weight_decay=1e-6, schedule=Cosine(1.0, 0.001)),
    epochs=EPOCHS,
    batch_size=256,
    photo_size=256,
    threads=32,
    evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
    gallery=("validation",),
)
