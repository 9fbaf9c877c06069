"""Additions and removals: whatever is done in whatever order, an index is what a dictionary would be."""

import importlib.util
import json
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ssljax.search import Exact, Faiss, ScaNN, open_index
from ssljax.search.index import base
from ssljax.search.index.state import State
from ssljax.types import UserError

DIM = 4
IDS = st.one_of(st.text(min_size=1, max_size=3), st.integers(-(2**70), 2**70), st.sampled_from(["1", 1, "-1", -1]))

BAD = ["nan", "inf", "wide", "flat", "twice", "blank", "type", "lengths", "unknown", "k", "query"]


def true_scores(query, vectors, metric):
    """As float64, the larger the better."""
    q, x = np.asarray(query, np.float64), np.asarray(vectors, np.float64)
    if metric == "l2":
        return -((q - x) ** 2).sum(axis=1)
    if metric == "cosine":
        q, x = q / max(np.linalg.norm(q), 1e-12), x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return x @ q


def vectors_from(seed, n):
    """Coarse values: many are equal, and some zero."""
    return np.random.default_rng(seed).integers(-2, 3, (n, DIM)).astype(np.float32)


class Machine(RuleBasedStateMachine):
    """Random calls against a dictionary. `complete`: what it finds must be the best, not only right."""

    builder, complete = Exact(), True

    def __init__(self):
        super().__init__()
        self.model = {}

    @initialize(n=st.integers(0, 90), seed=st.integers(0, 999))
    def build(self, n, seed):
        ids, vectors = [f"first {i}" for i in range(n)], vectors_from(seed, n)
        self.index, self.model = self.builder.build(ids, vectors), dict(zip(ids, vectors, strict=True))

    def known(self, data, **sizes):
        ids = list(self.model)
        places = data.draw(st.lists(st.integers(0, len(ids) - 1), unique=True, **sizes)) if ids else []
        return [ids[place] for place in places]

    @rule(ids=st.lists(IDS, unique=True, max_size=8), seed=st.integers(0, 999), replace=st.booleans(), data=st.data())
    def add(self, ids, seed, replace, data):
        ids = [*ids, *(i for i in self.known(data, max_size=2) if i not in ids)] if replace else ids
        vectors = vectors_from(seed, len(ids))
        if not replace and any(i in self.model for i in ids):
            with pytest.raises(UserError, match="already"):
                self.index.add(ids, vectors)
            return
        self.index.add(ids, vectors, replace=replace)
        for i, x in zip(ids, vectors, strict=True):
            self.model.pop(i, None)
            self.model[i] = x

    @rule(data=st.data())
    def remove(self, data):
        ids = self.known(data, max_size=10)
        self.index.remove(ids)
        for i in ids:
            del self.model[i]

    @rule()
    def remove_all(self):
        if len(self.model) < 12:
            self.index.remove(list(self.model))
            self.model = {}

    @rule()
    def rebalance(self):
        self.index.rebalance()

    @rule()
    def save_and_open(self):
        with tempfile.TemporaryDirectory() as folder:
            self.index.save(folder)
            self.index.save(folder)
            self.index = open_index(folder)

    @rule(
        bad=st.sampled_from(
            ["nan", "inf", "wide", "flat", "twice", "blank", "type", "lengths", "unknown", "k", "query"]
        ),
        data=st.data(),
    )
    def bad_call(self, bad, data):
        before, good = self.index._state, np.ones((2, DIM))
        ids = ["bad 1", "bad 2"]
        calls = {
            "nan": lambda: self.index.add(ids, np.full((2, DIM), np.nan)),
            "inf": lambda: self.index.add(ids, np.float64([[1e300] * DIM, [0] * DIM])),
            "wide": lambda: self.index.add(ids, np.ones((2, DIM + 1))),
            "flat": lambda: self.index.add(ids, np.ones(DIM)),
            "twice": lambda: self.index.add(["bad", "bad"], good),
            "blank": lambda: self.index.add(["bad", ""], good),
            "type": lambda: self.index.add(["bad", None], good),
            "lengths": lambda: self.index.add(["bad"], good),
            "unknown": lambda: self.index.remove([*self.known(data, max_size=2), "bad"]),
            "k": lambda: self.index.search(good, 0),
            "query": lambda: self.index.search(np.full((1, DIM), np.inf), 1),
        }
        with pytest.raises(UserError):
            calls[bad]()
        assert self.index._state is before and "bad" not in self.index

    @rule(seed=st.integers(0, 999), k=st.sampled_from([1, 3, 50, 1000]))
    def search(self, seed, k):
        metric, queries = self.builder.metric, vectors_from(seed, 3)
        found, scores = self.index.search(queries, k)
        assert found.shape == scores.shape == (3, min(k, len(self.model)))
        if not self.model:
            return
        for query, row, row_scores in zip(queries, found, -scores if metric == "l2" else scores, strict=True):
            assert all(type(i) in (str, int) and i in self.model for i in row) and len(set(row)) == len(row)
            mine = true_scores(query, [self.model[i] for i in row], metric)
            np.testing.assert_allclose(row_scores, mine, atol=1e-5)
            assert (np.diff(row_scores) <= 0).all()
            if self.complete:
                best = np.sort(true_scores(query, list(self.model.values()), metric))[::-1][: len(row)]
                np.testing.assert_allclose(row_scores, best, atol=1e-5)

    @invariant()
    def nothing_is_lost(self):
        if hasattr(self, "index"):
            assert len(self.index) == self.index.stats["items"] == len(self.model)
            assert set(self.index._row_of) == set(self.model)
            found = self.index.vectors_of(list(self.model))
            if self.model and self.builder.metric != "cosine":
                np.testing.assert_array_equal(found, list(self.model.values()))


