import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.data.columns import encode, encode_label, listing_keys, text
from ssljax.data.items import SPLITS, Items, hashed_splits, split_rows
from ssljax.types import UserError


def make(n=4):
    return Items(
        ids=text(f"p{k}" for k in range(n)),
        photos=list(range(n)),
        columns={"title": text(f"t{k}" for k in range(n))},
        label=np.arange(n, dtype=np.int32),
        attributes=np.arange(2 * n, dtype=np.int32).reshape(n, 2),
    )


@pytest.mark.parametrize("rows", [[2, 0], np.array([True, False, True, False]), slice(1, 3), np.array([3])])
def test_select_takes_the_same_rows_of_every_field(rows):
    items = make()
    chosen = items.select(rows)
    want = np.arange(4)[rows]
    assert len(chosen) == len(want)
    assert list(chosen.photos) == list(want)
    assert list(chosen.ids) == [f"p{k}" for k in want] and list(chosen.columns["title"]) == [f"t{k}" for k in want]
    np.testing.assert_array_equal(chosen.label, want)
    np.testing.assert_array_equal(chosen.attributes, items.attributes[want])
    assert chosen.listing is None


def test_a_selection_of_a_selection_is_one_step_deep_and_survives_pickling():
    items = make().select([3, 2, 1]).select([2, 0])
    assert list(items.photos) == [1, 3] and isinstance(items.photos.photos, list)
    assert list(pickle.loads(pickle.dumps(items)).photos) == [1, 3]


def test_reading_past_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        make().select([0]).photos[1]


def test_bad_items_are_one_sentence():
    with pytest.raises(UserError, match=r"2 ids come more than once \('a', 'b'\)"):
        Items(ids=text("abcab"), photos=range(5))
    with pytest.raises(UserError, match="1 of 2 ids are blank"):
        Items(ids=text(["a", ""]), photos=range(2))
    with pytest.raises(UserError, match="label has 3 rows and ids have 2"):
        Items(ids=text("ab"), photos=range(2), label=np.zeros(3, np.int32))
    with pytest.raises(UserError, match="not one photo"):
        Items(ids=text(""), photos=[])


def test_an_empty_split_names_the_others_and_their_sizes():
    splits = text(["train"] * 3 + ["val"] + ["extra"] * 2 + [""])
    with pytest.raises(
        UserError, match=r"^data: split 'test' is empty; there are train \(3\), val \(1\), extra \(2\)$"
    ):
        split_rows(splits, "test")
    np.testing.assert_array_equal(split_rows(splits, "val"), [3])


def test_encode_is_sorted_and_blank_is_missing():
    codes, names = encode(text(["b", "", " a ", "b", " "]))
    assert names == ("a", "b")
    np.testing.assert_array_equal(codes, [1, -1, 0, 1, -1])
    assert codes.dtype == np.int32


def test_encode_keeps_numbers_in_numeric_order():
    codes, names = encode(text(map(str, [10, 2, 0, 1, 11, 3, 4, 5, 6, 7, 8, 9])))
    np.testing.assert_array_equal(codes, [10, 2, 0, 1, 11, 3, 4, 5, 6, 7, 8, 9])
    assert names[10] == "10"


@pytest.mark.parametrize("values", ["abc", ["a", "", "b"], [" ", ""]])
def test_labels_that_tell_nothing_are_refused(values):
    with pytest.raises(UserError, match=r"data\.label='kind'"):
        encode_label(text(values), "kind")


def test_listings_ignore_case_and_a_blank_one_is_alone():
    keys = listing_keys(text(["Red Mug", " red mug", "", "", "p1"]), text(["p0", "p1", "p2", "p3", "p4"]))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30))
def test_hashed_splits_depend_on_the_key_alone(keys):
    splits = hashed_splits(text(keys), (0.5, 0.25, 0.25))
    for key, split in zip(keys, splits, strict=True):
        assert hashed_splits(text([key]), (0.5, 0.25, 0.25))[0] == split


def test_hashed_splits_have_their_shares_and_their_known_values():
    splits = hashed_splits(text(map(str, range(5000))), (0.8, 0.15, 0.05))
    for split, share in zip(SPLITS, (0.8, 0.15, 0.05), strict=True):
        assert abs((splits == split).mean() - share) < 0.02
    assert set(hashed_splits(text("abcdef"), (0, 0, 1))) == {"test"}
    # a change of the hash would silently move photos from test to train
    assert list(hashed_splits(text("abcde"), (0.8, 0.1, 0.1))) == ["train", "train", "test", "train", "train"]


def test_shares_must_sum_to_one():
    with pytest.raises(UserError, match="sum to 1"):
        hashed_splits(text("ab"), (0.8, 0.1, 0.2))
    with pytest.raises(UserError, match="sum to 1"):
        hashed_splits(text("ab"), (float("nan"), 0.5, 0.5))


@pytest.mark.parametrize(
    "field, values, sentence",
    [
        ("label", np.array([0, 2937985045]), "label has the number 2937985045 in row 1: number them from 0 to at most"),
        ("label", np.array([-2, 0]), "label has the number -2 in row 0"),
        ("label", np.array([0.0, 1.0]), r"label of shape \(2,\) and type float64 must be whole numbers from 0"),
        ("label", np.array([True, False]), "label of shape .* type bool must be whole numbers"),
        ("listing", ["a", "b"], "listing of shape .* must be whole numbers"),
        ("listing", np.array([2**31, 0]), "listing has the number 2147483648 in row 0"),
        ("attributes", np.array([[0, -5], [1, 1]]), "attributes has the number -5 in row 0"),
        ("attributes", np.array([0, 1]), r"attributes of shape \(2,\) .* of shape \[n, A\]"),
    ],
)
def test_numbers_that_would_be_others_in_32_bits_are_refused(field, values, sentence):
    with pytest.raises(UserError, match=sentence):
        Items(text("ab"), [b"", b""], **{field: values})


def test_numbers_may_be_lists_and_of_any_integer_type():
    items = Items(text("ab"), [b"", b""], label=[0, 2**31 - 1], listing=np.array([1, 2], np.uint8))
    assert items.label.dtype == items.listing.dtype == np.int32 and items.label.tolist() == [0, 2**31 - 1]
