"""Data: sources of photos, the reading of them, and the batches that a step gets."""

from ssljax.data.arrays import Arrays
from ssljax.data.catalogue import Catalogue
from ssljax.data.few_labels import FewLabels
from ssljax.data.folder import Folder
from ssljax.data.grocery import Grocery
from ssljax.data.items import Items, Source
from ssljax.data.samplers import Classes, Listings, Photos, Sampler
from ssljax.data.tfds import TFDS
from ssljax.data.together import Part, Together
from ssljax.data.toy import ToyCatalogue
from ssljax.data.triplets import AttributeTriplets, Triplets

__all__ = [
    "TFDS",
    "Arrays",
    "AttributeTriplets",
    "Catalogue",
    "Classes",
    "FewLabels",
    "Folder",
    "Grocery",
    "Items",
    "Listings",
    "Part",
    "Photos",
    "Sampler",
    "Source",
    "Together",
    "ToyCatalogue",
    "Triplets",
]
