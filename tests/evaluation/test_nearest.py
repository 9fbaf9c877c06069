"""The chunked top-k is what sorting all scores gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.evaluation.nearest import _chunk_size, _nearest, top_k
from ssljax.types import UserError


def reference(queries, gallery, k, exclude=None):
    """Rows and scores by sorting; the stable order is the rule for ties."""
    scores = queries @ gallery.T
    if exclude is not None:
        scores[np.arange(len(queries)), exclude] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, rows, axis=1)
    rows = np.where(np.isneginf(best), -1, rows)
    missing = ((0, 0), (0, k - rows.shape[1]))
    return np.pad(rows, missing, constant_values=-1), np.pad(best, missing, constant_values=-np.inf)


# few sizes, as each compiles, and few values, so that many scores are equal
@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 7), st.integers(0, 5), st.sampled_from([1, 3, 9]), st.sampled_from([1, 4]), st.booleans(), st.data()
)
def test_equals_sorting_with_ties_to_the_lower_row(queries, items, k, chunk, excluding, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    q, g = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (queries, items))
    exclude = rng.integers(0, items, queries) if excluding and items else None
    rows, scores = top_k(q, g, k, exclude=exclude, chunk=chunk)
    expected_rows, expected_scores = reference(q, g, k, exclude)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_of_equal_rows_the_lower_comes_first():
    rows, _ = top_k(np.ones((2, 4), np.float32), np.ones((300, 4), np.float32), 5)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4]] * 2)


def test_permuting_queries_permutes_the_result():
    rng = np.random.default_rng(0)
    q, g = rng.standard_normal((10, 8), np.float32), rng.standard_normal((30, 8), np.float32)
    order = rng.permutation(10)
    np.testing.assert_array_equal(top_k(q, g, 4, chunk=3)[0][order], top_k(q[order], g, 4, chunk=3)[0])


def test_one_program_serves_all_chunks():
    rng = np.random.default_rng(0)
    before = _nearest._cache_size()
    top_k(rng.standard_normal((23, 6), np.float32), rng.standard_normal((31, 6), np.float32), 2, chunk=4)
    assert _nearest._cache_size() == before + 1


def test_chunks_keep_the_scores_in_memory_few():
    for queries, items in ((1, 10), (100_000, 10), (100_000, 10**6), (3, 10**9), (0, 0)):
        chunk = _chunk_size(queries, items)
        assert 1 <= chunk <= 1024 and (chunk == 1 or chunk * items <= 2**25)


def test_dimensions_must_agree():
    with pytest.raises(UserError, match="the queries have 3 dimensions and the gallery 4"):
        top_k(np.ones((2, 3), np.float32), np.ones((5, 4), np.float32), 1)
