"""Landmarks: labels, self-supervision, or one after the other, after the same number of steps?

Data: a catalogue of Google Landmarks v2 (Weyand et al. 2020) at $SSLJAX_DATA/landmarks/photos.csv, with the columns
`id`, `path`, `landmark` and `split`: train (the 1,580,470 photos of its clean part, of 81,313 landmarks), test (the
queries) and index (what they search). ViT-S/16 learns from random weights for 46,000 steps of 1,024 photos: by ArcFace
on the landmarks, by DINO with small crops, or by DINO for one half and by ArcFace for the other; and by the triplet
margin loss, whose negatives are the hardest of a batch of 256 landmarks.

Published (a search company's fine-tuner): mAP@100 of .25 to .30 by ImageNet's weights as they are, .5375 by the best
ensembles of metric learning; DINO, without labels, is ahead of some that learn from labels. Not run here;
claims/in_sequence.py asks the same of a small data set.

ssljax sweep experiments/landmarks/in_sequence.py
ssljax plan experiments/landmarks/in_sequence.py --on v5e:4x4 --photos 1580470
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval
from ssljax.methods import DINO, ArcFace, MetricLearning, Triplet
from ssljax.models import DINOHead, Pretrained, ViT
from ssljax.optim import AdamW
from ssljax.schedules import Linear
from ssljax.views import MultiCrop, OneCropEach

ENCODER = ViT(variant="S", patch=16, drop_path=0.1, dtype="bfloat16")
LANDMARKS = 81328  # 81,313, and as many more as make a multiple of 16 devices
EPOCHS = 30
ARCFACE = ArcFace(classes=LANDMARKS, scale=30.0, margin=Linear(0.0, 0.3, until=0.2))


def landmarks(name: str, method: Any, *, epochs: int = EPOCHS, **parts: Any) -> Experiment:
    """A method, judged by Google Landmarks' retrieval."""
    parts = {"views": OneCropEach(size=224, scale=(0.25, 1.0), grey=0.0, blur=0.0)} | parts
    return Experiment(
        name=f"landmarks_{name}",
        data=Catalogue("landmarks/photos.csv", images="path", label="landmark"),
        method=method,
        optimizer=AdamW(lr=1e-3, weight_decay=0.05, warmup=0.1, clip_norm=3.0),
        epochs=epochs,
        batch_size=1024,
        photo_size=256,
        threads=32,
        gallery=("test", "index"),
        evaluate=(Retrieval("landmark", split="test", gallery="index", depths=(100,)),),
        **parts,
    )


def dino(name: str, *, epochs: int = EPOCHS) -> Experiment:
    """DINO with eight small crops."""
    head = DINOHead(hidden=(2048, 2048), bottleneck=256, out=65536, dtype="bfloat16")
    method = DINO(ENCODER, head, teacher_temperature=Linear(0.04, 0.07, until=0.3), freeze_last=1 / epochs)
    return landmarks(name, method, epochs=epochs, views=MultiCrop(size=224, local_size=96, local_count=8))


config = landmarks("labels", MetricLearning(ENCODER, criterion=ARCFACE))
half = dino("dino_half", epochs=EPOCHS // 2)
after = MetricLearning(Pretrained(ENCODER, f"runs/{half.name}/weights/student.safetensors"), criterion=ARCFACE)
sweep = [
    config,
    dino("dino"),
    half,
    landmarks("labels_after_dino", after, epochs=EPOCHS // 2),
    landmarks("triplets", MetricLearning(ENCODER, criterion=Triplet()), sampler=Classes(per_class=4, least=4)),
]
