"""Groups that are apart, groups that are not, and groups that are none."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Separation
from ssljax.types import UserError


def embeddings(vectors, groups):
    return Embeddings(text(f"{i}" for i in range(len(vectors))), vectors, {"shelf": text(groups)})


def test_groups_apart_have_an_auc_of_one_and_random_ones_of_a_half():
    rng, groups = np.random.default_rng(0), [f"g{i // 5}" for i in range(100)]
    apart = np.repeat(np.eye(20, dtype=np.float32), 5, axis=0)
    figures = Separation(relevant="shelf", name="shelf")(lambda split: embeddings(apart, groups))
    assert figures == {"test/shelf/auc": 1.0, "test/shelf/within": pytest.approx(1), "test/shelf/between": 0.0}
    random = rng.normal(size=(100, 8)).astype(np.float32)
    assert abs(Separation(relevant="shelf")(lambda split: embeddings(random, groups))["test/auc"] - 0.5) < 0.05


def test_what_cannot_be_judged_is_told_before_training():
    alone = embeddings(np.ones((3, 2), np.float32), ["a", "b", "c"])
    with pytest.raises(UserError, match=r"Separation.relevant='shelf' on split 'test': .* need a group of two items"):
        Separation(relevant="shelf").check(lambda split: alone)
    with pytest.raises(UserError, match="is not a column of the data"):
        Separation(relevant="shop").check(lambda split: alone)
    with pytest.raises(UserError, match=r"Separation\.pairs=0"):
        Separation(pairs=0)