TREE = dict(leaves=4, leaves_to_search=1, reorder=20)
PROFILES = {
    "exact": (Exact(), True),
    "exact, dot": (Exact("dot"), True),
    "exact, l2": (Exact("l2"), True),
    "scann": (ScaNN(), True),
    "scann, l2": (ScaNN("l2"), True),
    "scann, quantised": (ScaNN("dot", reorder=5), False),
    "scann, tree": (ScaNN(**TREE), False),
    "scann, tree, l2": (ScaNN("l2", **TREE), False),
    "scann, soar": (ScaNN("dot", **TREE, soar=True), False),
    "faiss": (Faiss("l2"), True),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_any_calls_do_what_they_do_to_a_dictionary(profile, monkeypatch):
    builder, complete = PROFILES[profile]
    if not isinstance(builder, Exact):
        pytest.importorskip(type(builder).__name__.lower())
    monkeypatch.setattr(State, "is_due", False)  # rebuilt by a rule: the example decides when
    machine = type("Machine", (Machine,), {"builder": builder, "complete": complete})
    checks = settings(
        max_examples=25 if complete else 8,  # training a quantiser takes a moment
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=checks)


def some(n, dim=8):
    x = np.random.default_rng(0).standard_normal((n, dim), np.float32)
    return list(range(n)), x


@pytest.mark.parametrize("devices, device_mib", [(1, None), (3, None), (8, None), (1, 1), (3, 1)])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_parts_on_devices_and_on_the_host_give_one_answer(devices, device_mib, metric):
    ids, vectors = some(30_011 if device_mib else 301, dim=16)
    vectors[7] = vectors[-1]  # equal, and the first comes first
    found, scores = Exact(metric, devices, device_mib).build(ids, vectors).search(vectors[-3:], 12)
    expected = Exact(metric).build(ids, vectors).search(vectors[-3:], 12)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)
    if metric == "l2":
        assert found[-1, :2].tolist() == [7, ids[-1]]


def test_nearest_by_distance_though_all_are_far_from_the_origin():
    ids, vectors = some(200)
    found, scores = Exact("l2").build(ids, vectors + 1000).search(vectors[:20] + 1000, 2)
    best = np.argsort(((vectors[:20, None] - vectors[None]) ** 2).sum(axis=2), axis=1)
    np.testing.assert_array_equal(found, best[:, :2])
    np.testing.assert_array_equal(scores[:, 0], 0)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_vectors_whose_products_leave_float32_are_refused(metric):
    with pytest.raises(UserError, match=r"longer than 1e\+18"):
        Exact(metric).build(["a"], np.full((1, 2), 1e30))
    Exact().build(["a"], np.full((1, 2), 1e30))


def test_ids_come_back_as_they_were_given(tmp_path):
    ids = np.array([3, -1, 2], np.int32)
    index = Exact().build(ids, np.eye(3))
    index.add(np.array(["3"]), [[1, 1, 1]])
    index.save(tmp_path)
    found = open_index(tmp_path).search(np.eye(3), 1)[0]
    assert found.ravel().tolist() == [3, -1, 2] and all(type(i) is int for i in found.ravel())
    assert 3 in index and "3" in index and "2" not in index and True not in index and [1] not in index


