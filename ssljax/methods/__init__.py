"""Training methods, one a file: pure functions over explicit state (see `ssljax.types.Method`).

`base/` holds what they share, `metric_losses.py` the losses that `MetricLearning` takes. Losses of plain arrays are in
`ssljax.losses`, augmentations in `ssljax.views`, the step in `ssljax.train`.
"""

from ssljax.methods.attribute_classification import AttributeClassification
from ssljax.methods.barlow_twins import BarlowTwins
from ssljax.methods.base.teachers import EMA, FrozenTeacher
from ssljax.methods.byol import BYOL
from ssljax.methods.clip import CLIP
from ssljax.methods.dcl import DCL
from ssljax.methods.dino import DINO
from ssljax.methods.given_triplets import GivenTriplets
from ssljax.methods.ibot import IBOT
from ssljax.methods.knowledge_distillation import KnowledgeDistillation
from ssljax.methods.metric_learning import Memory, MetricLearning
from ssljax.methods.metric_losses import (
    ArcFace,
    Contrastive,
    CosFace,
    Lifted,
    MultiSimilarity,
    NPairs,
    ProxyAnchor,
    ProxyNCA,
    SubCenterArcFace,
    SupCon,
    Triplet,
)
from ssljax.methods.moby import MoBY
from ssljax.methods.moco import MoCo
from ssljax.methods.moco_v3 import MoCoV3
from ssljax.methods.multi_task import MultiTask
from ssljax.methods.nnclr import NNCLR
from ssljax.methods.re_ssl import ReSSL
from ssljax.methods.seed import SEED
from ssljax.methods.sig_lip import SigLIP
from ssljax.methods.sim_siam import SimSiam
from ssljax.methods.simclr import SimCLR
from ssljax.methods.swav import SwAV
from ssljax.methods.vae import VAE
from ssljax.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "CLIP",
    "DCL",
    "DINO",
    "EMA",
    "IBOT",
    "NNCLR",
    "SEED",
    "VAE",
    "ArcFace",
    "AttributeClassification",
    "BarlowTwins",
    "Contrastive",
    "CosFace",
    "FrozenTeacher",
    "GivenTriplets",
    "KnowledgeDistillation",
    "Lifted",
    "Memory",
    "MetricLearning",
    "MoBY",
    "MoCo",
    "MoCoV3",
    "MultiSimilarity",
    "MultiTask",
    "NPairs",
    "ProxyAnchor",
    "ProxyNCA",
    "ReSSL",
    "SigLIP",
    "SimCLR",
    "SimSiam",
    "SubCenterArcFace",
    "SupCon",
    "SwAV",
    "Triplet",
    "VICReg",
]
