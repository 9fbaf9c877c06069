"""Post-processing beside loops over the definitions, and its properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Retrieval, top_k
from ssljax.evaluation.rerank import (
    DatabaseAugmentation,
    NeighbourhoodBlending,
    QueryExpansion,
    Whitening,
    blend,
    collapse,
    expand,
    fit_whitening,
    k_reciprocal,
    min2,
    top_items,
    whitening,
)
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError, check_fields


def unit(n, seed=0, dim=4):
    return normalise(np.random.default_rng(seed).standard_normal((n, dim), np.float32))


def gridded(n, seed, dim=3):
    """Vectors of few values: with ties and duplicates; exact in float32 if of length 1."""
    return np.random.default_rng(seed).integers(-1, 2, (n, dim)).astype(np.float32)


# expansion


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 1.0, 3.0]), st.booleans())
def test_expansion_equals_the_loop(seed, k, alpha, same):
    gallery = unit(9, seed)
    queries, own = (gallery, np.arange(9)) if same else (unit(5, seed + 1), None)
    expected = []
    for i, q in enumerate(queries):
        others = sorted((j for j in range(9) if not (same and i == j)), key=lambda j: (-float(gallery[j] @ q), j))
        total = q + sum(max(float(gallery[j] @ q), 0) ** alpha * gallery[j] for j in others[:k])
        expected.append(total / np.linalg.norm(total))
    found = expand(queries, gallery, *top_k(queries, gallery, k, exclude=own), alpha=alpha)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_neighbour_and_the_item_itself_as_its_only_one_change_nothing():
    x = unit(6)
    none = np.empty((6, 0), np.int32), np.empty((6, 0), np.float32)
    itself = np.arange(6)[:, None], np.ones((6, 1), np.float32)
    missing = np.full((6, 2), -1), np.full((6, 2), -np.inf, np.float32)
    for neighbours in (none, itself, missing):
        np.testing.assert_allclose(expand(x, x, *neighbours, alpha=3.0), x, atol=1e-6)


def test_expansion_finds_what_is_near_its_neighbours():
    # along an arc: the far end is nearer to the mean of the first ones than to the first
    angles = np.array([0.0, 0.3, 0.6, 0.9, -0.8])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert top_k(x[:1], x, 4, exclude=np.array([0]))[0].tolist() == [[1, 2, 4, 3]]
    queries, _ = QueryExpansion(k=2)(x[:1], x, np.array([0]), None)
    assert top_k(queries, x, 4, exclude=np.array([0]))[0].tolist() == [[1, 2, 3, 4]]


def test_augmentation_is_the_expansion_of_the_gallery_by_itself():
    queries, gallery = unit(3, 1), unit(8, 2)
    same, augmented = DatabaseAugmentation(k=2, alpha=1.0)(queries, gallery, None, None)
    assert same is queries
    np.testing.assert_array_equal(augmented, QueryExpansion(k=2, alpha=1.0)(gallery, gallery, np.arange(8), None)[0])


# blending


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.9]), st.booleans())
def test_blending_equals_the_loop(seed, threshold, same):
    gallery = unit(9, seed)
    queries, own = (gallery, np.arange(9)) if same else (unit(5, seed + 1), None)
    expected = []
    for i, q in enumerate(queries):
        cosines = gallery @ q
        others = sorted((j for j in range(9) if not (same and i == j)), key=lambda j: (-float(cosines[j]), j))
        total = q + sum(cosines[j] * gallery[j] for j in others[:3] if cosines[j] >= threshold)
        expected.append(total / np.linalg.norm(total))
    np.testing.assert_allclose(blend(queries, gallery, k=4, threshold=threshold, own=own), expected, atol=1e-5)


def test_isolated_items_stay_and_groups_become_one():
    isolated = np.eye(4, dtype=np.float32)
    step = NeighbourhoodBlending(thresholds=(0.5,) * 3, k=3)
    np.testing.assert_array_equal(step(isolated, isolated, np.arange(4), None)[1], isolated)
    group = normalise(isolated[0] + 0.2 * unit(3, 5))
    x = np.concatenate([group, isolated[1:3]])
    queries, gallery = step(x, x, np.arange(5), None)
    np.testing.assert_array_equal(queries, gallery)
    assert (gallery[:3] @ gallery[:3].T).min() > 0.999 > (group @ group.T).min()


def test_queries_meet_the_gallery_as_it_was_at_each_stage():
    queries, gallery = unit(3, 1), unit(8, 2)
    one = NeighbourhoodBlending(thresholds=(0.5,), k=4)
    stepwise = one(*one(queries, gallery, None, None), None, None)
    both = NeighbourhoodBlending(thresholds=(0.5, 0.5), k=4)(queries, gallery, None, None)
    for a, b in zip(stepwise, both, strict=True):
        np.testing.assert_array_equal(a, b)


# whitening


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5]))
def test_the_fit_set_gets_mean_0_and_unit_covariance(seed, dim):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    x = (rng.standard_normal((60, 5)) * np.logspace(-2, 0, 5) @ rotation + 3).astype(np.float32)
    white = fit_whitening(x, dim)(x)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.atleast_2d(np.cov(white.T, bias=True)), np.eye(dim), atol=2e-3)


def test_whitening_keeps_the_directions_of_largest_variance_and_full_shrinkage_only_rotates():
    x = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32) * np.array([1, 5, 2], np.float32)
    assert np.abs(fit_whitening(x, 2).matrix).argmax(axis=0).tolist() == [1, 2]
    rotated = fit_whitening(x, 3, shrinkage=1.0)(x)
    centred = x - x.mean(0, keepdims=True)
    ratio = (rotated @ rotated.T)[0] / (centred @ centred.T)[0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-2)


def test_shrinkage_is_its_formula():
    x = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32) * np.array([1, 2, 3, 4], np.float32)
    white = fit_whitening(x, 4, shrinkage=0.3)(x)
    variances = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    np.testing.assert_allclose(white.var(0), variances / (0.7 * variances + 0.3 * variances.mean()), rtol=1e-3)


def test_whitening_by_labels_makes_the_covariance_within_groups_round_and_keeps_what_tells_them_apart():
    rng = np.random.default_rng(0)
    groups = np.append(np.arange(600) // 3, [-1, 999])  # one without a group, one alone in its own
    told, noise = rng.standard_normal((200, 2))[groups[:600]], rng.standard_normal((600, 3)) * np.array([9.0, 0.2, 1.0])
    x = np.concatenate([told + 0.1 * rng.standard_normal((600, 2)), noise], axis=1)
    x = np.concatenate([x, rng.standard_normal((2, 5))]).astype(np.float32)
    whitening = fit_whitening(x, 5, groups=groups)
    white = whitening(x)[:600].reshape(200, 3, 5)
    within = (white - white.mean(axis=1, keepdims=True)).reshape(600, 5)
    np.testing.assert_allclose(within.T @ within / 600, np.eye(5), atol=1e-2)
    assert set(np.abs(whitening.matrix[:, :2]).argmax(axis=0)) == {0, 1}  # PCA would keep the third
    with pytest.raises(UserError, match="no two items are of one group"):
        fit_whitening(x, 2, groups=np.arange(602))


def test_whitening_refuses_what_it_cannot_fit():
    x = unit(10)
    with pytest.raises(UserError, match="dim=5 must be at least 1 and at most 4"):
        fit_whitening(x, 5)
    with pytest.raises(UserError, match=r"dim=4 needs more than 4 vectors.*there are 4"):
        fit_whitening(x[:4], 4)
    flat = np.concatenate([x, np.zeros((10, 1), np.float32)], axis=1)
    with pytest.raises(UserError, match="dim=5 is more than the 4 dimensions"):
        fit_whitening(flat, 5)
    assert np.isfinite(fit_whitening(flat, 5, shrinkage=0.1)(flat)).all()
    with pytest.raises(UserError, match=r"shrinkage=-0\.1"):
        fit_whitening(x, 2, shrinkage=-0.1)
    with pytest.raises(UserError, match="dim=1 is more than the 0"):
        fit_whitening(np.ones((3, 2), np.float32), 1)
    with pytest.raises(UserError, match="fitted to 4 dimensions, but the vectors have 3"):
        fit_whitening(x, 2)(x[:, :3])


# k-reciprocal


def dense_k_reciprocal(queries, gallery, own, k1, k2, weight):
    """Scores [Q, n] by the paper's equations over sets and dense matrices, one query after the other."""
    n, cosines = len(gallery), gallery @ gallery.T

    def order(i):
        return [i, *sorted((j for j in range(n) if j != i), key=lambda j: (-float(cosines[i, j]), j))]

    ranked = [order(i) for i in range(n)]

    def mutual(i, k):
        return {j for j in ranked[i][: k + 1] if i in ranked[j][: k + 1]}

    def encode(members, to):
        expanded = set(members)
        for j in members:
            half = mutual(j, round(k1 / 2))
            if len(members & half) >= 2 / 3 * len(half):
                expanded |= half
        return np.array([np.exp(to[j] - 1) if j in expanded else 0 for j in range(n)])

    raw = np.stack([encode(mutual(i, k1), cosines[i]) for i in range(n)])
    encodings = np.stack([raw[ranked[i][:k2]].mean(0) for i in range(n)])
    scores = np.zeros((len(queries), n))
    for i, q in enumerate(queries):
        to = gallery @ q
        if own is None:
            near = sorted(range(n), key=lambda j: (-float(to[j]), j))
            members = {j for j in near[:k1] if to[j] >= cosines[j, ranked[j][k1]]}
            encoding = np.mean([encode(members, to), *(raw[j] for j in near[: k2 - 1])], axis=0)
        else:
            encoding = encodings[own[i]]
        for j in range(n):
            larger = np.maximum(encoding, encodings[j]).sum()
            overlap = np.minimum(encoding, encodings[j]).sum() / larger if larger else 0
            scores[i, j] = (1 - weight) * overlap + weight * (1 + to[j]) / 2
    return scores


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([(1, 1), (3, 2), (5, 5), (8, 3)]), st.booleans())
def test_k_reciprocal_equals_the_paper_on_dense_matrices(seed, sizes, same):
    k1, k2 = sizes
    gallery = unit(12, seed)
    queries, own = (gallery[3:8], np.arange(3, 8)) if same else (unit(4, seed + 1), None)
    expected = dense_k_reciprocal(queries, gallery, own, k1, k2, 0.3)
    if same:
        expected[np.arange(5), own] = -np.inf
    rows, scores = k_reciprocal(queries, gallery, 12, own=own, k1=k1, k2=k2)
    found = np.full_like(expected, -np.inf)
    for i, (row, score) in enumerate(zip(rows, scores, strict=True)):
        found[i, row[row >= 0]] = score[row >= 0]
        assert (np.diff(score[row >= 0]) <= 0).all()
        assert (row == -1).sum() == same
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_k_reciprocal_is_one_result_whatever_the_depth_and_the_chunks(monkeypatch):
    x = unit(40, 3)
    rows, scores = k_reciprocal(x, x, 50, own=np.arange(40))
    assert (rows[:, 39:] == -1).all() and np.isneginf(scores[:, 39:]).all()
    monkeypatch.setattr("ssljax.evaluation.rerank.reciprocal.LARGEST_CHUNK", 16)
    monkeypatch.setattr("ssljax.evaluation.rerank.reciprocal.ENCODED_AT_ONCE", 7)
    np.testing.assert_array_equal(k_reciprocal(x, x, 5, own=np.arange(40))[0], rows[:, :5])


