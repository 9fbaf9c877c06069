"""Fashion, styles: does a cross-batch memory make up for small batches?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. Batches of two photos a style, as
in mining.py, with the contrastive loss, for which the memory was made, and with batch-hard triplets, the best there; as
many epochs for each batch size, so that smaller batches make more steps. The memory holds a third of the labelled
photos and counts from a tenth of the training on. The encoder is that of moco_fashion.py, whose last two blocks learn:
train that first.

    ssljax train experiments/moco_fashion.py
    ssljax sweep experiments/metric_learning/memory.py

Published: the memory helps the contrastive loss at any batch size, small ones most, and makes recall nearly independent
of it (Wang et al. 2020, "XBM", figure 4). Not on this data.
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval
from ssljax.methods import Contrastive, Memory, MetricLearning, Triplet
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
LOSSES = {"contrastive": Contrastive(), "batch_hard": Triplet()}


def memory(loss: str, batch_size: int, memory_size: int) -> Experiment:
    """A loss as a function of the batch and the memory."""
    return Experiment(
        name=f"memory_{loss}_batch_{batch_size}_memory_{memory_size}",
        data=FASHION,
        sampler=Classes(per_class=2, least=2),
        views=OneCropEach(
            size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
        ),
        method=MetricLearning(encoder=ENCODER, criterion=LOSSES[loss], memory=Memory(size=memory_size, start=0.1)),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=3,
        batch_size=batch_size,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = memory("contrastive", 32, 4096)
sweep = [memory(loss, batch, size) for loss in LOSSES for batch in (32, 128, 256) for size in (0, 4096)]
