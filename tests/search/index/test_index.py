"""Both kinds of index: the right answer or one clear sentence, and what is saved is what is opened."""

import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssljax.data.atomic_files import save_folder
from ssljax.search import Exact, ScaNN, open_index
from ssljax.types import UserError

# every way that ScaNN searches, forced on few items; all leaves of the tree, so that nothing is missed by chance
BUILDERS = [Exact(), ScaNN(), ScaNN(reorder=20), ScaNN(leaves=7, leaves_to_search=7, reorder=20)]


@pytest.fixture(params=BUILDERS, ids=["exact", "brute", "quantised", "tree"])
def builder(request):
    if isinstance(request.param, ScaNN):
        pytest.importorskip("scann")
    return request.param


def catalogue(n=60, dim=6):
    x = np.random.default_rng(0).standard_normal((n, dim), np.float32)
    return [f"item {i}" for i in range(n)], x * np.arange(1, n + 1, dtype=np.float32)[:, None]


def cosines(queries, vectors):
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, vectors)]
    return unit[0] @ unit[1].T


def test_nearest_by_cosine_whatever_the_length(builder):
    ids, vectors = catalogue()
    found, scores = builder.build(ids, vectors).search(vectors[:9] * 3, 1)
    assert found.tolist() == [[i] for i in ids[:9]] and found.shape == scores.shape == (9, 1)
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_all_items_are_found_in_order_if_asked_for(builder):
    ids, vectors = catalogue()
    index = builder.build(ids, vectors)
    for k in (60, 61, 1000):
        found, scores = index.search(vectors[:3], k)
        assert found.shape == scores.shape == (3, 60) and scores.dtype == np.float32
        expected = cosines(vectors[:3], vectors)
        for row in range(3):
            assert sorted(found[row]) == sorted(ids)
            np.testing.assert_allclose(scores[row], np.sort(expected[row])[::-1], atol=1e-5)
            np.testing.assert_allclose(scores[row], [expected[row, ids.index(i)] for i in found[row]], atol=1e-5)


def test_more_leaves_are_searched_if_those_asked_for_hold_too_few():
    pytest.importorskip("scann")
    ids, vectors = catalogue()
    index = ScaNN(leaves=7, leaves_to_search=1, reorder=20).build(ids, vectors)
    found, scores = index.search(vectors, 55)
    assert all(len(set(row)) == 55 for row in found) and np.isfinite(scores).all()


def test_ties_and_zero_vectors(builder):
    vectors = np.ones((30, 4), np.float32)
    vectors[20:] = 0
    found, scores = builder.build([str(i) for i in range(30)], vectors).search(vectors[[0, 20]], 30)
    np.testing.assert_allclose(scores[0], [1] * 20 + [0] * 10, atol=1e-6)
    np.testing.assert_allclose(scores[1], 0, atol=1e-6)
    assert {int(i) for i in found[0, :20]} == set(range(20))


def test_one_item(builder):
    found, scores = builder.build(["only"], np.ones((1, 3))).search(-np.ones((2, 3)), 5)
    assert found.tolist() == [["only"], ["only"]]
    np.testing.assert_allclose(scores, -1, atol=1e-6)


def test_no_queries(builder):
    found, scores = builder.build(*catalogue()).search(np.empty((0, 6)), 4)
    assert found.shape == scores.shape == (0, 4)


@pytest.mark.parametrize("queries", [np.ones(6), np.ones((2, 5)), np.full((2, 6), np.nan), np.full((2, 6), 1e300)])
def test_bad_queries(builder, queries):
    index = builder.build(*catalogue())
    with pytest.raises(UserError, match="queries"):
        index.search(queries, 3)
    assert index.search(np.ones((1, 6)), 3)[0].shape == (1, 3)


@pytest.mark.parametrize("k", [0, -1, 1.5, None, "3"])
def test_bad_k(builder, k):
    with pytest.raises(UserError, match="k="):
        builder.build(*catalogue()).search(np.ones((1, 6)), k)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite(builder, value):
    ids, vectors = catalogue()
    vectors[7, 2] = value
    with pytest.raises(UserError, match="row 7"):
        builder.build(ids, vectors)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["a", "b", "a"], "'a' comes more than once"),
        (["a", "b"], "2 ids and 3 vectors"),
        (["a", "", "b"], "blank"),
        ([1.5, 2, 3], "id 1.5 "),
        ([True, 2, 3], "id True "),
    ],
)
def test_bad_ids(builder, ids, says):
    with pytest.raises(UserError, match=says):
        builder.build(ids, np.ones((3, 2)))


def test_an_index_may_begin_empty(builder):
    ids, vectors = catalogue()
    index = builder.build([], vectors[:0])
    assert index.search(vectors[:2], 3)[0].shape == (2, 0) and len(index) == 0
    with pytest.raises(UserError, match="5 dimensions"):
        index.add(ids[:2], vectors[:2, :5])
    index.add(ids, vectors)
    assert index.search(vectors[:2], 1)[0].tolist() == [["item 0"], ["item 1"]]


def test_other_types_are_cast_and_the_callers_array_is_kept(builder):
    ids, vectors = catalogue()
    double = vectors.astype(np.float64)
    index = builder.build(np.array(ids), double)
    np.testing.assert_array_equal(double, vectors)
    assert index.search(double[:2], 1)[0].tolist() == [["item 0"], ["item 1"]]