@pytest.mark.parametrize("own", [None, np.arange(0)])
def test_no_queries_are_no_answers(own):
    none, x = unit(0), unit(9)
    assert [a.shape for a in k_reciprocal(none, x, 3, own=own, k1=3, k2=2)] == [(0, 3), (0, 3)]
    assert QueryExpansion(k=2)(none, x, own, None)[0].shape == (0, 4)
    assert NeighbourhoodBlending(thresholds=(0.5,), k=3)(none, x, own, None)[0].shape == (0, 4)
    assert top_items(none, x, np.arange(9), 2)[0].shape == (0, 2)


def test_k_reciprocal_by_the_cosine_alone_is_top_k():
    x = unit(20, 4)
    rows, _ = k_reciprocal(x, x, 6, own=np.arange(20), k1=5, k2=2, weight=1.0)
    np.testing.assert_array_equal(rows, top_k(x, x, 6, exclude=np.arange(20))[0])


def test_k_reciprocal_finds_those_that_share_neighbours():
    rng = np.random.default_rng(0)
    truth, own = np.arange(120) // 10, np.arange(120)
    x = normalise(np.eye(12, dtype=np.float32)[truth] + 0.3 * rng.standard_normal((120, 12), np.float32))
    before = (truth[top_k(x, x, 9, exclude=own)[0]] == truth[:, None]).mean()
    after = (truth[k_reciprocal(x, x, 9, own=own, k1=9, k2=4)[0]] == truth[:, None]).mean()
    assert after > before + 0.05


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"k1": 10}, "k1=10 must be at least 1 and below 10"),
        ({"k1": 0}, "k1=0"),
        ({"k1": 4, "k2": 5}, "k2=5 must be at least 1 and at most k1=4"),
        ({"k1": 4, "k2": 0}, "k2=0"),
        ({"k1": 4, "k2": 1, "weight": 1.5}, "weight=1.5"),
    ],
)
def test_k_reciprocal_out_of_range(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        k_reciprocal(unit(2), unit(10), 3, **wrong)


# rankings


def test_min2_keeps_the_nearest_unless_it_is_clearly_another():
    scores = np.array([[0.9, 0.8, 0.1], [0.6, 0.55, 0.1], [0.4, 0.3, -np.inf]], np.float32)
    kept = min2(scores, 0.7, 0.5)
    assert kept.tolist() == [[True, True, False], [True, False, False], [False, False, False]]
    np.testing.assert_array_equal(min2(scores, 0.7, 0.7), scores >= 0.7)
    assert min2(scores[:, :0], 0.7, 0.5).shape == (3, 0)
    with pytest.raises(UserError, match=r"loose=0\.8 must be at most threshold=0\.7"):
        min2(scores, 0.7, 0.8)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from(["max", "mean"]))
