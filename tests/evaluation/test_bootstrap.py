"""Intervals hold what they promise, with queries that depend on each other too; two runs are told apart rightly."""

import itertools

import numpy as np
import pytest

from ssljax.evaluation import PerQuery, compare, intervals
from ssljax.types import UserError


def found(values, groups=None, ids=None):
    values = np.asarray(values, float)
    n = np.arange(len(values))
    return PerQuery(n if ids is None else ids, n if groups is None else np.asarray(groups), {"map@r": values})


def test_with_single_queries_it_is_the_normal_interval_of_a_mean():
    values = np.random.default_rng(0).random(400)
    low, high = intervals(found(values), draws=4000)["map@r"]
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_a_group_of_equal_queries_counts_as_one():
    values = np.random.default_rng(0).random(50)
    once = intervals(found(values), draws=500)["map@r"]
    assert intervals(found(np.repeat(values, 8), np.repeat(np.arange(50), 8)), draws=500)["map@r"] == pytest.approx(
        once
    )
    low, high = intervals(found(np.repeat(values, 8)), draws=500)["map@r"]
    assert high - low < 0.5 * (once[1] - once[0])  # what taking them for independent would promise


def test_the_mean_of_the_population_is_inside_as_often_as_promised():
    rng, inside, rounds = np.random.default_rng(0), 0, 400
    for seed in range(rounds):
        sizes = rng.integers(2, 7, 60)
        groups = np.repeat(np.arange(60), sizes)
        values = np.repeat(rng.random(60), sizes) * 0.7 + 0.3 * rng.random(len(groups))  # mean .5
        low, high = intervals(found(values, groups), level=0.9, draws=200, seed=seed)["map@r"]
        inside += low <= 0.5 <= high
    assert 0.85 <= inside / rounds <= 0.94  # .9, of 400 rounds ± .015, and a little below for 60 groups


def test_the_chunks_of_draws_make_no_difference(monkeypatch):
    many = found(np.random.default_rng(0).random(30))
    other = found(np.random.default_rng(1).random(30))
    whole, difference = intervals(many), compare(many, other, "map@r", draws=500)
    monkeypatch.setattr("ssljax.evaluation.bootstrap.WEIGHTS_AT_ONCE", 77)
    assert intervals(many)["map@r"] == pytest.approx(whole["map@r"])
    parts = compare(many, other, "map@r", draws=500)
    assert parts.low == pytest.approx(difference.low) and parts.p_value == pytest.approx(difference.p_value, abs=0.06)


def test_the_p_value_is_that_of_all_swaps():
    rng = np.random.default_rng(3)
    a, b, groups = rng.integers(0, 3, 20) / 2, rng.integers(0, 4, 20) / 3, np.repeat(np.arange(10), 2)
    sums = np.bincount(groups, b - a)
    exact = np.mean([abs(np.dot(s, sums)) >= abs(sums.sum()) - 1e-9 for s in itertools.product([-1, 1], repeat=10)])
    result = compare(found(a, groups), found(b, groups), "map@r", draws=20_000)
    assert result.p_value == pytest.approx(exact, abs=0.015)
    assert result.mean == pytest.approx((b - a).mean()) and result.low < result.mean < result.high
    assert (result.queries, result.groups) == (20, 10)
    assert (result.better, result.worse) == ((b > a).sum(), (b < a).sum())


def test_equal_runs_do_not_differ_and_swapping_turns_the_sign():
    rng = np.random.default_rng(0)
    a, b = found(rng.random(40)), found(rng.random(40))
    same = compare(a, a, "map@r", draws=100)
    assert (same.mean, same.low, same.high, same.p_value, same.better, same.worse) == (0, 0, 0, 1, 0, 0)
    there, back = compare(a, b, "map@r", draws=500), compare(b, a, "map@r", draws=500)
    assert (back.mean, back.better, back.p_value) == (pytest.approx(-there.mean), there.worse, there.p_value)
    assert back.low == pytest.approx(-there.high, abs=0.02)


def test_if_nothing_differs_a_small_p_value_is_as_rare_as_it_says():
    rng, rounds = np.random.default_rng(0), 400
    groups = np.repeat(np.arange(25), 3)
    low = 0
    for seed in range(rounds):
        hard = rng.random(25)[groups]  # alike for both, and for a group's queries
        a, b = (found(hard + 0.3 * rng.random(25)[groups] + 0.1 * rng.random(75), groups) for _ in "ab")
        low += compare(a, b, "map@r", draws=199, seed=seed).p_value <= 0.1
    assert 0.06 <= low / rounds <= 0.14


def test_a_paired_comparison_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    hard = rng.random(100)
    a, b = found(hard), found(hard + 0.02 + 0.02 * rng.standard_normal(100))
    assert intervals(a)["map@r"][1] > intervals(b)["map@r"][0]
    result = compare(a, b, "map@r", draws=999)
    assert result.low > 0 and result.p_value == 0.001


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a: intervals(a, level=1.0), "level=1.0"),
        (lambda a: intervals(a, draws=0), "draws=0"),
        (lambda a: intervals(found([1, 0], [3, 3])), "the 2 queries are all in one group"),
        (lambda a: compare(a, a, "map"), "figure='map'.*map@r"),
        (lambda a: compare(a, found([1, 0], ids=np.array([0, 7])), "map@r"), "3 and 2, and only one of them has '1'"),
        (lambda a: compare(a, found([1, 0, 0], ids=np.array([0, 2, 1])), "map@r"), "another order"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(UserError, match=message):
        call(found([1, 0, 1]))
