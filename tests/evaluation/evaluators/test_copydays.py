"""Copydays: blocks from the names, distractors, and the figures against the loop."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Copydays, Embeddings
from ssljax.types import UserError


def made(seed):
    rng = np.random.default_rng(seed)
    originals = [f"original/{2000 + i}00.jpg" for i in range(5)] + ["yfcc/a.jpg", "yfcc/b.jpg"]
    strong = [f"strong/{2000 + i % 6}{1 + i:02d}.jpg" for i in range(9)]  # of block 2005 there is no original
    return {
        "original": Embeddings(text(originals), rng.standard_normal((7, 3), np.float32)),
        "strong": Embeddings(text(strong), rng.standard_normal((9, 3), np.float32)),
    }


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(seed, monkeypatch):
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 16)  # a few queries at a time
    splits = made(seed)
    gallery = splits["original"].vectors / np.linalg.norm(splits["original"].vectors, axis=1, keepdims=True)
    scores = []
    for name, query in zip(splits["strong"].ids, splits["strong"].vectors, strict=True):
        ranking = [splits["original"].ids[j].split("/")[1][:4] for j in np.argsort(-(gallery @ query))]
        block = name.split("/")[1][:4]
        if block in ranking:
            rank = ranking.index(block)  # one original a block: (0 / rank + 1 / (rank + 1)) / 2
            scores.append(1.0 if rank == 0 else 1 / (rank + 1) / 2)
    figures = Copydays()(splits.get)
    assert figures["strong/trapezoid-map-over-r"] == pytest.approx(np.mean(scores))
    assert figures["strong/cmc@1"] == pytest.approx(np.mean(np.array(scores) == 1))
    assert figures["strong/queries"] == 8 and figures["strong/queries_left_out"] == 1


def test_a_column_may_say_the_block():
    one = np.eye(2, dtype=np.float32)
    splits = {
        "original": Embeddings(text("ab"), one, {"photo": text(["x", "y"])}),
        "strong": Embeddings(text("cd"), one, {"photo": text(["X", "x"])}),
    }
    figures = Copydays(block="photo", name="n")(splits.get)
    assert figures["strong/n/trapezoid-map-over-r"] == pytest.approx((1 + 1 / 4) / 2)
    with pytest.raises(UserError, match=r"Copydays\.block='Photo' is not a column"):
        Copydays(block="Photo").check(splits.get)


def test_bad_inputs():
    splits = {"original": made(0)["original"], "strong": Embeddings(text(["9.jpg"]), np.ones((1, 3), np.float32))}
    with pytest.raises(UserError, match="no item of split 'strong' has its original in 'original'"):
        Copydays().check(splits.get)
    with pytest.raises(UserError, match=r"Copydays\.gallery"):
        Copydays(gallery="strong")
