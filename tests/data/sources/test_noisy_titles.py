"""NoisyTitles against its source."""

import dataclasses
import difflib

import numpy as np
import pytest

from ssljax.config import from_json, resolved
from ssljax.data import Catalogue, Items, NoisyTitles, ToyCatalogue
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class Shop:
    """Items with a title and a name that is the same; every split has the same ones."""

    titles: tuple[str, ...]

    def load(self, split):
        titles = np.array(self.titles, object)
        ids = np.array([f"{k}" for k in range(len(titles))], object)
        return Items(ids, [None] * len(ids), {"title": titles, "name": titles})


@dataclasses.dataclass(frozen=True)
class Untitled:
    """An item without a title."""

    def load(self, split):
        return Items(np.array(["a"], object), [None])


WORDS = ("one two three four five six",) * 300


def titles(*options, **fields) -> list[str]:
    return NoisyTitles(Shop(WORDS), *options, **fields).load("test").columns["title"].tolist()


def test_the_last_words_are_removed_and_other_columns_stay():
    items = NoisyTitles(Shop(("Puma Men Black Shoes", "Red  Dress", "", "a\nb c")), drop=0.0, misspell=0.0).load(
        "train"
    )
    assert items.columns["title"].tolist() == ["Puma Men", "", "", "a"]
    assert items.columns["name"].tolist() == ["Puma Men Black Shoes", "Red  Dress", "", "a\nb c"]
    assert titles(0, 0.0, 0.0) == list(WORDS)
    assert titles(9, 0.0, 0.0) == [""] * len(WORDS)


def test_words_are_dropped_and_misspelt_as_often_as_is_said():
    left = [title.split() for title in titles(2, 0.5, 0.0)]
    assert sum(map(len, left)) / 1200 == pytest.approx(0.5 + 0.5**4 / 4, abs=0.04)  # one word stays
    assert {word for words in left for word in words} == {"one", "two", "three", "four"}
    wrong = [word for title in titles(2, 0.0, 0.5) for word in title.split() if word not in WORDS[0].split()]
    assert 0.42 < len(wrong) / 1200 < 0.52  # "ee" swapped is no error
    assert all(difflib.get_close_matches(word, ["one", "two", "three", "four"], cutoff=0.5) for word in wrong)


def test_a_title_depends_on_its_item_and_the_seed_alone():
    every = titles()
    assert every == titles() and len(set(every)) > 20
    assert NoisyTitles(Shop(WORDS[:7])).load("test").columns["title"].tolist() == every[:7]
    assert titles(seed=1) != every
    assert titles()[:4] == ["oe two four", "two three four", "one two threee four", "one twoo three"]  # golden


def test_it_is_part_of_a_config():
    source = NoisyTitles(Catalogue("shop.csv", title="name"), drop=0.3)
    assert from_json(resolved(source)) == source


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match=r"data.drop=-0.1 is not a probability: it must be between 0 and 1"):
        NoisyTitles(ToyCatalogue(), drop=-0.1)
    with pytest.raises(UserError, match=r"data.without_last=-1 is too small: it must be at least 0"):
        NoisyTitles(ToyCatalogue(), -1)
    with pytest.raises(UserError, match=r"NoisyTitles needs titles, and its source has none"):
        NoisyTitles(Untitled()).load("train")
