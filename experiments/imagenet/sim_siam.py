"""SimSiam on ImageNet: how much does it depend on the predictor, the stop-gradient, the batch size and BatchNorm?

Chen and He 2021: ResNet-50, 100 epochs, linear top-1 67.7 to 68.1; without the stop-gradient .1 (figure 2), without the
predictor .1 (table 1); batches of 64, 128, 256, 512, 1024, 2048, 4096: 66.1, 67.3, 68.1, 68.1, 68.0, 67.9, 64.0
(table 2); BatchNorm nowhere in the heads 34.6, in their hidden layers alone 67.4 (table 3). Not run here. The paper's
learning rate of the predictor does not decay; here it does.

ssljax train experiments/imagenet/sim_siam.py
ssljax sweep experiments/imagenet/sim_siam.py
ssljax plan experiments/imagenet/sim_siam.py --on v5e:2x4 --photos 1281167
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import TFDS
from ssljax.evaluation import KNN, LinearProbe
from ssljax.methods import SimSiam
from ssljax.models import MLP, Identity, ResNet
from ssljax.optim import SGD
from ssljax.views import TwoCrops


def sim_siam(name: str, *, batch_size: int = 512, **changes: Any) -> Experiment:
    """SimSiam as a function of the batch size, to which the learning rate is proportional; `changes` to the method."""
    return Experiment(
        name=f"imagenet_sim_siam_{name}",
        data=TFDS("imagenet2012"),
        views=TwoCrops(size=224),
        method=SimSiam(encoder=ResNet(depth=50, dtype="bfloat16"), **changes),
        optimizer=SGD(lr=0.05 * batch_size / 256, weight_decay=1e-4),
        epochs=100,
        batch_size=batch_size,
        photo_size=256,
        threads=32,
        evaluate=(KNN(k=20, temperature=0.07, split="validation"), LinearProbe(split="validation")),
        gallery=("validation",),
    )


def projector(**norms: bool) -> MLP:
    """The paper's projector with other BatchNorms."""
    return MLP(hidden=(2048, 2048), out=2048, **norms)


config = sim_siam("b512")
sweep = [
    *(sim_siam(f"b{b}", batch_size=b) for b in (64, 128, 256, 512, 1024, 2048, 4096)),
    sim_siam("no_stop_gradient", stop_gradient=False),
    sim_siam("no_predictor", predictor=Identity()),
    sim_siam("no_batch_norm", projector=projector(), predictor=MLP(hidden=(512,), out=2048)),
    sim_siam("hidden_batch_norm", projector=projector(batch_norm=True)),
]