def test_items_with_several_photos_equal_the_loop(seed, k, exclude, by):
    rng = np.random.default_rng(seed)
    photos, queries = gridded(14, seed), gridded(5, seed + 1)
    items = np.concatenate([np.arange(4), rng.integers(0, 4, 10)]) * 3 + 1
    own = rng.choice(items, 5) if exclude else None
    found, scores = top_items(queries, photos, items, k, by=by, exclude=own)
    for i, q in enumerate(queries):
        score, first = {}, {}
        for item in sorted(set(items)):
            if not (exclude and item == own[i]):
                cosines = photos[items == item] @ q
                score[item] = cosines.max() if by == "max" else cosines.mean()
                first[item] = int(np.flatnonzero(items == item)[cosines.argmax()])
        best = sorted(score.values(), reverse=True)[:k]
        there = found[i] >= 0
        np.testing.assert_allclose(scores[i][there], best, atol=1e-5)
        assert there.sum() == len(best) == len(set(found[i][there]))
        assert all(abs(score[item] - s) < 1e-5 for item, s in zip(found[i][there], best, strict=True))
        if by == "max":
            assert found[i][there].tolist() == sorted(score, key=lambda j: (-score[j], first[j]))[:k]


def test_an_item_with_a_thousand_photos_does_not_hide_the_others():
    photos = np.concatenate([np.tile(unit(1), (1000, 1)), unit(5, 1)])
    items = np.concatenate([np.zeros(1000, int), np.arange(1, 6)])
    found, _ = top_items(photos[:1], photos, items, 6)
    assert found[0, 0] == 0 and sorted(found[0]) == [0, 1, 2, 3, 4, 5]


