"""SimSiam on ImageNet: how much does it depend on the stop-gradient and on the batch size?

Chen and He 2021: ResNet-50, 100 epochs, linear top-1 67.7 to 68.1; without the stop-gradient .1 (figure 2); batches of
64, 128, 256, 512, 1024, 2048, 4096: 66.1, 67.3, 68.1, 68.1, 68.0, 67.9, 64.0 (table 2). Not run here. The paper's
learning rate of the predictor does not decay; here it does.

ssljax sweep experiments/imagenet/sim_siam.py
"""

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.methods import SimSiam
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.retrieval import KNN, LinearProbe
from ssljax.views import TwoCrops


def sim_siam(*, batch_size: int = 512, stop_gradient: bool = True) -> Experiment:
    """SimSiam as a function of the batch size, to which the learning rate is proportional."""
    return Experiment(
        name=f"imagenet_sim_siam_b{batch_size}" + ("" if stop_gradient else "_without_stop_gradient"),
        data=TFDS("imagenet2012"),
        views=TwoCrops(size=224),
        method=SimSiam(encoder=ResNet(depth=50, dtype="bfloat16"), stop_gradient=stop_gradient),
        optimizer=SGD(lr=0.05 * batch_size / 256, weight_decay=1e-4),
        epochs=100,
        batch_size=batch_size,
        photo_size=256,
        threads=32,
        evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
        gallery=("validation",),
    )


config = sim_siam()
sweep = [sim_siam(batch_size=b) for b in (64, 128, 256, 512, 1024, 2048, 4096)] + [sim_siam(stop_gradient=False)]
