"""Local: is a style of "Fashion Product Images (Small)" found among 100,000 photos?

Queries are the test photos that share their title with another; the gallery is the test split with 97,800 distractors:
the rest of Fashion, which has no style of the test split, all of Grocery, and CIFAR-10.

    ssljax robustness RUN experiments/difficulties/local.py --items 1000 --sides query
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Concat, Folder, Grocery, Part
from ssljax.evaluation import Retrieval

FASHION, GROCERY, CIFAR10 = Catalogue("fashion/styles.csv", title="productDisplayName"), Grocery(), Folder("cifar10")
DISTRACTORS = [Part(FASHION, "train"), Part(FASHION, "val")]
DISTRACTORS += [Part(GROCERY, split) for split in ("train", "val", "test", "iconic")]
DISTRACTORS += [Part(CIFAR10, split) for split in ("train", "test")]

config = Experiment(
    name="local",
    data=Concat((Part(FASHION, "test", item="productDisplayName"), *DISTRACTORS)),
    evaluate=(Retrieval(relevant="item"),),
)