def test_collapse_keeps_the_best_photo_of_each_and_leaves_out_what_is_missing():
    items = np.array([[7, 7, 2, 7, 5], [-1, 3, -1, 3, -1]])
    scores = np.array([[5, 4, 3, 2, 1], [5, 4, 3, 2, 1]], np.float32)
    found, best = collapse(items, scores, 3)
    assert found.tolist() == [[7, 2, 5], [3, -1, -1]]
    assert best.tolist() == [[5, 3, 1], [4, -np.inf, -np.inf]]


@pytest.mark.parametrize("k, items, sentence", [(4, [0, 1, 1, 2], "k=4.*most 3"), (0, [0] * 4, "k=0")])
def test_no_more_items_than_there_are(k, items, sentence):
    with pytest.raises(UserError, match=sentence):
        top_items(unit(1), unit(4), np.array(items), k)


@pytest.mark.parametrize("items", [[0, 1], [0, 1, -1, 2], []])
def test_each_photo_needs_an_item(items):
    with pytest.raises(UserError, match="item numbers"):
        top_items(unit(1), unit(4), np.array(items, int), 1)


# as steps of Retrieval


def splits(n=20):
    rng = np.random.default_rng(0)

    def split(seed):
        groups = np.arange(n) // 4
        vectors = normalise(np.eye(8, dtype=np.float32)[groups % 8] + 0.5 * unit(n, seed, 8)) * 7
        return Embeddings(text(map(str, range(n))), vectors, {"title": text(f"g{g}" for g in groups)})

    return {"train": split(rng.integers(99)), "test": split(rng.integers(99))}


