"""MoCo on real shop photos: does it find the other photos of a style better than raw pixels do?

Data: "Fashion Product Images (Small)", Kaggle, MIT licence, as a catalogue at $SSLJAX_DATA/fashion: `styles.csv` with a
`split` column, and `images/<id>.jpg`. Relevant = the same `productDisplayName` (style), or the same gender, article
type and colour (attribute); every item of the split is in the gallery.

Published: nothing on this protocol. Raw 32 x 32 pixels reach CMC@1 .383 and MAP@R .220 on style; `results/` has what
this module measured. It is sized for half an hour on two CPU cores.

On one device the teacher's BatchNorm gives away which photos share a batch, and MoCo learns that instead of the photos
(MoCo, section 3.3): hence BatchNorm in eight groups and a shuffled teacher. Without them the first two epochs end at
CMC@1 .25 on `val`, with them the first one at .30.

All photos are framed alike, so it helps to keep where things are and to embed at full size: a first run with globally
averaged features of 32 px photos reached CMC@1 .354 on `test` (raw pixels .385); its last map, averaged over four
quarters of 64 px photos, went from .388 to .442 on `val` (raw pixels .392).

    ssljax train experiments/moco_fashion.py
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, MoCo
from ssljax.models import MLP, ResNet
from ssljax.optim import AdamW
from ssljax.views import TwoCrops

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="articleType",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
# A style has one colour, and its photos differ in crop and light: colours are jittered little, hue hardly at all.
VIEWS = TwoCrops(
    size=32, evaluation_size=64, scale=(0.3, 1.0), contrast=0.3, saturation=0.2, hue=0.02, grey=0.0, blur=0.0
)
STYLE = Retrieval(relevant="productDisplayName", name="style")
ATTRIBUTE = Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", caps=(100,))


def moco_fashion(*, temperature: float = 0.1, epochs: int = 20) -> Experiment:
    """MoCo v2 with a small ResNet, as a function of its temperature."""
    return Experiment(
        name="moco_fashion" if temperature == 0.1 else f"moco_fashion_t{temperature}",
        data=FASHION,
        views=VIEWS,
        method=MoCo(
            encoder=ResNet(depth=10, stem="cifar", width=16, pool=2, norm_groups=8),
            projector=MLP(hidden=(256,), out=128),
            temperature=temperature,
            queue_size=4096,
            teacher=EMA(momentum=0.99),
            shuffle=True,
        ),
        optimizer=AdamW(lr=1e-3, weight_decay=0.01, warmup=0.05),
        epochs=epochs,
        batch_size=128,
        photo_size=64,
        cache="device",
        monitor=(Retrieval(relevant="productDisplayName", name="style", split="val"),),
        monitor_every=5,
        evaluate=(STYLE, ATTRIBUTE),
    )


config = moco_fashion()
sweep = [moco_fashion(temperature=t) for t in (0.07, 0.1, 0.2)]
