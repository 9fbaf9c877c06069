"""Google Landmarks' mAP of predicted ids: missing queries, duplicates, none relevant; and the same from embeddings."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Retrieval, landmarks_map, top_k
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError

MAP = "map@100-over-min(r,100)"


def test_worked_example():
    found = landmarks_map({"q": list("xaxybc")}, {"q": "abcde"}, depth=6)
    assert found["map@6-over-min(r,6)"] == pytest.approx(0.28)
    assert landmarks_map({"q": list("xaxybc")}, {"q": "abcde"}, depth=2)["map@2-over-min(r,2)"] == 0.25


def test_a_missing_query_scores_zero_and_stays_and_one_without_answers_is_left_out():
    found = landmarks_map({"a": ["x"], "c": ["x"], "e": []}, {"a": {"x"}, "b": {"y"}, "c": set(), "e": {"z"}})
    assert found == {MAP: pytest.approx(1 / 3), "queries": 3, "queries_left_out": 1, "queries_missing": 2}


def test_an_item_predicted_again_is_no_hit_and_uses_up_its_rank():
    assert landmarks_map({"q": ["a", "a", "b"]}, {"q": {"a", "b"}})[MAP] == pytest.approx((1 + 2 / 3) / 2)
    assert landmarks_map({"q": ["a", "a", "b"]}, {"q": {"a", "b"}}, depth=2)["map@2-over-min(r,2)"] == 0.5


def test_embeddings_give_the_same_as_their_ranking():
    rng = np.random.default_rng(0)
    titles, ids = text(str(i) for i in rng.integers(0, 9, 40)), text(f"p{i}" for i in range(40))
    split = Embeddings(ids, rng.standard_normal((40, 4), np.float32), {"title": titles})
    figures = Retrieval("title", ks=(1,), depths=(100, 5))({"test": split}.get)
    unit = normalise(split.vectors)
    rows, _ = top_k(unit, unit, 39, exclude=np.arange(40))
    predictions = dict(zip(ids, ids[rows].tolist(), strict=True))
    title = dict(zip(ids, titles, strict=True))
    solution = {a: {b for b in ids if title[a] == title[b] and a != b} for a in ids}
    for depth in (100, 5):
        found = landmarks_map(predictions, solution, depth=depth)
        for name in (f"map@{depth}-over-min(r,{depth})", "queries", "queries_left_out"):
            assert figures[f"test/{name}"] == pytest.approx(found[name])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (({"q": ["a"]}, {"q": {"a"}}, 0), "depth=0"),
        (({"x": ["a"]}, {"q": {"a"}}, 100), "'x'"),
        (({}, {"q": set()}, 100), "none of the solution's 1 queries"),
    ],
)
def test_bad_inputs(arguments, message):
    with pytest.raises(UserError, match=message):
        landmarks_map(*arguments[:2], depth=arguments[2])
