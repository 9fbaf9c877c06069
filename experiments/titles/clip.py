"""Fashion: do photos find their titles, and titles their photos, without any label?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, with the shortened titles of fashion.py, on the photos
that claims/photos.py has embedded by ImageNet's weights. CLIP and SigLIP learn a projection of these and a bag of
tokens, so that a photo and its title are near; a title is right for a photo if both are of one style, too.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/titles/clip.py

Published: nothing on this protocol.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import BPE, Catalogue, NoisyTitles, TitleAugmentation, Titles
from ssljax.evaluation import PhotoToTitle, Retrieval, SavedEmbeddings
from ssljax.methods import CLIP, SigLIP
from ssljax.models import MLP, BagOfTokens
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import PhotoAndTitle, SavedVectors

FASHION = Catalogue(path="fashion/styles.csv", label="productDisplayName", title="productDisplayName")


def clip(kind: Any, seed: int) -> Experiment:
    """One of the two losses."""
    return Experiment(
        name=f"titles_fashion_{kind.__name__.lower()}_{seed}",
        data=SavedEmbeddings(NoisyTitles(FASHION, without_last=2, drop=0.2, misspell=0.1), "runs/imported_fashion"),
        views=PhotoAndTitle(SavedVectors()),
        titles=Titles(BPE(4096), length=24, augmentation=TitleAugmentation(drop=0.1, swap=0.1, misspell=0.05)),
        method=kind(
            encoder=MLP(hidden=(), out=512),
            projector=MLP(hidden=(), out=256),
            title_encoder=BagOfTokens(vocabulary=4096, dim=256),
            title_projector=MLP(hidden=(), out=256),
        ),
        optimizer=AdamW(lr=2e-3, weight_decay=0.01, warmup=0.1),
        epochs=10,
        batch_size=256,
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        evaluate=(
            PhotoToTitle("productDisplayName", ks=(1, 5, 10), name="style"),
            Retrieval("productDisplayName", name="style", interval=0.95),
        ),
    )


config = clip(CLIP, 0)
sweep = [clip(kind, seed) for seed in (0, 1, 2) for kind in (CLIP, SigLIP)]
