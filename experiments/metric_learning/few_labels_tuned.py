"""Fashion, styles: what are labels worth after self-supervision? Metric learning that goes on from half as long a MoCo.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. From few_labels.py's
run few_labels_moco_half, half of the steps there: together about as many as either alone has there, 814 to 884. The
whole encoder learns.

    ssljax sweep experiments/metric_learning/few_labels.py
    ssljax sweep experiments/metric_learning/few_labels_tuned.py

Published: metric learning against DINO, after fine-tuning on private shop photos, told without numbers.
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes, FewLabels
from ssljax.evaluation import Retrieval
from ssljax.methods import MetricLearning, MultiSimilarity
from ssljax.models import Pretrained, ResNet
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = Pretrained(
    ResNet(depth=10, stem="cifar", width=16, pool=2), "runs/few_labels_moco_half/weights/student.safetensors"
)
STEPS = 442  # half of those in few_labels.py


def tuned(percent: int, *, steps_per_epoch: int) -> Experiment:
    """Metric learning after MoCo, as a function of how many styles are named."""
    return Experiment(
        name=f"few_labels_tuned_{percent}",
        data=FewLabels(FASHION, share=percent / 100),
        sampler=Classes(per_class=4, least=2),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MetricLearning(encoder=ENCODER, criterion=MultiSimilarity()),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=STEPS // steps_per_epoch,
        batch_size=128,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = tuned(100, steps_per_epoch=93)
sweep = [tuned(1, steps_per_epoch=1), tuned(10, steps_per_epoch=9), config]
