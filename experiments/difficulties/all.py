"""All: is an item found among 100,000 photos, whatever shop it is from?

Queries are the test photos of "Fashion Product Images (Small)" that share their title with another, and those of
Grocery; the gallery is both test splits with 92,300 distractors: the rest of Fashion, which has no style of the test
split, and CIFAR-10.

    ssljax robustness RUN experiments/difficulties/all.py --items 1000 --sides query
"""

from ssljax.config import Experiment
from ssljax.data import Catalogue, Concat, Folder, Grocery, Part
from ssljax.evaluation import Retrieval

FASHION, GROCERY, CIFAR10 = Catalogue("fashion/styles.csv", title="productDisplayName"), Grocery(), Folder("cifar10")
WANTED = [Part(FASHION, "test", item="productDisplayName"), Part(GROCERY, "test", item="product")]
DISTRACTORS = [Part(FASHION, "train"), Part(FASHION, "val"), Part(CIFAR10, "train"), Part(CIFAR10, "test")]

config = Experiment(name="all", data=Concat((*WANTED, *DISTRACTORS)), evaluate=(Retrieval(relevant="item"),))
