"""MoCo on CIFAR-10 by FAIR's demo, and the ablations of temperature, queue, momentum, head and augmentation.

FAIR's CIFAR demo (ResNet-18, batch 512, kNN with k = 200 and T = .1) reports, at 200, 400 and 800 epochs: asymmetric
82.6, 86.3 and 88.7; symmetric 85.3, 88.5 and 89.7. With a momentum of 0 it must fail. Not run here yet.

ssljax train experiments/cifar10/moco.py
ssljax sweep experiments/cifar10/moco.py
ssljax plan experiments/cifar10/moco.py --on v5e:1x1 --photos 50000
ssljax plan experiments/cifar10/moco.py --on v5e:2x4 --photos 50000
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import EMA, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.views import TwoCrops

VIEWS = {"scale": (0.2, 1.0), "blur": 0.0}


def moco(name: str, *, epochs: int = 200, views: dict[str, Any] = VIEWS, **changes: Any) -> Experiment:
    """FAIR's recipe, with other `views` of 32 px, or `changes` to the method."""
    method = {
        "symmetric": True,
        "projector": MLP(hidden=(), out=128),
        "queue_size": 4096,
        "teacher": EMA(momentum=0.99),
        "temperature": 0.1,
    }
    return Experiment(
        name=f"cifar10_moco_{name}",
        data=TFDS("cifar10"),
        views=TwoCrops(size=32, **views),
        method=MoCo(encoder=ResNet(depth=18, stem="cifar", norm_groups=8), shuffle=True, **method | changes),
        optimizer=SGD(lr=0.06, weight_decay=5e-4),
        epochs=epochs,
        batch_size=512,
        photo_size=32,
        cache="device",
        precision="bfloat16",
        monitor=(KNN(),),
        evaluate=(KNN(), LinearProbe()),
        gallery=("train", "test"),
    )


config = moco("symmetric")
sweep = [
    config,
    moco("asymmetric", symmetric=False),
    moco("no_teacher", teacher=EMA(momentum=0.0)),
    *(moco(f"t{t}", temperature=t) for t in (0.07, 0.2, 0.4)),
    *(moco(f"queue{k}", queue_size=k) for k in (1024, 16384)),
    *(moco(f"momentum{m}", teacher=EMA(momentum=m)) for m in (0.9, 0.999)),
    moco("mlp", projector=MLP(hidden=(512,), out=128)),
    moco("no_colour", views={**VIEWS, "jitter": 0.0}),
    moco("no_grey", views={**VIEWS, "grey": 0.0}),
    moco("blur", views={**VIEWS, "blur": 0.5}),
    moco("no_crop", views={**VIEWS, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}),
]