def test_new_items_unlike_all_others_are_found_at_once_and_after_rebalancing():
    pytest.importorskip("scann")
    rng, n = np.random.default_rng(0), 3000
    old = rng.standard_normal((20, 16))[rng.integers(0, 20, n)] + 0.1 * rng.standard_normal((n, 16))
    new = 5 + rng.standard_normal((500, 16))
    index = ScaNN("l2", leaves=20, leaves_to_search=4, reorder=100).build([f"old {i}" for i in range(n)], old)
    index.add([f"new {i}" for i in range(500)], new)
    queries = new[:100] + 0.01
    exact = Exact("l2").build([f"new {i}" for i in range(500)], new).search(queries, 10)[0]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(index.search(queries, 10)[0], exact, strict=True)]) == 1
    assert index.stats["in_tail"] == 500
    index.rebalance()
    assert index.stats["in_tail"] == 0 and index.stats["drift"] == 0
    found = index.search(queries, 10)[0]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]) > 0.9


def test_quantised_search_finds_nearly_all():
    pytest.importorskip("scann")
    rng, n = np.random.default_rng(0), 5000
    x = rng.standard_normal((50, 32))[rng.integers(0, 50, n)] + 0.5 * rng.standard_normal((n, 32))
    exact = Exact().build(range(n), x).search(x[:200], 10)[0]
    for builder in (ScaNN(reorder=100), ScaNN(leaves=50, leaves_to_search=10, reorder=100, soar=True)):
        found = builder.build(range(n), x).search(x[:200], 10)[0]
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]) > 0.95


def test_much_change_is_rebuilt_in_the_background():
    ids, vectors = some(4000)
    index = Exact().build(ids[:2000], vectors[:2000])
    index.add(ids[2000:], vectors[2000:])
    index.remove(ids[:500])
    wait_until(lambda: not index.stats["rebuilding"] and index.stats["in_tail"] == 0)
    assert len(index) == 3500 and index.search(vectors[600:603], 1)[0].ravel().tolist() == [600, 601, 602]


def wait_until(true):
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


class Slow(Exact):
    """Builds when it is told to."""

    go = threading.Event()

    def structure(self, vectors):
        """See Exact."""
        self.go.wait(20)
        return super().structure(vectors)


def test_changes_and_searches_go_on_while_a_structure_is_built():
    ids, vectors = some(60)
    Slow.go.set()
    index = Slow("dot").build(ids[:40], vectors[:40])
    index.add(ids[40:45], vectors[40:45])
    index.remove([0])
    Slow.go.clear()
    rebuild = threading.Thread(target=index.rebalance)
    rebuild.start()
    wait_until(lambda: index.stats["rebuilding"])
    index.add([0, *ids[45:]], vectors[[0, *range(45, 60)]])
    index.remove([1, 41, 46])
    index.add([2, 42], -vectors[[2, 42]], replace=True)
    expected = index.search(vectors, 57)
    Slow.go.set()
    rebuild.join()
    assert index.stats["removed"] == 4 and len(index) == 57 and index.stats["in_tail"] == 17
    found = index.search(vectors, 57)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)  # products of other shapes round otherwise
    index.remove([0, 2, 3])
    index.add([1], vectors[[1]])
    np.testing.assert_array_equal(index.vectors_of([1, 42]), [vectors[1], -vectors[42]])


def test_a_rebuild_that_fails_is_told_and_changes_nothing(monkeypatch):
    ids, vectors = some(2500)
    index = Exact().build(ids[:100], vectors[:100])

    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(Exact, "structure", fail)
    index.add(ids[100:], vectors[100:])
    wait_until(lambda: index.stats["failure"])
    assert index.stats["failure"] == "MemoryError: no room" and len(index) == 2500
    assert index.search(vectors[2400:2401], 1)[0] == 2400
    with pytest.raises(MemoryError):
        index.rebalance()
    monkeypatch.undo()
    index.rebalance()
    assert index.stats["failure"] is None and index.stats["in_tail"] == 0


