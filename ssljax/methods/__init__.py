"""Training methods, one a file: pure functions over explicit state (see `ssljax.types.Method`)."""

from ssljax.methods.arcface import ArcFace
from ssljax.methods.attributes import Attributes
from ssljax.methods.barlow_twins import BarlowTwins
from ssljax.methods.byol import BYOL
from ssljax.methods.contrastive import Contrastive
from ssljax.methods.cosface import CosFace
from ssljax.methods.dcl import DCL
from ssljax.methods.dino import DINO
from ssljax.methods.given_triplets import GivenTriplets
from ssljax.methods.ibot import IBOT
from ssljax.methods.knowledge_distillation import KnowledgeDistillation
from ssljax.methods.lifted import Lifted
from ssljax.methods.moby import MoBY
from ssljax.methods.moco import MoCo
from ssljax.methods.moco_v3 import MoCoV3
from ssljax.methods.multi_similarity import MultiSimilarity
from ssljax.methods.multi_task import MultiTask
from ssljax.methods.n_pairs import NPairs
from ssljax.methods.nnclr import NNCLR
from ssljax.methods.proxy_anchor import ProxyAnchor
from ssljax.methods.proxy_nca import ProxyNCA
from ssljax.methods.re_ssl import ReSSL
from ssljax.methods.seed import SEED
from ssljax.methods.sim_siam import SimSiam
from ssljax.methods.simclr import SimCLR
from ssljax.methods.sub_center_arcface import SubCenterArcFace
from ssljax.methods.sup_con import SupCon
from ssljax.methods.swav import SwAV
from ssljax.methods.triplet import Triplet
from ssljax.methods.vae import VAE
from ssljax.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "DCL",
    "DINO",
    "IBOT",
    "NNCLR",
    "SEED",
    "VAE",
    "ArcFace",
    "Attributes",
    "BarlowTwins",
    "Contrastive",
    "CosFace",
    "GivenTriplets",
    "KnowledgeDistillation",
    "Lifted",
    "MoBY",
    "MoCo",
    "MoCoV3",
    "MultiSimilarity",
    "MultiTask",
    "NPairs",
    "ProxyAnchor",
    "ProxyNCA",
    "ReSSL",
    "SimCLR",
    "SimSiam",
    "SubCenterArcFace",
    "SupCon",
    "SwAV",
    "Triplet",
    "VICReg",
]