STEPS = (
    Whitening(dim=4, shrinkage=0.1),
    Whitening(dim=4, shrinkage=0.1, labels="title"),
    Whitening(dim=4, shrinkage=0.1, labels="title", parts=(3, 5)),
    QueryExpansion(k=2),
    DatabaseAugmentation(k=2, alpha=3.0),
    NeighbourhoodBlending(thresholds=(0.8, 0.9), k=4),
)


@pytest.mark.parametrize("gallery", [None, "train"])
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_retrieval_compares_what_the_steps_make(step, gallery):
    parts = splits()
    own = np.arange(20) if gallery is None else None
    queries, searched = (normalise(parts[s].vectors) for s in ("test", gallery or "test"))
    queries, searched = step(queries, searched, own, parts.get)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([queries, searched]), axis=1), 1, atol=1e-5)
    retrieval = Retrieval("title", after=(step,), gallery=gallery)
    retrieval.check(parts.get)
    hits = top_k(queries, searched, 1, exclude=own)[0][:, 0] // 4 == np.arange(20) // 4
    assert retrieval(parts.get)["test/cmc@1"] == pytest.approx(hits.mean())


def test_steps_are_taken_in_their_order():
    parts = splits()
    first, second = QueryExpansion(k=3), DatabaseAugmentation(k=3)
    x = normalise(parts["test"].vectors)
    one, other = (b(*a(x, x, None, None), None, None) for a, b in ((first, second), (second, first)))
    assert not np.allclose(one[0], other[0])
    Retrieval("title", after=(STEPS[0], first, second))(parts.get)
    with pytest.raises(UserError, match="make it the first step"):
        Retrieval("title", after=(STEPS[0], STEPS[0]))(parts.get)


