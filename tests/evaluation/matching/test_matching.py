"""Row-wise F1, thresholds, lists, unions, blending and groups beside loops over the definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssljax.evaluation.matching import (
    Candidates,
    Judged,
    MatchLists,
    blended,
    calibrate_blending,
    calibrate_union,
    concatenated,
    group,
    row_f1,
)
from ssljax.evaluation.rerank import blend
from ssljax.evaluation.vectors import normalise
from ssljax.search import Exact, build_for_all
from ssljax.types import UserError

SEEDS = st.integers(0, 10_000)


def unit(n, seed=0, dim=3):
    return normalise(np.random.default_rng(seed).standard_normal((n, dim), np.float32))


def judged_of(vectors, groups, k):
    return Judged.of(Candidates.of(vectors, k), groups)


def exact(vectors):
    return Exact().structure(vectors).search


def random(seed, n=12):
    rng = np.random.default_rng(seed)
    vectors = normalise(rng.integers(-2, 3, (n, 2)).astype(np.float32))
    return vectors, rng.integers(-1, 4, n).astype(np.int32)


def loop(vectors, groups, threshold, most):
    scores = []
    for i, query in enumerate(vectors):
        others = sorted((j for j in range(len(vectors)) if j != i), key=lambda j: (-float(vectors[j] @ query), j))
        found = {i} | {j for j in others[: most - 1] if vectors[j] @ query >= threshold}
        truth = {i} | {j for j in others if groups[j] == groups[i] >= 0}
        scores.append(2 * len(found & truth) / (len(found) + len(truth)))
    return scores


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([-2.0, 0.05, 0.62, 0.93, 2.0]), st.sampled_from([2, 5, 50]))
def test_equals_the_loop(seed, threshold, most):
    vectors, groups = random(seed)
    # exact ties of cosines that rounding parts differently here and there are no matter of this test
    vectors = vectors + np.random.default_rng(seed).normal(0, 1e-3, vectors.shape).astype(np.float32)
    found = judged_of(vectors, groups, most - 1).f1(threshold)
    assert found.tolist() == pytest.approx(loop(vectors, groups, threshold, most))


def test_by_hand_itself_counts_on_both_sides():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    judged = judged_of(vectors, np.array([0, 0, 0, -1], np.int32), 3)
    assert judged.sizes.tolist() == [3, 3, 3, 1]
    assert judged.f1(0.5).tolist() == pytest.approx([4 / 5, 4 / 5, 2 / 5, 2 / 3])
    assert judged.f1(2.0).tolist() == pytest.approx([2 / 4, 2 / 4, 2 / 4, 1])  # each finds itself alone
    assert judged.f1(0.0).tolist() == pytest.approx([6 / 7, 6 / 7, 6 / 7, 2 / 5])  # each finds all
    assert judged.best_threshold() == 0.0


def test_the_chunks_of_items_make_no_difference(monkeypatch):
    vectors, groups = random(0, n=30)
    whole = judged_of(vectors, groups, 5)
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 4 * 30)
    parts = judged_of(vectors, groups, 5)
    assert (parts.scores == whole.scores).all() and (parts.true == whole.true).all()


def test_rounding_at_the_threshold_does_not_decide():
    judged = judged_of(normalise(np.array([[1, 0], [1, 1e-4], [0, 1]], np.float32)), np.array([0, 0, -1], np.int32), 2)
    below = judged.best_threshold()
    assert 0.4 < below < 0.6
    assert judged.f1(below - 1e-6).mean() == judged.f1(below + 1e-6).mean() == 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 49]))
def test_no_threshold_is_better_than_the_best(seed, k):
    judged = judged_of(*random(seed), k)
    there = [np.inf, *np.unique(judged.scores[np.isfinite(judged.scores)]).tolist()]
    means = [judged.f1(threshold).mean() for threshold in there]
    assert judged.f1(judged.best_threshold()).mean() == pytest.approx(max(means))


def test_if_every_match_is_wrong_nothing_is_predicted():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    judged = judged_of(vectors, np.array([0, -1, 0, -1], np.int32), 1)
    assert judged.f1(judged.best_threshold()).tolist() == pytest.approx([2 / 3, 1, 2 / 3, 1])


# min2


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([1, 3, 8]))
@example(376, 3)  # the best threshold lies between the scores of two nearest items
def test_no_two_thresholds_are_better_than_the_best_of_min2(seed, k):
    judged = judged_of(*random(seed), k)
    there = [2.0, *np.unique(judged.scores[np.isfinite(judged.scores)]).tolist()]
    best = max(judged.f1(t, loose).mean() for t, loose in itertools.product(there, there) if loose <= t)
    threshold, loose = judged.best_min2()
    assert loose <= threshold
    assert judged.f1(threshold, loose).mean() == pytest.approx(best)
    assert best >= judged.f1(judged.best_threshold()).mean() - 1e-12


def test_one_item_and_none_matches_nothing():
    for count in (0, 1):
        judged = judged_of(unit(count), np.zeros(count, np.int32), 4)
        assert judged.best_threshold() == np.inf and judged.best_min2() == (np.inf, np.inf)
        matches = MatchLists.of(Candidates.of(unit(count), 4), np.inf)
        assert (matches.rows == -1).all() and group(matches).number.tolist() == [0] * count


# lists and unions


def lists_by_loop(vectors, threshold, loose, most):
    lists = []
    for i, query in enumerate(vectors):
        scores = {j: float(vectors[j] @ query) for j in range(len(vectors)) if j != i}
        nearest = sorted(scores, key=lambda j: (-scores[j], j))[: most - 1]
        lists.append({j: scores[j] for rank, j in enumerate(nearest) if scores[j] >= (threshold if rank else loose)})
    return lists


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([(0.3, 0.3), (0.8, 0.2), (2.0, 2.0), (-2.0, -2.0)]), st.sampled_from([2, 5, 50]))
def test_lists_and_their_f1_equal_the_loop(seed, thresholds, most):
    vectors, groups = unit(12, seed), np.random.default_rng(seed).integers(-1, 4, 12).astype(np.int32)
    matches = MatchLists.of(Candidates.of(vectors, most - 1), *thresholds)
    expected = lists_by_loop(vectors, *thresholds, most)
    assert [set(row[row >= 0].tolist()) for row in matches.rows] == [set(found) for found in expected]
    f1 = []
    for i, found in enumerate(expected):
        truth = {i} | {j for j in range(12) if groups[i] == groups[j] >= 0}
        f1.append(2 * len(({i} | set(found)) & truth) / (1 + len(found) + len(truth)))
    assert row_f1(matches.rows, groups).tolist() == pytest.approx(f1)
    judged = judged_of(vectors, groups, most - 1)
    assert judged.f1(*thresholds).tolist() == pytest.approx(f1)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([2, 4, 50]))
def test_a_union_equals_the_loop(seed, most):
    thresholds, parts, lists = (0.2, 0.6, 0.9), [], []
    for k, threshold in enumerate(thresholds):
        vectors = unit(10, seed + k)
        parts.append(MatchLists.of(Candidates.of(vectors, 6), threshold))
        lists.append(lists_by_loop(vectors, threshold, threshold, 7))
    union = MatchLists.union(parts, most)
    for i in range(10):
        best = {}
        for kind, threshold in enumerate(thresholds):
            for j, score in lists[kind][i].items():
                best[j] = max(best.get(j, (-9.0, 0, 0.0)), (score - threshold, -kind, score))
        kept = sorted(best, key=lambda j: -best[j][0])[: most - 1]
        there = union.rows[i] >= 0
        assert union.rows[i][there].tolist() == kept and there[: len(kept)].all()
        np.testing.assert_allclose(union.margins[i][there], [best[j][0] for j in kept], atol=1e-5)
        np.testing.assert_allclose(union.scores[i][there], [best[j][2] for j in kept], atol=1e-5)
        assert union.kinds[i][there].tolist() == [-best[j][1] for j in kept]


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_the_thresholds_of_a_union_are_at_least_as_good_as_each_alone(seed):
    groups = np.repeat(np.arange(8), 3).astype(np.int32)
    rng = np.random.default_rng(seed)
    parts = [
        Candidates.of(normalise(unit(8, seed + k)[groups] + 0.4 * rng.standard_normal((24, 3)).astype(np.float32)), 9)
        for k in range(2)
    ]
    thresholds = calibrate_union(parts, groups)
    union = MatchLists.union([MatchLists.of(part, t) for part, t in zip(parts, thresholds, strict=True)])
    alone = [Judged.of(part, groups) for part in parts]
    assert row_f1(union.rows, groups).mean() >= max(j.f1(j.best_threshold()).mean() for j in alone) - 1e-12


def test_an_ensemble_has_the_mean_of_the_cosines():
    a, b = unit(6, 1), 7 * unit(6, 2, dim=5)
    both = concatenated([a, b], weights=[1, 2])
    expected = (a @ a.T + 4 * normalise(b) @ normalise(b).T) / 5
    np.testing.assert_allclose(both @ both.T, expected, atol=1e-5)
    with pytest.raises(UserError, match="the same items"):
        concatenated([a, b[:5]])
    with pytest.raises(UserError, match=r"weights=\[1, 0\]"):
        concatenated([a, b], weights=[1, 0])


# blending


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.sampled_from([3, 51]), st.booleans())
def test_stages_of_blending_equal_the_loop_exactly_and_through_an_index(seed, k, indexed):
    x = unit(11, seed)
    found = blended(x, (0.5, np.inf, 0.7), k=k, build=exact if indexed else None)
    for threshold in (0.5, 0.7):
        cosines = x @ x.T
        rows = []
        for i in range(11):
            others = sorted((j for j in range(11) if j != i), key=lambda j: -cosines[i, j])[: k - 1]
            rows.append(x[i] + sum(cosines[i, j] * x[j] for j in others if cosines[i, j] >= threshold))
        x = normalise(np.array(rows))
    np.testing.assert_allclose(found, x, atol=1e-4)


def test_an_index_gives_the_candidates_of_the_comparison_of_all(monkeypatch):
    monkeypatch.setattr("ssljax.evaluation.nearest.SEARCHED_AT_ONCE", 7)
    x = np.concatenate([unit(30), unit(4)])  # with duplicates
    found, expected = Candidates.of(x, 5, build=exact), Candidates.of(x, 5)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert not (found.rows == np.arange(34)[:, None]).any()
    few = Candidates.of(x[:3], 5, build=exact)
    assert (few.rows[:, 2:] == -1).all() and np.isneginf(few.scores[:, 2:]).all()
    assert blend(x, x, k=4, threshold=0.0, own=np.arange(34), build=exact).shape == x.shape


def test_the_thresholds_of_blending_never_lower_f1_where_they_were_chosen():
    groups = np.repeat(np.arange(20), 4).astype(np.int32)
    rng = np.random.default_rng(0)
    x = normalise(unit(20, 1, dim=8)[groups] + 0.25 * rng.standard_normal((80, 8)).astype(np.float32))
    before, thresholds = judged_of(x, groups, 49), calibrate_blending(x, groups)
    after = judged_of(blended(x, thresholds), groups, 49)
    assert 1 <= len(thresholds) <= 3
    assert after.f1(*after.best_min2()).mean() > before.f1(*before.best_min2()).mean()


# groups


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from(["components", "mutual"]), st.sampled_from([0.6, 0.9, 2.0]), st.sampled_from([1, 3, 9]))
def test_groups_equal_the_loop(seed, by, threshold, k):
    matches = MatchLists.of(Candidates.of(unit(10, seed), k), threshold)
    margin = {}
    for i, (row, margins) in enumerate(zip(matches.rows, matches.margins, strict=True)):
        margin |= {(i, j): float(m) for j, m in zip(row.tolist(), margins.tolist(), strict=True) if j >= 0}
    edges = {}
    for i, j in itertools.combinations(range(10), 2):
        there = [margin[pair] for pair in ((i, j), (j, i)) if pair in margin]
        if len(there) > (by == "mutual"):
            edges[i, j] = min(there) if by == "mutual" else max(there)

    def components(edges):
        number = list(range(10))
        for _, (i, j) in itertools.product(range(10), edges):
            number[i] = number[j] = min(number[i], number[j])
        return [sorted(set(number)).index(n) for n in number]

    found = group(matches, by)
    assert found.number.tolist() == components(edges)
    assert found.sizes.tolist() == np.bincount(found.number).tolist()
    for g in range(len(found.sizes)):
        own = {pair: m for pair, m in edges.items() if found.number[pair[0]] == g}
        # the group falls apart as soon as all pairs up to its margin are gone
        stays = {pair: m for pair, m in own.items() if m > found.margins[g] + 1e-6}
        members = np.flatnonzero(found.number == g)
        if len(members) == 1:
            assert found.margins[g] == np.inf and found.links[g] == 0
            continue
        held = {pair: m for pair, m in own.items() if m > found.margins[g] - 1e-6}
        assert len({components(held)[i] for i in members}) == 1 < len({components(stays)[i] for i in members})
        across = [pair for pair in own if found.parts[pair[0]] != found.parts[pair[1]]]
        assert found.links[g] == len(across) and tuple(sorted(found.weakest[g].tolist())) in across
        assert max(own[pair] for pair in across) == pytest.approx(found.margins[g], abs=1e-6)


def test_two_pairs_of_near_items_held_together_by_one_pair_are_doubtful_before_a_weak_pair():
    rows = np.array([[1, -1], [0, 2], [3, 1], [2, -1], [5, -1], [4, -1]], np.int32)
    scores = np.array([[0.9, -9], [0.9, 0.7], [0.9, 0.7], [0.9, -9], [0.6, -9], [0.6, -9]], np.float32)
    found = group(MatchLists.of(Candidates(rows, np.where(rows >= 0, scores, -np.inf)), 0.5))
    assert found.number.tolist() == [0, 0, 0, 0, 1, 1] and found.links.tolist() == [1, 1]
    assert found.margins.tolist() == pytest.approx([0.2, 0.1])
    assert found.doubtful_first.tolist() == [0, 1]
    with pytest.raises(UserError, match="groups='both'"):
        group(MatchLists.of(Candidates(rows, scores), 0.5), "both")


# many items


def test_many_items_are_matched_through_an_index_whose_searches_do_not_grow_with_them(monkeypatch):
    pytest.importorskip("scann")
    assert build_for_all(20_000) is None
    monkeypatch.setattr("ssljax.search.index.COMPARED", 1000)
    build = build_for_all(40 * 500)
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.arange(20_000) // 4).astype(np.int32)
    x = unit(5000, dim=64)[groups] + 0.06 * rng.standard_normal((20_000, 64)).astype(np.float32)
    matches = MatchLists.of(Candidates.of(normalise(x), 9, build=build), 0.65)
    assert row_f1(matches.rows, groups).mean() > 0.95


def test_a_vector_of_zeros_is_near_to_nothing():
    vectors = np.array([[1, 0], [0, 0], [-0.6, 0.8], [0, 0], [0, 1]], np.float32)
    found = Candidates.of(vectors, 3)
    np.testing.assert_array_equal(found.rows, [[4, 2, -1], [-1] * 3, [4, 0, -1], [-1] * 3, [2, 0, -1]])
    np.testing.assert_allclose(found.scores[0], [0, -0.6, -np.inf], atol=1e-6)
    assert (MatchLists.of(found, -0.9).rows[[1, 3]] == -1).all()
