"""Fashion, styles: many classes of few photos in a batch, or few of many? And of one kind of article, or of any?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. Batches of 128 photos, P styles x
K photos; styles of two photos or more have 3.7 on average, so that from K = 4 on they come again. The encoder is that
of moco_fashion.py, whose last two blocks learn: train that first.

    ssljax train experiments/moco_fashion.py
    ssljax sweep experiments/metric_learning/batch_shapes.py

Published: nothing on this data; for persons 18 x 4 and 32 x 4 were chosen (Hermans et al. 2017).
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval
from ssljax.methods import MetricLearning, MultiSimilarity
from ssljax.models import Frozen, Pretrained, ResNet
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
ENCODER = Frozen(
    Pretrained(ResNet(depth=10, stem="cifar", width=16, pool=2), "runs/moco_fashion/weights/student.safetensors"),
    but_last=2,
)


def batch_shape(per_class: int, within: str | None = None) -> Experiment:
    """The multi-similarity loss as a function of K and of where the classes of a batch come from."""
    return Experiment(
        name=f"batch_shapes_{128 // per_class}x{per_class}" + ("_within" if within else ""),
        data=FASHION,
        sampler=Classes(per_class=per_class, within=within, least=2),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MetricLearning(encoder=ENCODER, criterion=MultiSimilarity()),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=3,
        batch_size=128,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = batch_shape(2)
sweep = [*map(batch_shape, (2, 4, 8, 16)), batch_shape(2, within="articleType"), batch_shape(4, within="articleType")]
