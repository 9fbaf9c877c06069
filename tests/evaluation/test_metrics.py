"""The metrics against figures by hand, a loop that follows the definitions, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from ssljax.evaluation.metrics import (
    average_precision,
    cmc,
    per_query,
    per_query_figures,
    precision,
    r_precision,
    recall,
    relevant_items,
    trapezoid_ap,
)
from ssljax.types import UserError


def means(*arguments, **settings) -> dict[str, float]:
    return per_query_figures(*arguments, **settings).means()


def test_each_metric_by_hand():
    relevant, positives = np.array([[0, 1, 0, 0, 1, 1], [1, 0, 1, 0, 0, 0]], bool), np.array([5, 2])
    assert cmc(relevant, 1).tolist() == [0, 1] and cmc(relevant, 2).tolist() == [1, 1]
    assert precision(relevant, 2).tolist() == [0.5, 0.5] and recall(relevant, positives, 3).tolist() == [0.2, 1]
    assert r_precision(relevant, positives).tolist() == [0.4, 0.5]
    np.testing.assert_allclose(average_precision(relevant, positives, positives), [0.18, 0.5])
    np.testing.assert_allclose(average_precision(relevant, 6, np.minimum(positives, 6)), [0.28, 5 / 6])


def test_worked_example():
    # rel = 0,1,0,0,1,1 with R = 5: by hand
    figures = per_query(
        np.array([[0, 1, 0, 0, 1, 1]], bool), np.array([5]), ks=(1, 2, 6), caps=(2, 100), depths=(2, 6), recalls=(2, 6)
    )
    expected = {
        "cmc@1": 0,
        "cmc@2": 1,
        "cmc@6": 1,
        "p@2": 1 / 2,
        "p@6": 3 / 6,
        "r-precision": 2 / 5,
        "map@r": (1 / 2 + 2 / 5) / 5,
        "map@min(r,2)": (1 / 2) / 2,
        "map@min(r,100)": (1 / 2 + 2 / 5) / 5,
        "map@2-over-min(r,2)": (1 / 2) / 2,
        "map@6-over-min(r,6)": (1 / 2 + 2 / 5 + 3 / 6) / 5,
        "recall@2-over-r": 1 / 5,
        "recall@6-over-r": 3 / 5,
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name][0] == pytest.approx(value), name
    rounded = {name: round(float(values[0]), 4) for name, values in figures.items()}
    assert rounded["p@6"] == 0.5 and rounded["recall@6-over-r"] == 0.6 and rounded["cmc@6"] == 1
    assert rounded["r-precision"] == 0.4 and rounded["map@r"] == 0.18 and rounded["map@6-over-min(r,6)"] == 0.28
    assert 0.467 not in {round(value, 3) for value in rounded.values()}  # over the hits: wrong


RANKS = {"ks": (1, 4), "depths": (3,), "recalls": (2,)}


def loop(queries, query_groups, gallery, gallery_groups, same, ks):
    """The definitions, one query after the other."""
    rows, left_out = [], 0
    for i, (query, group) in enumerate(zip(queries, query_groups, strict=True)):
        order = [j for j in np.argsort(-(gallery @ query), kind="stable") if not (same and i == j)]
        rel = [group >= 0 and gallery_groups[j] == group for j in order]
        big_r = sum(rel)
        if big_r == 0:
            left_out += 1
            continue
        row = {f"cmc@{k}": float(any(rel[:k])) for k in ks}
        row |= {f"p@{k}": sum(rel[:k]) / k for k in ks if k > 1}
        row["r-precision"] = sum(rel[:big_r]) / big_r
        row["map@r"] = sum(sum(rel[: n + 1]) / (n + 1) for n in range(big_r) if rel[n]) / big_r
        precisions = [sum(rel[: n + 1]) / (n + 1) if rel[n] else 0 for n in range(len(rel))]
        row["map@3-over-min(r,3)"] = sum(precisions[:3]) / min(big_r, 3)
        row["recall@2-over-r"] = sum(rel[:2]) / big_r
        rows.append(row)
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return means | {"queries": len(rows), "queries_left_out": left_out}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([2, 9]))
def test_equals_the_loop_with_ties_duplicates_and_queries_without_positives(seed, same, items):
    rng = np.random.default_rng(seed)
    gallery = rng.integers(-1, 2, (items, 3)).astype(np.float32)
    gallery_groups = rng.integers(-1, 4, items).astype(np.int32)
    queries, query_groups = gallery, gallery_groups
    if not same:
        queries, query_groups = rng.integers(-1, 2, (6, 3)).astype(np.float32), rng.integers(-1, 5, 6).astype(np.int32)
    own = np.arange(items) if same else None
    expected = loop(queries, query_groups, gallery, gallery_groups, same, RANKS["ks"])
    if expected["queries"] == 0:
        with pytest.raises(UserError, match="relevant"):
            means(queries, query_groups, gallery, gallery_groups, own=own, **RANKS)
        return
    figures = means(queries, query_groups, gallery, gallery_groups, own=own, **RANKS)
    assert figures == pytest.approx(expected)


def test_a_perfect_ranking_scores_one_and_the_worst_zero():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    groups = np.repeat(np.arange(3, dtype=np.int32), 4)
    best = means(vectors, groups, vectors, groups, own=np.arange(len(vectors)), ks=(1, 3))
    assert {v for k, v in best.items() if "queries" not in k} == {1.0}
    worst = means(vectors[:4], groups[4:8], vectors, groups, ks=(1, 4))
    assert {v for k, v in worst.items() if "queries" not in k} == {0.0}


def test_over_a_full_ranking_the_sum_of_precisions_is_scikit_learns():
    rng = np.random.default_rng(0)
    relevant, scores = rng.random(40) < 0.3, rng.random(40)
    order = np.argsort(-scores)
    ours = per_query(relevant[order][None], np.array([40]), ks=(1,))["map@r"][0] * 40 / relevant.sum()
    assert ours == pytest.approx(average_precision_score(relevant, scores))


def test_permuting_the_items_changes_nothing():
    rng = np.random.default_rng(0)
    vectors, groups = rng.standard_normal((40, 5), np.float32), rng.integers(0, 9, 40).astype(np.int32)
    order = rng.permutation(40)
    figures = means(vectors, groups, vectors, groups, own=np.arange(len(vectors)))
    assert figures == pytest.approx(
        means(vectors[order], groups[order], vectors[order], groups[order], own=np.arange(40))
    )


def test_some_queries_are_judged_as_among_all():
    rng = np.random.default_rng(1)
    vectors, groups = rng.standard_normal((30, 4), np.float32), rng.integers(0, 9, 30).astype(np.int32)
    rows = np.array([7, 0, 21])
    few = means(vectors[rows], groups[rows], vectors, groups, own=rows, ks=(1, 2))
    each = [means(vectors[[r]], groups[[r]], vectors, groups, own=np.array([r]), ks=(1, 2)) for r in rows]
    assert few == pytest.approx({k: np.mean([e[k] for e in each]) for k in each[0]} | {"queries": 3})


def test_figures_of_each_query_carry_its_row_and_group():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    groups = np.array([7, 7, -1, 3, 4, 4], np.int32)
    found = per_query_figures(vectors, groups, vectors, groups, own=np.arange(6), ks=(1,))
    assert found.ids.tolist() == [0, 1, 4, 5] and found.groups.tolist() == [7, 7, 4, 4] and found.left_out == 2
    assert found.figures["cmc@1"].tolist() == [1, 1, 1, 1]
    assert found.means() == means(vectors, groups, vectors, groups, own=np.arange(6), ks=(1,))
    part = found.select(found.groups == 4)
    assert part.ids.tolist() == [4, 5] and part.means()["queries"] == 2 and part.left_out == 0


def test_an_item_in_no_group_is_relevant_to_none():
    groups = np.array([-1, -1, 5], np.int32)
    assert relevant_items(groups, groups).tolist() == [0, 0, 1]
    assert relevant_items(groups, groups, np.arange(3)).tolist() == [0, 0, 0]


def test_duplicates_use_up_ranks():
    gallery = np.array([[1, 0], [1, 0], [1, 0], [0.8, 0.6]], np.float32)  # three copies of something wrong, then a hit
    found = means(
        gallery[:1], np.array([1], np.int32), gallery, np.array([0, 0, 0, 1], np.int32), ks=(1,), depths=(3, 4)
    )
    assert found["map@3-over-min(r,3)"] == 0 and found["map@4-over-min(r,4)"] == 1 / 4


def test_the_chunks_of_queries_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, groups = rng.standard_normal((37, 3), np.float32), rng.integers(-1, 9, 37).astype(np.int32)
    whole = per_query_figures(vectors, groups, vectors, groups, own=np.arange(37), **RANKS)
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 4 * 37)
    parts = per_query_figures(vectors, groups, vectors, groups, own=np.arange(37), **RANKS)
    for name, values in whole.figures.items():
        assert parts.figures[name].tolist() == values.tolist()


def test_trapezoid_by_hand():
    # rel = 0,1,0,0,1,1 with R = 5: (0/1 + 1/2)/10 + (1/4 + 2/5)/10 + (2/5 + 3/6)/10
    assert trapezoid_ap(np.array([2, 5, 6]), 5) == pytest.approx(0.205)


def trapezoid_loop(relevant, positives):
    area = hits = 0
    for rank, rel in enumerate(relevant):  # from 0
        if rel:
            p0 = hits / rank if rank else 1
            area += (p0 + (hits + 1) / (rank + 1)) / (2 * positives)
            hits += 1
    return area


@settings(deadline=None, max_examples=200)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 3))
def test_trapezoid_equals_its_loop(relevant, missing):
    positives = sum(relevant) + missing
    ap = trapezoid_ap(np.flatnonzero(relevant) + 1, positives)
    assert ap == pytest.approx(trapezoid_loop(relevant, positives))
    precisions = [sum(relevant[: i + 1]) / (i + 1) for i, rel in enumerate(relevant) if rel]
    assert ap <= sum(precisions) / positives + 1e-12  # the usual average precision


def test_trapezoid_of_a_perfect_ranking_is_one_and_of_nothing_found_zero():
    assert trapezoid_ap(np.array([1, 2, 3]), 3) == 1 and trapezoid_ap(np.zeros(0, int), 2) == 0
