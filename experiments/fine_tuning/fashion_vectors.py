"""Fashion: what does a linear projection of whitened vectors find, and what do colours and a second encoder add?

As the rows of fashion.py that whiten each map of ImageNet's EfficientNet-Lite0, but on the vectors that
claims/photos.py has saved, so that a run takes minutes. Some of the runs see the photos' colours beside them, their
histogram without what is white, which needs no training; and some of these the maps of EfficientNet-Lite2, too.
Whitened, projected by labels in closed form (Whitening with labels), and projected by a linear layer that SupCon trains
on the vectors that labels have whitened. Dimensions, bins, temperature and epochs were chosen on `val`.

    ssljax sweep experiments/claims/photos.py
    ssljax sweep experiments/fine_tuning/fashion_vectors.py

Published: nothing on this protocol. Measured on `test`, over three seeds: with colours, the trained projection finds
CMC@1 .574 and MAP@R .394 of styles (.400 with query expansion), and MAP@R .233 of attributes; without, .564, .381 and
.221; with colours and Lite2's maps, .587, .415 (.424) and .231. In closed form, by labels of their own, attributes have
a MAP@R of .274, and .304 with Lite2's maps.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import QueryExpansion, Retrieval, SavedEmbeddings, Whitening
from ssljax.methods import MetricLearning, SupCon
from ssljax.models import MLP, ColourHistogram, EfficientNet, Identity
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import SavedVectors

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
RELEVANT = {"style": "productDisplayName", "attribute": ("gender", "articleType", "baseColour")}
EXPANDED = QueryExpansion(k=2)
MAPS = SavedEmbeddings(FASHION, "runs/imported_fashion")
COLOURS = SavedEmbeddings(MAPS, "runs/colours_fashion")
LITE0, LITE2 = (EfficientNet(variant, levels=((2, 4), (3, 4), (5, 3))).parts for variant in ("lite0", "lite2"))
WITH_COLOURS = (*LITE0, ColourHistogram().features)
SOURCES = {
    "maps": (MAPS, LITE0),
    "colours": (COLOURS, WITH_COLOURS),
    "encoders": (SavedEmbeddings(COLOURS, "runs/imported_fashion_lite2"), (*WITH_COLOURS, *LITE2)),
}


def whitening(dim: int, parts: tuple[int, ...], labels: Any = None) -> Whitening:
    """Each part is whitened by itself first."""
    return Whitening(dim=dim, shrinkage=0.3, labels=labels, parts=parts)


def vectors(name: str, data: Any, method: MetricLearning, evaluate: tuple[Any, ...], **settings: Any) -> Experiment:
    """A method on saved vectors."""
    return Experiment(
        name=f"fine_tuning_fashion_{name}",
        data=data,
        sampler=Classes(per_class=2, least=2),
        views=SavedVectors(),
        method=method,
        optimizer=AdamW(lr=1e-3, warmup=0.1),
        batch_size=512,
        photo_size=8,
        cache="device",
        baselines=False,
        index=Exact(),
        evaluate=evaluate,
        **settings,
    )


def closed_form(name: str) -> Experiment:
    """Nothing is trained: whitened without labels, and by those of styles or attributes."""
    data, parts = SOURCES[name]
    style = whitening(384, parts, RELEVANT["style"])
    ways = {
        ("style", "_whitened"): (whitening(1024, parts),),
        ("style", "_by_labels"): (style,),
        ("style", "_expanded"): (style, EXPANDED),
        ("attribute", "_whitened"): (whitening(1024, parts),),
        ("attribute", "_by_labels"): (whitening(256, parts, RELEVANT["attribute"]),),
    }
    evaluate = tuple(
        Retrieval(RELEVANT[kind], name=kind + way, interval=0.95, after=after) for (kind, way), after in ways.items()
    )
    return vectors(f"{name}_whitened", data, MetricLearning(Identity()), evaluate, epochs=0)


WHITE = {
    name: SavedEmbeddings(data.data, data.path, whitening(1024, parts, RELEVANT["style"]))
    for name, (data, parts) in SOURCES.items()
}


def projection(name: str, seed: int = 0) -> Experiment:
    """A linear projection learns from styles."""
    method = MetricLearning(MLP(hidden=(), out=1024), criterion=SupCon(temperature=0.1))
    evaluate = (
        *(Retrieval(relevant, name=kind, interval=0.95) for kind, relevant in RELEVANT.items()),
        Retrieval(RELEVANT["style"], name="style_expanded", interval=0.95, after=(EXPANDED,)),
    )
    return vectors(f"{name}_projection_{seed}", WHITE[name], method, evaluate, epochs=4, seed=seed)


config = projection("colours")
sweep = [
    config,
    closed_form("colours"),
    projection("maps"),
    closed_form("encoders"),
    projection("encoders"),
    *(projection(name, seed) for seed in (1, 2) for name in SOURCES),
]
