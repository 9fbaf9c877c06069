"""Additions and removals: whatever is done in whatever order, an index is what a dictionary would be."""

import json
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ssljax.retrieval import Exact, Faiss, ScaNN, open_index
from ssljax.retrieval.index import base
from ssljax.types import UserError

DIM = 4
IDS = st.one_of(st.text(min_size=1, max_size=3), st.integers(-(2**70), 2**70), st.sampled_from(["1", 1, "-1", -1]))


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
        bad=st.sampled_from(["nan", "inf", "wide", "flat", "twice", "blank", "type", "lengths", "unknown", "k", "query"]),
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
    monkeypatch.setattr(base, "_is_due", lambda state: False)  # rebuilt by a rule: the example decides when
    machine = type("Machine", (Machine,), {"builder": builder, "complete": complete})
    checks = settings(
        max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=checks)
