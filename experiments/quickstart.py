"""The whole road in minutes on a laptop: a generated catalogue, MoCo, and the search for other photos of a listing.

ssljax train experiments/quickstart.py
ssljax search runs/quickstart PHOTO
"""

from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.views import TwoCrops

config = Experiment(
    name="quickstart",
    data=ToyCatalogue(),
    views=TwoCrops(size=32, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0),
    method=MoCo(
        encoder=ResNet(depth=10, stem="cifar", width=16),
        projector=MLP(hidden=(128,), out=64),
        temperature=0.1,
        queue_size=1024,
        teacher=EMA(momentum=0.95),
    ),
    optimizer=SGD(lr=0.2, weight_decay=1e-4, warmup=0.05),
    epochs=10,
    batch_size=128,
    photo_size=64,
    cache="device",
    evaluate=(Retrieval(relevant="listing"),),
)
