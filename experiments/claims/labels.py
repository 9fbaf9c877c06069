"""Fashion, styles, from imported weights: what are labels worth, if 1, 10 or 100 % of the styles are named?

As metric_learning/few_labels.py, which starts from random weights, but on what ImageNet's EfficientNet-Lite0 has made
of the photos (run claims/photos.py first): a linear projection learns, for the same number of steps in all runs.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/claims/labels.py

Published: a comparison of metric learning with DINO, on private shop photos, without numbers.
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes, FewLabels
from ssljax.evaluation import Retrieval, SavedEmbeddings
from ssljax.methods import MetricLearning, MultiSimilarity
from ssljax.models import MLP
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import SavedVectors

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
STEPS_PER_EPOCH = {1: 1, 10: 9, 100: 93}
STEPS = 837  # 837 = 93 x 9 x 1


def labels(percent: int, seed: int) -> Experiment:
    """A projection, as a function of how many styles are named."""
    return Experiment(
        name=f"claims_labels_{percent}_{seed}",
        data=SavedEmbeddings(FewLabels(FASHION, share=percent / 100), "runs/imported_fashion"),
        sampler=Classes(per_class=4, least=2),
        views=SavedVectors(),
        method=MetricLearning(encoder=MLP(hidden=(), out=512), criterion=MultiSimilarity()),
        optimizer=AdamW(lr=3e-4, weight_decay=0.01, warmup=0.05),
        epochs=STEPS // STEPS_PER_EPOCH[percent],
        batch_size=128,
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        evaluate=(
            Retrieval(relevant="productDisplayName", name="style", interval=0.95),
            Retrieval(relevant=("gender", "articleType", "baseColour"), name="attribute", interval=0.95),
        ),
    )


config = labels(100, 0)
sweep = [labels(percent, seed) for seed in (0, 1, 2) for percent in STEPS_PER_EPOCH]