def test_a_saved_index_is_moved_opened_and_replaced(builder, tmp_path):
    ids, vectors = catalogue()
    index = builder.build(["nul\0", "é漢", *ids[2:]], vectors)
    index.save(tmp_path / "index")
    builder.build(ids[:20], vectors[:20]).save(tmp_path / "index")
    index.save(tmp_path / "index")
    moved = open_index((tmp_path / "index").rename(tmp_path / "moved"))
    assert type(moved) is type(index) and moved.stats == index.stats and len(moved) == 60
    for mine, theirs in zip(index.search(vectors[:5], 30), moved.search(vectors[:5], 30), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    moved.save(tmp_path / "copy")
    assert open_index(tmp_path / "copy").search(vectors[:1], 1)[0].tolist() == [["nul\0"]]


def test_no_pickle_is_written(builder, tmp_path):
    builder.build(*catalogue()).save(tmp_path)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} <= {".json", ".npy", ".pb", ".pbtxt"}


def test_damage_is_refused_before_anything_reads_it(builder, tmp_path):
    builder.build(*catalogue()).save(tmp_path)
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b"x", whole + b"x"):
            path.write_bytes(damaged)
            with pytest.raises(UserError):
                open_index(tmp_path)
        path.write_bytes(whole)
    assert len(open_index(tmp_path)) == 60


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True), st.sampled_from([1, 5, 50]), st.integers(0, 99)
)
def test_any_text_is_an_id_and_every_answer_is_the_sorted_one(tmp_path_factory, ids, k, seed):
    vectors = np.random.default_rng(seed).standard_normal((len(ids), 3))
    for builder in (Exact(), ScaNN()) if sys.platform == "linux" else (Exact(),):
        folder = tmp_path_factory.mktemp("index")
        builder.build(ids, vectors).save(folder)
        found, scores = open_index(folder).search(vectors[:2], k)
        expected = cosines(vectors[:2], vectors)
        for row in range(len(found)):
            np.testing.assert_allclose(scores[row], np.sort(expected[row])[::-1][:k], atol=1e-5)
            assert len(set(found[row])) == min(k, len(ids)) and set(found[row]) <= set(ids)


def test_settings_follow_the_number_of_items():
    assert ScaNN().chosen(1_000) == ScaNN()
    assert ScaNN().chosen(50_000) == ScaNN(reorder=200)
    assert ScaNN(leaves=4, reorder=9).chosen(15) == ScaNN()
    assert ScaNN().chosen(250_000) == ScaNN(leaves=500, leaves_to_search=50, reorder=200)
    assert ScaNN(leaves=4, leaves_to_search=9).chosen(16) == ScaNN(leaves=4, leaves_to_search=4, reorder=200)


def test_bad_settings():
    pytest.importorskip("scann")
    ids, vectors = catalogue()
    with pytest.raises(UserError, match=r"ScaNN\.leaves=61 is more than the 60 items: try 8"):
        ScaNN(leaves=61).build(ids, vectors)
    assert ScaNN(leaves=61).chosen(25).leaves == 5  # shrunk since
    with pytest.raises(UserError, match=r"ScaNN\.reorder=0"):
        ScaNN(reorder=0)
    with pytest.raises(UserError, match=r"ScaNN\.metric='cos'"):
        ScaNN("cos")
    with pytest.raises(UserError, match=r"ScaNN\.soar=True needs"):
        ScaNN("l2", soar=True)
    with pytest.raises(UserError, match=r"Exact\.devices=99: jax has 8"):
        Exact(devices=99).build(ids, vectors)


def test_without_scann_the_exact_index_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(UserError, match=r"Exact\(\)"):
        ScaNN().build(["a"], np.ones((1, 2)))


@pytest.mark.parametrize(
    "facts",
    [
        {"settings": 1},
        {"settings": {"metric": 1}},
        {"settings": {"none": 1}},
        {"kind": []},
        {"kind": None},
        {"schema": []},
    ],
)
def test_facts_of_another_shape_are_refused(facts, tmp_path):
    index = Exact().build(["a"], np.ones((1, 2)))
    save_folder(tmp_path / "index", index.facts | facts, index.write)
    with pytest.raises(UserError):
        open_index(tmp_path / "index")


def test_ids_and_vectors_that_do_not_fit_are_refused(tmp_path):
    index = Exact().build(["a", "b"], np.ones((2, 2)))

    def write(data, ids, vectors):
        index.write(data)
        (data / "ids.json").write_text(json.dumps(ids))
        np.save(data / "vectors.npy", vectors)

    good = {"main": ["a", "b"], "tail": []}
    for ids, vectors in (
        (good, np.ones((3, 2))),
        (good, np.ones(2)),
        (good, np.full((2, 2), np.nan)),
        ({"main": ["a", ["b"]], "tail": []}, np.ones((2, 2))),
        ([], np.ones((2, 2))),
    ):
        save_folder(tmp_path / "index", index.facts, functools.partial(write, ids=ids, vectors=vectors))
        with pytest.raises(UserError):
            open_index(tmp_path / "index")


def test_an_index_of_a_kind_to_come_is_told(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Future(Exact):
        """Not yet known."""

    Future().build(["a"], np.ones((1, 2))).save(tmp_path)
    with pytest.raises(UserError, match=r"'Future'.*Exact, ScaNN, Faiss"):
        open_index(tmp_path)
