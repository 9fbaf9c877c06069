"""TitleAugmentation: what it changes, how often, and what it must keep."""

import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data import TitleAugmentation
from ssljax.data.titles.augment import DIMENSIONS, misspelt, rewrite_units
from ssljax.types import UserError

TITLE = "red floral summer dress with long sleeves"
PROBABILITY = st.floats(0, 1)


@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=30), max_size=4),
    st.tuples(PROBABILITY, PROBABILITY, PROBABILITY, PROBABILITY),
    st.integers(0, 2**32 - 1),
)
def test_any_title_keeps_a_word_and_the_rng_decides_all(titles, probabilities, seed):
    augmentation = TitleAugmentation(*probabilities)
    changed = augmentation(titles, np.random.default_rng(seed))
    assert changed == augmentation(titles, np.random.default_rng(seed))
    assert [bool(title.split()) for title in changed] == [bool(title.split()) for title in titles]


def test_by_default_nothing_changes_and_nothing_is_drawn():
    rng = np.random.default_rng(0)
    assert TitleAugmentation()([TITLE, " a "], rng) == [TITLE, " a "]
    assert rng.random() == np.random.default_rng(0).random()


def test_words_are_dropped_as_often_as_is_said():
    changed = TitleAugmentation(drop=0.3)([TITLE] * 2000, np.random.default_rng(0))
    assert sum(len(title.split()) for title in changed) / (2000 * 7) == pytest.approx(0.7, abs=0.02)
    order = TITLE.split()
    assert all(words == sorted(words, key=order.index) for words in (title.split() for title in changed))
    assert set(TitleAugmentation(drop=1.0)([TITLE] * 200, np.random.default_rng(0))) == set(order)


def test_neighbours_are_swapped():
    changed = TitleAugmentation(swap=0.5)(["a b c"] * 2000, np.random.default_rng(0))
    assert set(changed) == {"a b c", "b a c", "a c b", "b c a"}
    assert max(Counter(changed).values()) < 600


@given(st.text("abcdefgh", min_size=1, max_size=10), st.integers(0, 10**6))
def test_a_misspelt_word_is_one_edit_away(word, seed):
    wrong = misspelt(word, np.random.default_rng(seed))
    letters = "abcdefghijklmnopqrstuvwxyz"
    places = range(len(word))
    swapped = {word[:k] + word[k + 1 : k + 2] + word[k] + word[k + 2 :] for k in places[:-1]}
    left_out = {word[:k] + word[k + 1 :] for k in places}
    doubled = {word[:k] + 2 * word[k] + word[k + 1 :] for k in places}
    replaced = {word[:k] + other + word[k + 1 :] for k in places for other in letters if other != word[k]}
    assert wrong in (swapped | left_out | doubled | replaced) - {""}


def test_words_are_misspelt_in_four_ways_as_often_as_is_said():
    changed = TitleAugmentation(misspell=0.4)(["dress"] * 4000, np.random.default_rng(0))
    wrong = [title for title in changed if title != "dress"]
    assert 0.33 < len(wrong) / 4000 < 0.41  # "ss" swapped is no error
    assert {len(title) for title in wrong} == {4, 5, 6}
    assert "rdess" in wrong and "dres" in wrong and "drress" in wrong and "dress"[:2] + "xss" in wrong


@pytest.mark.parametrize(
    "title, some",
    [
        ("Milk 500 ml", {"Milk 0.5 l", "Milk 500ml", "Milk 50 cl"}),
        ("Milk 0,5L", {"Milk 500 ml", "Milk 0.5 l"}),
        ("Flour 1 kg", {"Flour 1000 g", "Flour 1000g", "Flour 1kg"}),
        ("12x330ml cola", {"12x33 cl cola", "12x0.33 l cola"}),
        ("Shirt XL", {"Shirt extra large"}),
        ("shirt xl", {"shirt extra large"}),
        ("Shirt extra large", {"Shirt XL"}),
        ("Shirt, S", {"Shirt, small"}),
        ("2x socks", {"2 pcs socks", "pack of 2 socks"}),
        ("towels 3 pieces", {"towels 3x", "towels 3 pcs"}),
        ('TV 55"', {"TV 55 inch"}),
    ],
)
def test_units_and_sizes_are_rewritten(title, some):
    rng = np.random.default_rng(0)
    found = {rewrite_units(title, 1.0, rng) for _ in range(200)}
    assert some <= found and title not in found
    assert rewrite_units(title, 0.0, rng) == title


@pytest.mark.parametrize(
    "title",
    ["5G phone", "Flour 1,000 g", "Levi's", "T-Shirt M's", "2 x 4 wood", "Model 500 mlx", "l m s", "A4 paper", ""],
)
def test_what_is_no_quantity_stays(title):
    rng = np.random.default_rng(0)
    assert {rewrite_units(title, 1.0, rng) for _ in range(50)} == {title}


@given(st.integers(1, 9999), st.sampled_from(sorted(DIMENSIONS)), st.integers(0, 10**6))
def test_a_rewritten_quantity_is_as_much(number, unit, seed):
    found = re.fullmatch(r"([\d.]+) ?(\D+)", rewrite_units(f"{number} {unit}", 1.0, np.random.default_rng(seed)))
    sizes = DIMENSIONS[found[2]]
    assert Fraction(found[1]) * sizes[found[2]] == number * sizes[unit]


def test_fields_are_checked():
    with pytest.raises(
        UserError, match=r"titles.augmentation.drop=1.5 is not a probability: it must be between 0 and 1"
    ):
        TitleAugmentation(drop=1.5)
    with pytest.raises(UserError, match=r"titles.augmentation.swap=nan must be a finite number"):
        TitleAugmentation(swap=float("nan"))
