"""Every method, so small that a step compiles in seconds; shared by the tests."""

import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny import BATCH, CROPS, ENCODER, MOCO, SIMCLR, TOKENS, VIEWS

from ssljax.methods import (
    BYOL,
    CLIP,
    DCL,
    DINO,
    EMA,
    IBOT,
    NNCLR,
    SEED,
    VAE,
    ArcFace,
    BarlowTwins,
    Contrastive,
    FrozenTeacher,
    KnowledgeDistillation,
    Memory,
    MetricLearning,
    MoBY,
    MoCoV3,
    MultiSimilarity,
    MultiTask,
    ReSSL,
    SigLIP,
    SimSiam,
    SupCon,
    SwAV,
    Triplet,
    VICReg,
)
from ssljax.models import MLP, BagOfTokens, Decoder, DINOHead, Identity, Pretrained, Prototypes, ViT, weights_bytes
from ssljax.views import Augmentation, Masked, MultiCrop, OneCropEach, PhotoAndTitle

HEAD = MLP(hidden=(16,), out=8, batch_norm=True)
WIDE = MLP(hidden=(32,), out=32, batch_norm=True)
PARTS = {"encoder": ENCODER, "projector": HEAD}
STUDENT = PARTS | {"predictor": HEAD, "teacher": EMA(momentum=0.9)}
FOLDER = tempfile.TemporaryDirectory()  # deleted when the tests end


def teacher(weights):
    """A teacher, as of a file: `Training(METHODS["byol"])` has such a one."""
    encoder, projector = Pretrained(ENCODER, str(weights)), Pretrained(HEAD, str(weights), part="projector")
    return {"teacher": FrozenTeacher(encoder=encoder, projector=projector)}


def untrained_teacher():
    """The file of one."""
    network = BYOL(**STUDENT)
    params, aux = jax.jit(network.init)(jax.random.PRNGKey(1), {"views": (jnp.zeros((BATCH, 16, 16, 3)),) * 2})
    file = Path(FOLDER.name) / "untrained.safetensors"
    file.write_bytes(weights_bytes(jax.device_get(network.weights(params, aux)["teacher"])))
    return file


TEACHER = teacher(untrained_teacher())
LINEAR = MLP(hidden=(), out=8, last_bias=False)
TITLED = {"title_encoder": BagOfTokens(TOKENS, 16), "title_projector": LINEAR}
METHODS = {
    "clip": CLIP(encoder=ENCODER, projector=LINEAR, **TITLED, group="label"),
    "sig_lip": SigLIP(encoder=ENCODER, projector=LINEAR, **TITLED),
    "clip_moco": CLIP(
        encoder=ENCODER, projector=LINEAR, **TITLED, beside=dataclasses.replace(MOCO, encoder=Identity())
    ),
    "moco": MOCO,
    "simclr": SIMCLR,
    "dcl": DCL(**PARTS, sigma=0.5),
    "barlow_twins": BarlowTwins(encoder=ENCODER, projector=WIDE, scale=0.1),
    "vicreg": VICReg(encoder=ENCODER, projector=WIDE, invariance=2.5, variance=2.5, covariance=0.1),
    "sup_con": MetricLearning(**PARTS, criterion=SupCon()),
    "contrastive": MetricLearning(encoder=ENCODER, criterion=Contrastive()),
    "triplet": MetricLearning(encoder=ENCODER, memory=Memory(size=4 * BATCH), criterion=Triplet()),
    "arcface": MetricLearning(encoder=ENCODER, criterion=ArcFace(classes=16, scale=16.0)),
    "multi_task": MultiTask(
        encoder=ENCODER,
        tasks=(
            MetricLearning(encoder=Identity(), criterion=MultiSimilarity()),
            VAE(encoder=Identity(), projector=MLP(hidden=(), out=8), decoder=Decoder(side=8, width=8)),
        ),
        uncertainty=True,
    ),
    "sim_siam": SimSiam(
        encoder=ENCODER,
        projector=MLP(hidden=(16,), out=16, batch_norm=True, last_batch_norm=True, last_affine=False),
        predictor=MLP(hidden=(8,), out=16, batch_norm=True),
    ),
    "byol": BYOL(**STUDENT),
    "moco_v3": MoCoV3(**STUDENT),
    "moby": MoBY(**STUDENT, queue_size=3 * BATCH),
    "nnclr": NNCLR(**PARTS, predictor=HEAD, queue_size=3 * BATCH),
    "re_ssl": ReSSL(**PARTS, teacher=EMA(momentum=0.9), queue_size=3 * BATCH),
    "dino": DINO(encoder=ENCODER, projector=DINOHead(hidden=(16,), bottleneck=8, out=24), teacher=EMA(momentum=0.9)),
    "ibot": IBOT(
        encoder=ViT(patch=4, width=16, depth=2, heads=2, mask_token=True, drop_path=0.1),
        projector=DINOHead(hidden=(16,), bottleneck=8, out=24),
        teacher=EMA(momentum=0.9),
    ),
    "swav": SwAV(**PARTS, prototypes=Prototypes(out=12), queue_size=3 * BATCH),
    "seed": SEED(**PARTS, **TEACHER, queue_size=3 * BATCH),
    "knowledge_distillation": KnowledgeDistillation(**PARTS, **TEACHER, temperature=1.0),
}

MANY = MultiCrop(
    size=16, blur=0.0, second=None, local=Augmentation(scale=(0.05, 0.4), blur=0.0), local_size=8, local_count=2
)
MANY_CROPS = dataclasses.replace(
    MANY, jitter=0.0, grey=0.0, local=dataclasses.replace(MANY.local, jitter=0.0, grey=0.0)
)


ONE_CROP = OneCropEach(size=16, jitter=0.0, grey=0.0, blur=0.0)
TITLED_VIEWS = PhotoAndTitle(ONE_CROP, drop_photo=0.2, drop_title=0.2)
TITLED_CROPS = {"clip": TITLED_VIEWS, "sig_lip": TITLED_VIEWS, "clip_moco": PhotoAndTitle(CROPS)}


QUICK = ("moco", "clip_moco")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
"""For what compiles for many seconds a method: some at every run of the tests, all of them in CI."""


def views_of(name):
    """The views that a method is trained with."""
    other = TITLED_CROPS | {"dino": MANY, "swav": MANY, "ibot": Masked(MANY, patch=4)}
    return other.get(name, VIEWS)


def crops_of(name):
    """As many without colours, for steps that are not about views; MoCo's have them, as one method's must."""
    other = {"moco": VIEWS, "dino": MANY_CROPS, "swav": MANY_CROPS, "ibot": Masked(MANY_CROPS, patch=4)}
    return (other | TITLED_CROPS).get(name, CROPS)
