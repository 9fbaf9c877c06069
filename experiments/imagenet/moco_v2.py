"""MoCo v2 on ImageNet: what do the head, the augmentation, the schedule, the temperature and the queue give?

Chen et al. 2020: ResNet-50, 200 epochs, linear top-1: v1 60.6, with v2's head 66.2, with its augmentation 63.4, with
both 67.3, with the cosine schedule too 67.5 (800 epochs: 71.1). With the head alone, at a temperature of .07, .1, .2,
.3, .4 and .5: 62.9, 64.9, 66.2, 65.7, 65.0 and 64.3. The queue and the momentum are ablated by He et al. 2020 for v1
(figure 3, section 4.1), where both help until 65,536 and .999. Not run here: one takes eight GPUs two days.

ssljax train experiments/imagenet/moco_v2.py
ssljax sweep experiments/imagenet/moco_v2.py
ssljax plan experiments/imagenet/moco_v2.py --on v5e:2x4 --photos 1281167
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import EMA, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.schedules import Cosine, Steps
from ssljax.views import TwoCrops

V1_HEAD = {"projector": MLP(hidden=(), out=128), "temperature": 0.07}
V1_VIEWS = TwoCrops(size=224, jitter=1.0, hue=0.4, blur=0.0)
V2_VIEWS = TwoCrops(size=224)


def moco(
    name: str, *, views: TwoCrops = V2_VIEWS, cosine: bool = True, epochs: int = 200, **changes: Any
) -> Experiment:
    """MoCo as a function of its views and its schedule, with `changes` to the method."""
    method = {
        "projector": MLP(hidden=(2048,), out=128),
        "queue_size": 65536,
        "temperature": 0.2,
        "teacher": EMA(momentum=0.999),
    }
    return Experiment(
        name=f"imagenet_moco_{name}",
        data=TFDS("imagenet2012"),
        views=views,
        method=MoCo(
            encoder=ResNet(depth=50, norm_groups=8, dtype="bfloat16"),
            shuffle=True,
            **method | changes,
        ),
        optimizer=SGD(lr=0.03, weight_decay=1e-4, schedule=Cosine(1.0, 0.0) if cosine else Steps(1.0, (0.6, 0.8))),
        epochs=epochs,
        batch_size=256,
        photo_size=256,
        threads=32,
        evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
        gallery=("validation",),
    )


config = moco("v2")
sweep = [
    config,
    moco("v1", views=V1_VIEWS, cosine=False, **V1_HEAD),
    moco("v1_views_v2", cosine=False, **V1_HEAD),
    moco("v1_head_v2", views=V1_VIEWS, cosine=False),
    moco("v2_no_cosine", cosine=False),
    *(moco(f"v1_head_v2_t{t}", views=V1_VIEWS, cosine=False, temperature=t) for t in (0.07, 0.1, 0.3, 0.4, 0.5)),
    *(moco(f"v2_queue{k}", queue_size=k) for k in (4096, 16384)),
    *(moco(f"v2_momentum{m}", teacher=EMA(momentum=m)) for m in (0.99, 0.9999)),
]
