"""Data: sources of photos, the reading of them, and the batches that a step gets."""

from ssljax.data.items import Items
from ssljax.data.samplers import Classes, Listings, Photos
from ssljax.data.samplers.triplets import AttributeTriplets, Triplets
from ssljax.data.sources.arrays import Arrays
from ssljax.data.sources.catalogue import Catalogue
from ssljax.data.sources.concat import Part, Together
from ssljax.data.sources.few_labels import FewLabels
from ssljax.data.sources.folder import Folder
from ssljax.data.sources.grocery import Grocery
from ssljax.data.sources.tfds import TFDS
from ssljax.data.sources.toy import ToyCatalogue

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
    "Together",
    "ToyCatalogue",
    "Triplets",
]
