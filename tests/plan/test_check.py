"""`make plan-check`: small steps compiled for machines that are not here, within bounds that a change may not exceed.

The figures are the compiler's, the same on every day and machine; the bounds are a little above what they were.
"""

import dataclasses

import pytest
import tiny

from ssljax.config import Experiment
from ssljax.data import TFDS, Classes
from ssljax.methods import DINO, EMA, ArcFace, MetricLearning, MoCo, SimCLR
from ssljax.models import MLP, DINOHead, ResNet, ViT
from ssljax.optim import SGD, AdamW
from ssljax.plan import Plan, plan, target
from ssljax.types import UserError
from ssljax.views import MultiCrop, OneCropEach, TwoCrops

pytestmark = pytest.mark.plan
COMMON = {"data": TFDS("cifar10", data_dir="nowhere"), "precision": "bfloat16"}
MOCO = Experiment(
    name="moco_r18_cifar",
    views=TwoCrops(size=32, scale=(0.2, 1.0), blur=0.0),
    method=MoCo(
        encoder=ResNet(depth=18, stem="cifar", norm_groups=8, dtype="bfloat16"),
        projector=MLP(hidden=(), out=128),
        teacher=EMA(momentum=0.99),
        queue_size=4096,
        shuffle=True,
    ),
    optimizer=SGD(lr=0.06, weight_decay=5e-4),
    batch_size=128,
    photo_size=32,
    **COMMON,
)
DINO_TI = Experiment(
    name="dino_vit_ti",
    views=MultiCrop(size=96, local_size=48, local_count=2),
    method=DINO(
        encoder=ViT(variant="Ti", patch=16, dtype="bfloat16"),
        projector=DINOHead(hidden=(512, 512), bottleneck=256, out=8192, dtype="bfloat16"),
    ),
    optimizer=AdamW(lr=1e-3, weight_decay=0.04),
    batch_size=128,
    photo_size=112,
    **COMMON | {"precision": "float32"},  # the default, which what is in bfloat16 does not follow
)
ARCFACE = Experiment(
    name="arcface_million",
    sampler=Classes(per_class=2),
    views=OneCropEach(size=32),
    method=MetricLearning(
        encoder=ResNet(depth=10, stem="cifar", width=16, dtype="bfloat16"),
        projector=MLP(hidden=(), out=64),
        criterion=ArcFace(classes=1_000_000),
    ),
    optimizer=SGD(lr=0.1),
    batch_size=128,
    photo_size=32,
    shards=8,
    **COMMON,
)
COMPUTING = ("views", "student", "teacher", "loss")


def cycles_of(made: Plan) -> float:
    """The compiler's estimate of a step; 0 where it gives none."""
    return sum(part.cycles for part in made.parts.values())


def planned(experiment: Experiment, machine: str) -> Plan:
    try:
        return plan(experiment, target(machine), photos=50_000, step_only=True)
    except UserError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize(
    "experiment, machine, gib, mib, mcycles",
    [
        pytest.param(MOCO, "v5e:2x4", 0.22, 24.0, 3.0, id="moco"),
        pytest.param(DINO_TI, "v5e:2x4", 0.32, 21.5, 9.35, id="dino"),
        pytest.param(ARCFACE, "v5e:2x4", 0.31, 1.7, 5.05, id="arcface"),
        pytest.param(MOCO, "h100:8", 0.23, 24.0, 0.0, id="moco-gpu"),  # its compiler gives no cycles
    ],
)
def test_a_step_stays_within_its_memory_its_arithmetic_its_traffic_and_its_time(experiment, machine, gib, mib, mcycles):
    made = planned(experiment, machine)
    said = {name: (part.needed, part.compiled) for name, part in made.parts.items()}
    print(experiment.name, machine, made.needed / 2**30, made.traffic / 2**20, said, cycles_of(made) / 1e6)
    assert made.fits and made.needed <= gib * 2**30
    assert made.traffic <= mib * 2**20, made.collectives
    assert cycles_of(made) <= mcycles * 1e6
    for name in COMPUTING:
        assert made.parts[name].compiled <= 1.03 * made.parts[name].needed, name


def test_nothing_that_travels_grows_with_the_images_or_the_queue():
    moco = dataclasses.replace(tiny.EXPERIMENT, **COMMON)
    longer = dataclasses.replace(tiny.MOCO, queue_size=2 * tiny.MOCO.queue_size)
    changes = {}, {"views": dataclasses.replace(tiny.CROPS, size=32), "photo_size": 40}, {"method": longer}
    base, images, queue = (planned(dataclasses.replace(moco, **change), "v5e:2x4").traffic for change in changes)
    assert base == images == queue


@pytest.mark.parametrize("shards", [1, 8])
def test_gradients_travel_once_a_step_whatever_the_parts(shards):
    method = SimCLR(
        encoder=ViT(patch=8, width=192, depth=2, heads=3, dtype="bfloat16"), projector=MLP(hidden=(192,), out=64)
    )
    simclr = dataclasses.replace(MOCO, name="simclr", views=TwoCrops(size=32, blur=0.0), method=method, shards=shards)
    whole, parts = (planned(dataclasses.replace(simclr, accumulate=n), "v5e:2x4") for n in (1, 4))
    assert parts.traffic <= 1.03 * whole.traffic, (whole.collectives, parts.collectives)
