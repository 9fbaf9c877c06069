"""Hard: does a phone photo from a shop find the studio photo of its product?

Queries are the test photos of the "Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019), the gallery its 81
studio photos: two ways of taking photos that have nothing in common. By chance one query in 81 finds the right one.

    ssljax robustness RUN experiments/difficulties/hard.py
"""

from ssljax.config import Experiment
from ssljax.data import Grocery
from ssljax.evaluation import Retrieval

config = Experiment(name="hard", data=Grocery(), evaluate=(Retrieval(relevant="product", gallery="iconic"),))
