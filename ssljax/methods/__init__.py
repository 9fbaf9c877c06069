"""Training methods, one a file: pure functions over explicit state (see `ssljax.types.Method`)."""

from ssljax.methods.barlow_twins import BarlowTwins
from ssljax.methods.byol import BYOL
from ssljax.methods.contrastive import Contrastive
from ssljax.methods.dcl import DCL
from ssljax.methods.dino import DINO
from ssljax.methods.ibot import IBOT
from ssljax.methods.knowledge_distillation import KnowledgeDistillation
from ssljax.methods.moby import MoBY
from ssljax.methods.moco import MoCo
from ssljax.methods.moco_v3 import MoCoV3
from ssljax.methods.nnclr import NNCLR
from ssljax.methods.re_ssl import ReSSL
from ssljax.methods.seed import SEED
from ssljax.methods.sim_siam import SimSiam
from ssljax.methods.simclr import SimCLR
from ssljax.methods.sup_con import SupCon
from ssljax.methods.swav import SwAV
from ssljax.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "DCL",
    "DINO",
    "IBOT",
    "NNCLR",
    "SEED",
    "BarlowTwins",
    "Contrastive",
    "KnowledgeDistillation",
    "MoBY",
    "MoCo",
    "MoCoV3",
    "ReSSL",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "SwAV",
    "VICReg",
]