def test_each_part_is_whitened_by_itself_and_has_unit_length_before_they_are_joined():
    parts = splits()
    x = normalise(parts["test"].vectors)
    whiten = Whitening(dim=8, shrinkage=0.1, parts=(3, 5))
    train = normalise(parts["train"].vectors)
    first, second = fit_whitening(train[:, :3], 3, shrinkage=0.1), fit_whitening(train[:, 3:], 5, shrinkage=0.1)

    def each(vectors):
        return np.concatenate([normalise(first(vectors[:, :3])), normalise(second(vectors[:, 3:]))], axis=1)

    expected = normalise(fit_whitening(each(train), 8, shrinkage=0.1)(each(x)))
    np.testing.assert_allclose(whiten(x, x, None, parts.get)[0], expected, atol=1e-5)


def test_a_whitening_is_fitted_once_to_the_same_embeddings(monkeypatch):
    parts, fits = splits(), []
    monkeypatch.setattr(
        whitening, "fit_whitening", lambda *args, **rest: fits.append(1) or fit_whitening(*args, **rest)
    )
    for step, fitted in ((Whitening(dim=4), 1), (Whitening(dim=4), 0), (Whitening(dim=5), 1)):
        before = len(fits)
        Retrieval("title", after=(step,))(parts.get)
        assert len(fits) - before == fitted
    Retrieval("title", after=(Whitening(dim=4),))(splits().get)
    assert len(fits) == 3, "other embeddings"


@pytest.mark.parametrize(
    "step, sentence",
    [
        (QueryExpansion(k=20), r"QueryExpansion\.k=20 is too large for a gallery of 20"),
        (DatabaseAugmentation(k=30), r"DatabaseAugmentation\.k=30"),
        (NeighbourhoodBlending(thresholds=(0.9,)), r"NeighbourhoodBlending\.k=50"),
        (Whitening(dim=20), r"Whitening\.dim=20 needs more than 20 vectors.*'train'"),
        (Whitening(dim=4, labels="name"), "Whitening.labels='name' is not a column"),
        (Whitening(dim=9), "Whitening of split 'train': dim=9 must be at least 1 and at most 8"),
        (Whitening(dim=4, parts=(3, 4)), r"parts=\(3, 4\) have 7 dimensions in all, but the vectors have 8"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(step, sentence):
    retrieval = Retrieval("title", after=(step,))
    with pytest.raises(UserError, match=sentence):
        retrieval.check(splits().get)
        retrieval(splits().get)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: QueryExpansion(k=0), r"QueryExpansion\.k=0"),
        (lambda: DatabaseAugmentation(alpha=-1), r"DatabaseAugmentation\.alpha=-1"),
        (lambda: NeighbourhoodBlending(thresholds=()), "thresholds"),
        (lambda: NeighbourhoodBlending(thresholds=(0.9, -0.1)), "thresholds"),
        (lambda: NeighbourhoodBlending(thresholds=(0.9,), k=1), r"k=1 "),
        (lambda: Whitening(dim=0), r"Whitening\.dim=0"),
        (lambda: Whitening(dim=4, shrinkage=2.0), r"shrinkage=2\.0"),
        (lambda: Whitening(dim=4, parts=(0, 8)), r"Whitening\.parts=\(0, 8\)"),
        (lambda: Retrieval(after=("whiten",)), "after='whiten' must be a post-processing step"),
        (lambda: Retrieval(after=QueryExpansion()), "after"),
    ],
)
def test_bad_fields(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


def test_the_steps_are_options():
    check_fields(Retrieval(after=STEPS))


def test_item_numbers_and_the_way_to_join_photos_are_checked():
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="item numbers from 0 to 2147483647"):
        top_items(x, x, np.arange(3) + 2**40, 1)
    with pytest.raises(UserError, match="by='min': choose max or mean"):
        top_items(x, x, [0, 1, 1], 1, by="min")
    np.testing.assert_array_equal(top_items(x, x, [0, 1, 1], 1)[0][:, 0], [0, 1, 1])
