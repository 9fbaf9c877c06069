"""Words of free text from neighbours, beside a loop over the definition."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings
from ssljax.evaluation.evaluators.title_words import TitleWords, predict_words
from ssljax.types import UserError

TITLES = ("Nike Men's blue Shirt", "nike men shirt, RED", "", "Puma women Shoe", "Puma shoe blue", "Bag")


def test_equals_the_loop():
    rng = np.random.default_rng(0)
    gallery, queries = rng.standard_normal((6, 3), np.float32), rng.standard_normal((4, 3), np.float32)
    for row, found in zip(
        queries, predict_words(queries, gallery, TITLES, k=3, temperature=0.2, threshold=0.3), strict=True
    ):
        cosines = gallery @ row / np.linalg.norm(gallery, axis=1) / np.linalg.norm(row)
        near = sorted((j for j in range(6) if TITLES[j]), key=lambda j: -cosines[j])[:3]
        votes = {j: np.exp(cosines[j] / 0.2) for j in near}
        shares = {}
        for j in near:
            for word in set(TITLES[j].lower().replace("'", " ").replace(",", " ").split()):
                shares[word] = shares.get(word, 0) + votes[j] / sum(votes.values())
        expected = {word: share for word, share in shares.items() if share >= 0.3}
        assert found == pytest.approx(expected, rel=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def split(titles):
    """Photos of two kinds, by the first letter."""
    x = np.array([[1, 0.1 * i] if t[:1] != "b" else [0.1 * i, -1] for i, t in enumerate(titles)], np.float32)
    return Embeddings(text(map(str, range(len(titles)))), x, {"title": text(titles)})


PARTS = {
    "train": split(["a shirt", "a shirt", "b shoe", "b shoe", ""]),
    "val": split(["a shirt", "b shoe"]),
    "test": split(["a shirt", "b boot", "", "a shirt new"]),
}
EVALUATOR = TitleWords(column="title", k=2)


def test_figures_by_hand():
    EVALUATOR.check(PARTS.get)
    figures = {n.removeprefix("test/words/title/"): v for n, v in EVALUATOR(PARTS.get).items()}
    assert figures["precision"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert figures["recall"] == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert figures["f1"] == pytest.approx((1 + 1 / 2 + 4 / 5) / 3)
    assert figures["queries"] == 3 and figures["queries_left_out"] == 1
    assert figures["frequent_f1"] < figures["f1"]


@pytest.mark.parametrize("which", ["train", "val", "test"])
def test_blank_columns(which):
    blank = split([""] * 4)
    with pytest.raises(UserError, match=f"'title' is blank in all items of split '{which}'"):
        EVALUATOR.check((PARTS | {which: blank}).get)


def test_mistakes():
    x = np.ones((2, 2))
    for change, sentence in (
        ({"k": 0}, "k=0"),
        ({"temperature": 0}, "temperature=0"),
        ({"threshold": 0}, "threshold=0"),
        ({"texts": ["a"]}, "there are 1 for a gallery of 2"),
        ({"texts": ["", " "]}, "all 2 of the gallery's are blank"),
        ({"queries": np.ones((1, 3))}, "queries have 3 dimensions"),
    ):
        with pytest.raises(UserError, match=sentence):
            predict_words(**({"queries": x, "gallery": x, "texts": ["a", "b"]} | change))
    with pytest.raises(UserError, match="did you mean 'title'"):
        TitleWords(column="Titel").check(PARTS.get)
    for wrong, sentence in (({"k": 0}, r"TitleWords\.k=0"), ({"gallery": "test"}, "vote for itself")):
        with pytest.raises(UserError, match=sentence):
            TitleWords(**({"column": "title"} | wrong))
