"""MoCo v2 on ImageNet: what does the temperature give?

Chen et al. 2020: ResNet-50, 200 epochs, linear top-1 67.5 (800 epochs: 71.1). Their table of temperatures, of which .2
is the best, is for v1's augmentation and schedule, which this is not. Not run here: it takes eight GPUs two days.

ssljax train experiments/imagenet/moco_v2.py
ssljax sweep experiments/imagenet/moco_v2.py
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.methods import MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.retrieval import KNN, LinearProbe
from ssljax.views import TwoCrops


def moco_v2(*, temperature: float = 0.2, epochs: int = 200) -> Experiment:
    """MoCo v2 as a function of its temperature."""
    return Experiment(
        name=f"imagenet_moco_v2_t{temperature}_e{epochs}",
        data=TFDS("imagenet2012"),
        views=TwoCrops(size=224),
        method=MoCo(
            encoder=ResNet(depth=50, norm_groups=8, dtype="bfloat16"),
            projector=MLP(hidden=(2048,), out=128),
            queue_size=65536,
            temperature=temperature,
            momentum=0.999,
            shuffle=True,
        ),
        optimizer=SGD(lr=0.03, weight_decay=1e-4),
        epochs=epochs,
        batch_size=256,
        photo_size=256,
        threads=32,
        evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
        gallery=("validation",),
    )


config = moco_v2()
sweep = [moco_v2(temperature=t) for t in (0.07, 0.1, 0.2, 0.3, 0.4, 0.5)]
