"""Only finite matrices of real numbers pass, and cosines are right at any scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.evaluation.vectors import checked, normalise
from ssljax.types import UserError


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64, np.uint8, np.int64])
def test_real_types_are_cast(dtype):
    x = checked(np.array([[1, 2], [3, 4]], dtype), "queries")
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])


def test_jax_arrays_and_other_orders_are_taken():
    np.testing.assert_array_equal(checked(jnp.ones((2, 3)), "queries"), np.ones((2, 3)))
    assert checked(np.ones((4, 6))[::2, ::2].T, "queries").flags.c_contiguous


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(3),
        np.ones((1, 2, 3)),
        np.ones((2, 0)),
        np.ones((2, 2), complex),
        np.ones((2, 2), bool),
        np.array([["a"]]),
        np.array([[1, None]], object),
        np.float32(1),
    ],
)
def test_what_is_no_real_matrix_is_refused(wrong):
    with pytest.raises(UserError, match="queries"):
        checked(wrong, "queries")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_in_float32_is_refused_with_its_row(value):
    x = np.ones((4, 2))
    x[2, 1] = value
    with pytest.raises(UserError, match=r"1 of 4 rows.*row 2"):
        checked(x, "vectors")


def test_wrong_dimension_is_refused():
    with pytest.raises(UserError, match=r"2 dimensions.* 3"):
        checked(np.ones((4, 2)), "queries", 3)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20, 2e37])
def test_unit_length_at_any_scale(scale):
    x = np.array([[3, 4], [0, 0], [-5, 12]], np.float32) * np.float32(scale)
    np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [0, 0], [-5 / 13, 12 / 13]], rtol=1e-6)
    assert normalise(x).dtype == np.float32


def test_none_stays_none():
    assert normalise(np.empty((0, 3), np.float32)).shape == (0, 3)
