"""Natural views on millions of listings: do two photos of one listing teach more than two augmentations of one?

Data: a catalogue of your own at $SSLJAX_DATA/listings/listings.parquet, one row a listing, with the columns `id`,
`photos` (paths, several in a cell) and `category`. MoBY with Swin-T by its paper's recipe (Xie et al. 2021), for 30
epochs of two million listings: with natural views in half of the items, in all, and in none.

Published: Mercari (2021) tells of natural views with MoBY, and that photos of one listing lie closer than those of
different ones, without numbers. MoBY with Swin-T reaches 75.0 to 75.3 on ImageNet. Not run here; natural_views.py one
folder up asks the same of a small data set.

ssljax sweep experiments/ecommerce/natural_views.py
ssljax plan experiments/ecommerce/natural_views.py --on v5e:2x4 --photos 2000000
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Listings
from ssljax.evaluation import Retrieval, Separation
from ssljax.methods import MoBY
from ssljax.models import Swin
from ssljax.optim import AdamW
from ssljax.views import Augmentation, TwoCrops

SCALE = (0.2, 1.0)


def natural_views(name: str, natural: float) -> Experiment:
    """MoBY as a function of the share of items whose two views are two photos."""
    return Experiment(
        name=f"ecommerce_natural_views_{name}",
        data=Catalogue("listings/listings.parquet", images="photos", label="category"),
        sampler=Listings(),
        views=TwoCrops(
            size=224,
            natural=natural,
            scale=SCALE,
            saturation=0.2,
            blur=1.0,
            second=Augmentation(scale=SCALE, saturation=0.2, blur=0.1, solarise=0.2),
        ),
        method=MoBY(encoder=Swin(variant="T", drop_path=0.2, dtype="bfloat16"), queue_size=4096, temperature=0.2),
        optimizer=AdamW(lr=1e-3, weight_decay=0.05, warmup=0.1),
        epochs=30,
        batch_size=512,
        photo_size=256,
        threads=32,
        evaluate=(Retrieval(relevant="listing"), Separation(relevant="listing", name="listing")),
    )


config = natural_views("both", 0.5)
sweep = [config, natural_views("natural", 1.0), natural_views("augmented", 0.0)]
