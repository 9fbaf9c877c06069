"""MoCo on millions of listings, with views that disturb photos as shops do: is an item found in another shop's photo?

Data: a catalogue of your own at $SSLJAX_DATA/listings/photos.parquet, one row a photo, with the columns `id`, `path`,
`listing` and `product`, which may be empty. MoCo v2 with ResNet-50 (Chen et al. 2020), at four times its batch and
learning rate, with perspectives, watermarks, collages and strong colours, and with standard views; beside the Siamese
baseline, the contrastive loss on pairs of photos of a product.

Published: same-item matching in South-East Asia (2021) trained MoCo on six million photos, on eight V100 for a week,
and found more than a Siamese baseline, without numbers. At the 1,343 images a second of eight V100, a week is 135
epochs. Not run here; shop_views.py one folder up asks the same of a small data set.

ssljax sweep experiments/ecommerce/moco.py
ssljax plan experiments/ecommerce/moco.py --on v5e:4x4 --photos 6000000
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import Retrieval, Separation
from ssljax.methods import EMA, Contrastive, MetricLearning, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.views import EcommerceViews, TwoCrops

ENCODER = ResNet(depth=50, norm_groups=16, dtype="bfloat16")
PROJECTOR = MLP(hidden=(2048,), out=128)
MOCO = MoCo(
    encoder=ENCODER,
    projector=PROJECTOR,
    queue_size=65536,
    temperature=0.2,
    teacher=EMA(momentum=0.999),
    shuffle=True,
)


def moco(name: str, views: Any, method: Any = MOCO, **changes: Any) -> Experiment:
    """A method as a function of its views."""
    return Experiment(
        name=f"ecommerce_moco_{name}",
        data=Catalogue("listings/photos.parquet", images="path", listing="listing", label="product"),
        views=views,
        method=method,
        optimizer=SGD(lr=0.12, weight_decay=1e-4, warmup=0.01),
        epochs=135,
        batch_size=1024,
        photo_size=256,
        threads=32,
        evaluate=(Retrieval(relevant="listing"), Separation(relevant="listing", name="listing")),
        **changes,
    )


config = moco("shop_views", EcommerceViews(size=224))
siamese = MetricLearning(ENCODER, PROJECTOR, criterion=Contrastive(negative_margin=1.0))
sweep = [
    config,
    moco("standard_views", TwoCrops(size=224)),
    moco("siamese", TwoCrops(size=224), siamese, sampler=Classes(per_class=2, least=2)),
]
