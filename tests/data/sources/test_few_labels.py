"""FewLabels against its source."""

import dataclasses
import itertools

import numpy as np
import pytest

from ssljax.data import FewLabels, ToyCatalogue
from ssljax.types import UserError

TOY = ToyCatalogue(listings=60)


def labelled(share: float, seed: int = 0) -> set[int]:
    """The classes that keep their labels."""
    return set(FewLabels(TOY, share, seed).load("train").label.tolist()) - {-1}


def test_all_photos_stay_and_a_class_keeps_all_its_labels_or_none():
    every, few = TOY.load("train"), FewLabels(TOY, 0.5).load("train")
    assert few.ids.tolist() == every.ids.tolist()
    np.testing.assert_array_equal(few.attributes, every.attributes)
    kept = np.isin(every.label, list(labelled(0.5)))
    np.testing.assert_array_equal(few.label, np.where(kept, every.label, -1))
    assert 0 < kept.sum() < len(every)


def test_larger_shares_hold_smaller_ones_and_seeds_differ():
    shares = [labelled(share) for share in (0.2, 0.5, 0.8, 1.0)]
    assert all(small <= large for small, large in itertools.pairwise(shares))
    assert shares[-1] == set(TOY.load("train").label.tolist())
    assert len({frozenset(labelled(0.5, seed)) for seed in range(5)}) > 1


def test_other_splits_keep_all_labels():
    np.testing.assert_array_equal(FewLabels(TOY, 0.2).load("test").label, TOY.load("test").label)


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """The toy catalogue without labels."""

    def load(self, split):
        return dataclasses.replace(TOY.load(split), label=None)


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match=r"data.share=0.0 is not a share: it must be above 0 and at most 1"):
        FewLabels(TOY, 0.0)
    with pytest.raises(UserError, match=r"FewLabels needs labels, and its source has none"):
        FewLabels(Unlabelled()).load("train")
    with pytest.raises(
        UserError, match=r"data.share=1e-09 keeps the labels of none of 12 classes: choose a larger share"
    ):
        FewLabels(TOY, 1e-9).load("train")
