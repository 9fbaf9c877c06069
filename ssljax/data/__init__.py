"""Data: sources of photos, the reading of tables, photos and files, and the batches that a step gets.

What the accelerator does to photos is in `ssljax.views`; nothing here knows a method.
"""

from ssljax.data.items import Items
from ssljax.data.samplers.attribute_triplets import AttributeTriplets
from ssljax.data.samplers.classes import Classes
from ssljax.data.samplers.listings import Listings
from ssljax.data.samplers.photos import Photos
from ssljax.data.samplers.triplets import Triplets
from ssljax.data.sources.arrays import Arrays
from ssljax.data.sources.catalogue import Catalogue
from ssljax.data.sources.concat import Concat, Part
from ssljax.data.sources.few_labels import FewLabels
from ssljax.data.sources.folder import Folder
from ssljax.data.sources.grocery import Grocery
from ssljax.data.sources.noisy_titles import NoisyTitles
from ssljax.data.sources.tfds import TFDS
from ssljax.data.sources.toy import ToyCatalogue
from ssljax.data.titles import BPE, Bytes, NGrams, TitleAugmentation, Titles, TokenizerFile

__all__ = [
    "BPE",
    "TFDS",
    "Arrays",
    "AttributeTriplets",
    "Bytes",
    "Catalogue",
    "Classes",
    "Concat",
    "FewLabels",
    "Folder",
    "Grocery",
    "Items",
    "Listings",
    "NGrams",
    "NoisyTitles",
    "Part",
    "Photos",
    "TitleAugmentation",
    "Titles",
    "TokenizerFile",
    "ToyCatalogue",
    "Triplets",
]