def test_a_search_sees_all_of_a_change_or_nothing():
    """A writer moves two items together; no search may see one here and the other there."""
    ids, vectors = some(1500, dim=4)
    here, there = np.float32([[9, 0, 0, 0]] * 2), np.float32([[0, 9, 0, 0]] * 2)
    index = Exact("dot").build([*ids, "a", "b"], np.concatenate([vectors, here]))
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            found, scores = index.search(np.float32([[1, 0, 0, 0], [0, 1, 0, 0]]), 2)
            both = [{"a", "b"} == set(row) for row in found]
            if sorted(both) != [False, True] or not (scores[both] == 9).all():
                wrong.append((found, scores))

    searchers = [threading.Thread(target=search) for _ in range(3)]
    for thread in searchers:
        thread.start()
    for k in range(60):
        index.add(["a", "b"], here if k % 2 else there, replace=True)
        if k % 10 == 0:
            index.rebalance()
    stop.set()
    for thread in searchers:
        thread.join()
    assert not wrong


def test_threads_that_change_an_index_take_turns():
    index = Exact().build([], np.empty((0, 8)))
    _, vectors = some(400)

    def add(writer):
        for k in range(50):
            index.add([f"{writer} {k}"], vectors[[50 * writer + k]])
            if k % 5 == 4:
                index.remove([f"{writer} {k}"])

    writers = [threading.Thread(target=add, args=(writer,)) for writer in range(8)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert len(index) == 8 * 40
    found = index.search(vectors, 1)[0].ravel()
    assert all(found[50 * w + k] == f"{w} {k}" for w in range(8) for k in range(50) if k % 5 != 4)


@pytest.mark.parametrize("builder", [Exact(), ScaNN()], ids=["exact", "scann"])
def test_a_full_disk_leaves_the_saved_index(builder, tmp_path):
    if builder == ScaNN():
        pytest.importorskip("scann")
    ids, vectors = some(2000)
    index = builder.build(ids[:50], vectors[:50])
    index.save(tmp_path)
    large = builder.build(ids, vectors)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(Exception, match=r"File too large|\d+ requested|[Ww]rit"):
            large.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(open_index(tmp_path)) == 50 and len(list(tmp_path.iterdir())) == 2
    large.save(tmp_path)
    assert len(open_index(tmp_path)) == 2000


def _save_again_and_again(folder, first):
    ids, vectors = some(300)
    index = Exact().build([first + i for i in ids], vectors)
    while True:
        index.save(folder)


def test_a_kill_while_saving_and_two_processes_that_save(tmp_path):
    """Whenever it happens, the folder holds one of the two indexes, whole."""
    folder, context = tmp_path / "index", multiprocessing.get_context("spawn")
    Exact().build([0], np.ones((1, 8))).save(folder)
    writers = [context.Process(target=_save_again_and_again, args=(folder, first)) for first in (1000, 2000)]
    for process in writers:
        process.start()
    try:
        wait_until(lambda: len(open_index(folder)) == 300)
        for _ in range(10):
            found = open_index(folder).search(np.ones((1, 8)), 300)[0].ravel()
            assert sorted(i % 1000 for i in found) == list(range(300)) and len({i // 1000 for i in found}) == 1
    finally:
        for process in writers:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    assert len(open_index(folder)) == 300
    Exact().build(["last"], np.ones((1, 8))).save(folder)
    assert open_index(folder).search(np.ones((1, 8)), 1)[0] == "last"
    assert len(list(folder.iterdir())) == 2


def test_a_folder_of_another_schema_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SCHEMA", 1)
    Exact().build(["a"], np.ones((1, 2))).save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"schema 1.*of schema 2"):
        open_index(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["content"]["facts"]["kind"] == "Exact"


def test_what_is_not_there_is_told():
    index = Exact().build(["a", "b"], np.eye(2))
    with pytest.raises(UserError, match=r"1 of 2 items are not in the index, such as 'c'"):
        index.remove(["a", "c"])
    with pytest.raises(UserError, match="'a' comes more than once"):
        index.remove(["a", "a"])
    with pytest.raises(UserError, match="not in the index"):
        index.vectors_of([1])
    with pytest.raises(UserError, match="ids='a' must be a list of ids"):
        index.remove("a")
    assert len(index) == 2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (5, "ids=5 must be a list of ids"),
        (None, "ids=None must be a list of ids"),
        ([""], "must be an integer, or text that is not blank"),
        ([10**5000], "an id is an integer of more than 128 bits: give it as text"),
    ],
)
def test_ids_that_are_none_are_refused_in_a_sentence(ids, message, tmp_path):
    index = Exact().build(["a"], np.ones((1, 2)))
    with pytest.raises(UserError, match=message):
        index.add(ids, np.ones((1, 2)))
    with pytest.raises(UserError, match=message):
        index.remove(ids)
    index.add([2**127], np.ones((1, 2)))
    index.save(tmp_path / "index")
    assert 2**127 in open_index(tmp_path / "index")


def test_ragged_vectors_and_a_file_in_the_folder_s_place_are_refused_in_a_sentence(tmp_path):
    index = Exact().build(["a"], np.ones((1, 2)))
    with pytest.raises(UserError, match="queries differ in length"):
        index.search([[1, 2], [3]], 1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file: give a new or empty folder"):
        index.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def kinds():
    """Every kind of index that is installed, all of them exact at this size."""
    built = [Exact(), Exact("l2"), Exact("dot", device_mib=1)]
    built += [ScaNN(), ScaNN("l2")] if importlib.util.find_spec("scann") else []
    return built + ([Faiss(method="flat"), Faiss(method="hnsw")] if importlib.util.find_spec("faiss") else [])


def nearest(metric: str, items: dict, queries: np.ndarray, k: int) -> list[list]:
    """Ids by a loop: what any index has to find."""
    ids, x = list(items), np.stack(list(items.values())).astype(np.float64)
    if metric == "l2":
        scores = -((queries[:, None].astype(np.float64) - x[None]) ** 2).sum(-1)
    else:
        scores = (
            queries.astype(np.float64) @ (x / (np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else 1)).T
        )
    return [[ids[row] for row in rows[:k]] for rows in np.argsort(-scores, axis=1, kind="stable")]


@pytest.mark.parametrize("changes", [120, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("builder", kinds(), ids=str)
def test_whatever_is_found_was_right_at_a_moment_of_the_search(builder, changes):
    """Threads search while one adds, removes and replaces, and another rebuilds; each answer is that of one state."""
    rng, vectors, dim = random.Random(0), np.random.default_rng(1), 8
    items = {i: vectors.standard_normal(dim, np.float32) for i in range(300)}
    index = builder.build(list(items), np.stack(list(items.values())))
    queries = vectors.standard_normal((3, dim), np.float32)
    states, done, failures, checked_answers = [dict(items)], threading.Event(), [], []

    def change():
        for _ in range(changes):
            new = dict(states[-1])
            act, ids = rng.choice(["add", "remove", "replace"]), rng.sample(range(600), 5)
            ids = [i for i in ids if (i in new) != (act == "add")]
            for i in ids:
                if act == "remove":
                    del new[i]
                else:
                    new[i] = vectors.standard_normal(dim, np.float32)
            states.append(new)  # before the change is made: a search may see it from then on
            if ids and act == "remove":
                index.remove(ids)
            elif ids:
                index.add(ids, np.stack([new[i] for i in ids]), replace=act == "replace")

    def search():
        while not done.is_set():
            first = max(0, len(states) - 2)  # the last one may not be made yet
            found, _ = index.search(queries, 10)
            checked_answers.append((first, len(states), found.tolist()))

    def rebuild():
        while not done.is_set():
            index.rebalance()

    def watched(function):
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=watched, args=(function,)) for function in (search, search, rebuild)]
    for thread in threads:
        thread.start()
    watched(change)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures and checked_answers
    right = {}
    for first, last, found in checked_answers:
        for n in range(first, last):
            if n not in right:
                right[n] = nearest(builder.metric, states[n], queries, 10)
        assert any(found == right[n] for n in range(first, last)), (first, last)
    assert sorted(i for i in range(600) if i in index) == sorted(states[-1]) and len(index) == len(states[-1])


@pytest.mark.parametrize("name", ["with blanks", "Läden 商店", "line\nbreak", "caf\udce9", "🛍"])
@pytest.mark.parametrize("builder", kinds(), ids=str)
def test_an_index_lies_in_a_folder_of_any_name(name, builder, tmp_path):
    ids, vectors = some(100)
    built = builder.build(ids, vectors)
    built.save(tmp_path / name / "index")
    index = open_index(tmp_path / name / "index")
    np.testing.assert_array_equal(index.search(vectors, 3)[0], built.search(vectors, 3)[0])
    index.save(tmp_path / name / "index")
    (tmp_path / name).rename(tmp_path / "moved")
    assert len(open_index(tmp_path / "moved" / "index")) == 100
