"""What Retrieval takes for relevant, what it calls its figures, and what it says when asked for the impossible."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Retrieval, relevance
from ssljax.types import UserError


def embeddings(titles, colours=None, **fields):
    n = len(titles)
    columns = {"title": text(titles), "colour": text(colours or [""] * n)}
    vectors = np.random.default_rng(n).standard_normal((n, 4), np.float32)
    return Embeddings(text(str(i) for i in range(n)), vectors, columns, **fields)


def test_text_is_compared_without_case_and_outer_blanks_and_a_blank_is_like_nothing():
    a = embeddings(["Red Shirt", " red shirt\n", "RED  SHIRT", "", " ", "ß", "SS"])
    assert relevance(("title",), a)[0].tolist() == [0, 0, 1, -1, -1, 2, 2]


def test_neither_the_form_of_accents_nor_blanks_without_width_make_a_difference():
    a = embeddings(["Caf\u00e9", "cafe\u0301", "\ufeffCaf\u00e9\u200b", "\u200b"])
    assert relevance(("title",), a)[0].tolist() == [0, 0, 0, -1]


def test_several_columns_must_all_agree():
    a = embeddings(["x", "x", "x", "y", "x"], ["red", "blue", "Red", "red", ""])
    assert relevance(("title", "colour"), a)[0].tolist() == [0, 1, 0, 2, -1]


def test_splits_share_their_numbers():
    first, second = relevance(("title",), embeddings(["a", "b"]), embeddings(["b", "c", "a"]))
    assert first.tolist() == [0, 1] and second.tolist() == [1, 2, 0]


def test_label_and_listing_are_columns_first_and_then_fields():
    own = embeddings(["a", "b", "c"], label=np.array([4, -1, 4], np.int32), listing=np.array([1, 1, 2], np.int32))
    assert Retrieval("label").groups(own).tolist() == [0, -1, 0]
    assert Retrieval("listing").groups(own).tolist() == [0, 0, 1]
    assert Retrieval(("label", "listing")).groups(own).tolist() == [0, -1, 1]
    own.columns["label"] = text(["x", "y", "Y"])
    assert Retrieval("label").groups(own).tolist() == [0, 1, 1]


def test_figures_carry_split_and_name():
    splits = {"test": embeddings(["a", "a", "b"])}
    figures = Retrieval("title", ks=(1, 2), caps=(7,))(splits.get)
    assert figures["test/cmc@2"] == 1.0 and figures["test/queries"] == 2 and figures["test/queries_left_out"] == 1
    assert list(figures) == [
        *("test/cmc@1", "test/cmc@2", "test/p@2", "test/r-precision", "test/map@r", "test/map@min(r,7)"),
        *("test/queries", "test/queries_left_out"),
    ]
    assert "test/style/map@r" in Retrieval("title", name="style")(splits.get)


def test_lengths_of_vectors_do_not_matter():
    split = embeddings(list("aabbccdd"))
    longer = Embeddings(split.ids, split.vectors * np.arange(1, 9, dtype=np.float32)[:, None], split.columns)
    assert Retrieval("title")({"test": split}.get) == pytest.approx(Retrieval("title")({"test": longer}.get))


def test_a_query_finds_itself_only_in_another_split():
    split = embeddings(["a", "b", "c"])
    figures = Retrieval("title", gallery="train")({"test": split, "train": split}.get)
    assert figures["test/cmc@1"] == figures["test/map@r"] == 1.0
    for gallery in (None, "test"):
        with pytest.raises(UserError, match=r"Retrieval\.relevant='title'.*'test'.*none of the 3 queries"):
            Retrieval("title", gallery=gallery)({"test": split}.get)


def test_a_missing_column_names_those_there_are():
    split = embeddings(["a", "a"], label=np.zeros(2, np.int32))
    with pytest.raises(UserError, match=r"relevant='Title'.*title, colour, label"):
        Retrieval("Title")({"test": split}.get)
    with pytest.raises(UserError, match="relevant='listing'"):
        Retrieval()({"test": split}.get)


def test_dimensions_must_agree():
    other = Embeddings(text("a"), np.ones((1, 3), np.float32), {"title": text("a")})
    with pytest.raises(UserError, match="dimensions"):
        Retrieval("title", gallery="train")({"test": embeddings(["a"]), "train": other}.get)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"ks": ()}, {"ks": (0,)}, {"caps": (0,)}, {"depths": (0,)}, {"recalls": (0,)}, {"relevant": ()}),
        *({"relevant": ""}, {"interval": 0.0}, {"interval": 1.0}, {"interval": 95}),
    ],
)
def test_bad_fields(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Retrieval(**wrong)


def test_meaning_reads_as_english():
    assert Retrieval().meaning == "of the same listing"
    assert Retrieval(("a", "b", "c")).meaning == "of the same a, b and c"


def test_a_breakdown_is_what_the_queries_of_each_value_score():
    split = embeddings(list("aabbccde"), ["red", "Red ", "blue", "red", "", "", "blue", "red"])
    retrieval = Retrieval("title", ks=(1,), by="colour", name="n")
    figures, found = retrieval({"test": split}.get), retrieval.per_query({"test": split}.get)
    assert found.ids.tolist() == list("012345")
    parts = {"red": [0, 1, 3], "blue": [2], "(blank)": [4, 5]}
    for value, rows in parts.items():
        assert figures[f"test/n/colour={value}/queries"] == len(rows)
        for name, values in found.figures.items():
            assert figures[f"test/n/colour={value}/{name}"] == pytest.approx(values[rows].mean())
    assert len([name for name in figures if name.endswith("map@r")]) == 4
    assert {k: v for k, v in figures.items() if "colour" not in k} == Retrieval("title", ks=(1,), name="n")(
        {"test": split}.get
    )


def test_a_column_of_too_many_values_is_refused_before_training():
    split = embeddings([str(i // 2) for i in range(202)])
    with pytest.raises(UserError, match=r"Retrieval\.by='title' has 101 values"):
        Retrieval("title", by="title").check({"test": split}.get)
    with pytest.raises(UserError, match=r"Retrieval\.by='Colour' is not a column"):
        Retrieval("title", by="Colour").check({"test": split}.get)


def test_intervals_hold_the_mean_and_come_only_if_asked_for():
    split = embeddings([str(i // 3) for i in range(60)], ["x"] * 57 + ["y"] * 3)
    figures = Retrieval("title", ks=(1, 5), interval=0.9, by="colour")({"test": split}.get)
    for name in ("cmc@5", "p@5", "map@r"):
        assert 0 <= figures[f"test/{name}-low"] < figures[f"test/{name}"] < figures[f"test/{name}-high"] <= 1
    assert "test/colour=x/map@r-low" in figures and "test/queries-low" not in figures
    assert "test/colour=y/map@r" in figures and "test/colour=y/map@r-low" not in figures  # one group
    assert not [name for name in Retrieval("title")({"test": split}.get) if name.endswith(("-low", "-high"))]
