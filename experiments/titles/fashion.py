"""Fashion: is a listing found better by its photo, by its title, or by both? As in Shopee's price match.

Data: "Fashion Product Images (Small)" at $SSLJAX_DATA/fashion, as in moco_fashion.py. Listings are the same product if
they have the same style, which is a title there. So that the title does not give the answer away, a model sees it
without its last two words, with a fifth of the others dropped and a tenth misspelt, by a seed. Photos are those that
claims/photos.py has embedded by ImageNet's weights; run that first. Each encoder learns a linear projection of the
photos, a text encoder, or both, from the styles of the train split that have two photos or more, none of which is in
test. The loss is SupCon: ArcFace, as published, has 25,979 classes here, which take two seconds a step on two cores.

    python results/titles.py            trains all with three seeds, and writes the records of docs/titles.md

Published (Shopee's Price Match Guarantee, Kaggle 2021, F1, on other data): photo and title .724 joined, .753 each
scaled to unit length first.
"""

from typing import Any

from ssljax.config import Experiment
from ssljax.data import BPE, Catalogue, Classes, NGrams, NoisyTitles, TitleAugmentation, Titles
from ssljax.evaluation import Retrieval, SavedEmbeddings, ShopeeF1
from ssljax.methods import MetricLearning, SupCon
from ssljax.models import MLP, BagOfTokens, Fusion, TextTransformer
from ssljax.optim import AdamW
from ssljax.search import Exact
from ssljax.views import PhotoAndTitle, SavedVectors

FASHION = Catalogue(path="fashion/styles.csv", label="productDisplayName", title="productDisplayName")
NOISY = NoisyTitles(FASHION, without_last=2, drop=0.2, misspell=0.1)
WORDS = Titles(BPE(vocabulary=4096), length=24, augmentation=TitleAugmentation(drop=0.1, swap=0.1, misspell=0.05))
LETTERS = Titles(NGrams(vocabulary=32768), length=128, augmentation=WORDS.augmentation)
PHOTO = MLP(hidden=(), out=512)
BAG = BagOfTokens(vocabulary=4096, dim=256)
STYLE = Retrieval("productDisplayName", name="style", interval=0.95)
SAME = ShopeeF1("productDisplayName", name="style")


def titles(name: str, method: Any, *, seed: int = 0, titles: Titles = WORDS, **parts: Any) -> Experiment:
    """A network of photos and titles, judged by the styles that it finds."""
    defaults = {"evaluate": (STYLE, SAME), "epochs": 12, "batch_size": 256}
    return Experiment(
        name=f"titles_fashion_{name}_{seed}",
        data=SavedEmbeddings(NOISY, "runs/imported_fashion"),
        sampler=Classes(per_class=2, least=2),
        views=PhotoAndTitle(SavedVectors()),
        titles=titles,
        method=method,
        optimizer=AdamW(lr=2e-3, weight_decay=0.01, warmup=0.1),
        photo_size=8,
        cache="device",
        seed=seed,
        baselines=False,
        index=Exact(),
        gallery=("val", "test"),
        **defaults | parts,
    )


def same_style(encoder: Any) -> MetricLearning:
    """An encoder, trained to bring photos of one style together."""
    return MetricLearning(encoder, criterion=SupCon(temperature=0.1))


def photo(seed: int = 0) -> Experiment:
    """Photos alone."""
    return titles("photo", same_style(Fusion(photo=PHOTO, title=None)), seed=seed)


def title(seed: int = 0) -> Experiment:
    """Titles alone."""
    return titles("title", same_style(Fusion(photo=None, title=BAG)), seed=seed)


def letters(seed: int = 0) -> Experiment:
    """Titles alone, by n-grams of letters."""
    bag = BagOfTokens(vocabulary=LETTERS.tokenizer.vocabulary, dim=256)
    return titles("letters", same_style(Fusion(photo=None, title=bag)), seed=seed, titles=LETTERS)


def transformer(seed: int = 0) -> Experiment:
    """Titles alone, by a small transformer."""
    text = TextTransformer(vocabulary=4096, width=192, depth=2, heads=3, length=24)
    return titles("transformer", same_style(Fusion(photo=None, title=text)), seed=seed)


def both(how: Any, seed: int = 0) -> Experiment:
    """Photos and titles, joined in one of the ways."""
    return titles(how, same_style(Fusion(photo=PHOTO, title=BAG, how=how)), seed=seed)


config = both("normalise_first")
seeds = [
    run
    for seed in (0, 1, 2)
    for run in (
        photo(seed),
        title(seed),
        letters(seed),
        *(both(how, seed) for how in ("concat", "normalise_first", "gated")),
    )
]
sweep = [*seeds, transformer()]
