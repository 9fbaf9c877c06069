"""Fashion on an accelerator: metric learning that goes on from half a MoCo, as few_labels_tuned.py does on a CPU.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. Not run yet.

    ssljax sweep experiments/metric_learning/full.py
    ssljax sweep experiments/metric_learning/full_tuned.py
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes, FewLabels
from ssljax.evaluation import Retrieval
from ssljax.methods import MetricLearning, MultiSimilarity
from ssljax.models import Pretrained, ResNet
from ssljax.optim import SGD
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = Pretrained(ResNet(depth=50, stem="cifar"), "runs/full_moco_half/weights/student.safetensors")
STEPS = 2750  # half of those in full.py


def tuned(percent: int, steps_per_epoch: int, *, batch_size: int = 512, lr: float = 0.1) -> Experiment:
    """Metric learning after MoCo, as a function of how many styles are named."""
    return Experiment(
        name=f"full_tuned_{percent}",
        data=FewLabels(FASHION, share=percent / 100),
        sampler=Classes(per_class=4, least=2),
        views=OneCropEach(
            size=64, evaluation_size=80, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MetricLearning(encoder=ENCODER, criterion=MultiSimilarity()),
        optimizer=SGD(lr=lr, weight_decay=1e-4, warmup=0.05),
        epochs=STEPS // steps_per_epoch,
        batch_size=batch_size,
        photo_size=80,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = tuned(100, 23)
sweep = [tuned(1, 1, batch_size=64, lr=0.0125), tuned(10, 2), config]
