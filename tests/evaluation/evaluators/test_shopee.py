"""The figures of Shopee's price match, by thresholds from the other split."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, ShopeeF1
from ssljax.types import UserError


def split(titles, angles):
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Embeddings(text(str(i) for i in range(len(titles))), vectors, {"title": text(titles)})


def test_the_threshold_comes_from_the_other_split():
    splits = {
        "val": split(list("aab"), np.array([0, 0.1, 1.0])),
        "test": split(list("ccddx"), np.array([0, 0.05, 1.0, 1.7, 3.0])),
    }
    figures = ShopeeF1("title", name="n")(splits.get)
    assert figures["test/n/threshold"] == pytest.approx((np.cos(0.1) + np.cos(0.9)) / 2, abs=1e-6)
    assert figures["test/n/calibrated-row-f1"] == 1 and figures["test/n/queries"] == 5
    assert figures["test/n/row-f1"] == pytest.approx((1 + 1 + 2 / 3 + 2 / 3 + 1) / 5)


def test_bad_inputs():
    pair = split(list("aab"), np.arange(3.0))
    with pytest.raises(UserError, match="shares 2 products with split 'test'"):
        ShopeeF1("title").check({"val": pair, "test": pair}.get)
    with pytest.raises(UserError, match="'test'"):
        ShopeeF1("title").check({"val": pair, "test": split(list("xyz"), np.arange(3.0))}.get)
    with pytest.raises(UserError, match=r"ShopeeF1\.relevant='Title' is not a column"):
        ShopeeF1("Title").check({"val": pair, "test": pair}.get)
    with pytest.raises(UserError, match=r"ShopeeF1\.most=1"):
        ShopeeF1(most=1)
    with pytest.raises(UserError, match=r"ShopeeF1\.split"):
        ShopeeF1(calibrate="test")


def test_each_step_reports_its_figure_with_thresholds_of_the_other_split():
    rng = np.random.default_rng(0)

    def noisy(prefix):
        centers = rng.standard_normal((50, 32))[np.arange(300) // 6]
        vectors = (centers + 0.9 * rng.standard_normal((300, 32))).astype(np.float32)
        titles = text(f"{prefix}{k // 6}" for k in range(300))
        return Embeddings(text(map(str, range(300))), vectors, {"title": titles})

    splits = {"val": noisy("a"), "test": noisy("b")}
    plain, figures = ShopeeF1("title")(splits.get), ShopeeF1("title", steps=True)(splits.get)
    assert plain.items() <= figures.items()
    assert figures["test/row-f1"] <= figures["test/best-row-f1"]
    assert figures["test/min2-loose"] <= figures["test/min2-threshold"]
    assert 1 <= figures["test/blending-stages"] <= 3
    assert figures["test/blending-row-f1"] > figures["test/row-f1"]
