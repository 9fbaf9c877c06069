"""Sums over pairs in blocks against the dense formula, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from target import mesh_of

from ssljax.losses import blockwise
from ssljax.losses.blockwise import (
    MASKED,
    cross_entropy_of_products,
    logsumexp_of_products,
    logsumexp_within,
    sum_of_softplus,
)
from ssljax.sharding import batch_sharding, make_mesh

SHAPES = [(5, 7, 3), (1, 9, 4), (13, 4, 2), (16, 24, 3)]


def dense(rows, columns, row_ids=None, column_ids=None, valid=None):
    counts = jnp.ones((len(rows), len(columns)), bool)
    if row_ids is not None:
        counts &= row_ids[:, None] != column_ids[None]
    if valid is not None:
        counts &= valid[None]
    return jax.nn.logsumexp(jnp.where(counts, rows @ columns.T, MASKED), axis=1)


def some(shape, seed=0):
    """Rows, columns, their ids, which columns are valid, and a weight for each row."""
    (n, k, d), rng = shape, np.random.default_rng(seed)
    rows, columns = (jnp.asarray(rng.normal(size=(length, d)), jnp.float32) for length in (n, k))
    row_ids, column_ids = (jnp.asarray(rng.integers(0, 3, length), jnp.int32) for length in (n, k))
    return rows, columns, row_ids, column_ids, jnp.asarray(rng.random(k) < 0.7), jnp.asarray(rng.random(n), jnp.float32)


def gradients(reduce, weights, *x):
    """The rows' results, and the gradients of their weighted sum; rows without any column count for nothing."""

    def loss(*x):
        y = reduce(*x)
        return jnp.sum(jnp.where(y > 0.9 * MASKED, weights * y, 0)), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, tuple(range(len(x))), has_aux=True))(*x)
    return y, grads


def assert_equal(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), a, b)


@pytest.fixture(params=[2**20, 16, 7], ids="block{}".format)
def block(request, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masks", ["none", "ids", "ids and valid"])
def test_products_equal_the_dense_form(shape, masks, block):
    rows, columns, row_ids, column_ids, valid, weights = some(shape)
    ids = {} if masks == "none" else {"row_ids": row_ids, "column_ids": column_ids}
    given = ids | ({"valid": valid} if masks == "ids and valid" else {})
    got, want = (
        gradients(lambda r, c, f=f: f(r, c, **given), weights, rows, columns) for f in (logsumexp_of_products, dense)
    )
    assert_equal(got, want)


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("masks", ["own", "ids and valid"])
def test_products_within_equal_the_dense_form(n, masks, block):
    z, _, ids, _, _, weights = some((n, n, 3))
    given = {} if masks == "own" else {"ids": ids, "valid": jnp.arange(n) % 3 != 0}

    def expected(z):
        same = given.get("ids", jnp.arange(n))
        valid = given.get("valid", jnp.ones(n, bool))
        return jnp.where(valid, dense(z, z, same, same, valid), MASKED)

    assert_equal(gradients(lambda z: logsumexp_within(z, **given), weights, z), gradients(expected, weights, z))


def test_sum_of_softplus_equals_the_dense_form(block):
    rows, columns, _, _, valid, weights = some((5, 7, 3))
    expected = lambda r, c: jnp.sum(jax.nn.softplus(r @ c.T), axis=1, where=valid[None])  # noqa: E731
    got = gradients(lambda r, c: sum_of_softplus(r, c, valid=valid), weights, rows, columns)
    assert_equal(got, gradients(expected, weights, rows, columns))


def test_cross_entropy_equals_the_dense_form(block):
    rows, columns, _, _, valid, weights = some((5, 7, 3))
    targets = some((5, 7, 3), seed=1)[0]

    def expected(rows):
        p, q = (jnp.where(valid[None], x @ columns.T, MASKED) for x in (targets, rows))
        return -jnp.sum(jax.nn.softmax(p) * jax.nn.log_softmax(q), axis=1, where=valid[None])

    got = gradients(lambda r: cross_entropy_of_products(r, targets, columns, valid=valid), weights, rows)
    assert_equal(got, gradients(expected, weights, rows))
    grads = jax.grad(lambda t, c: jnp.sum(cross_entropy_of_products(rows, t, c)), (0, 1))(targets, columns)
    assert not any(np.any(g) for g in grads)


@pytest.mark.parametrize("shape", [(16, 24, 3), (5, 13, 2)], ids=str)
@pytest.mark.parametrize("shards", [1, 4])
def test_one_device_equals_eight(shape, shards, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 16)
    rows, columns, row_ids, column_ids, valid, weights = some(shape)
    cases = {
        "of": (lambda r, c: logsumexp_of_products(r, c, row_ids=row_ids, column_ids=column_ids, valid=valid)),
        "within": (lambda r, c: logsumexp_within(r)),
        "softplus": sum_of_softplus,
        "cross-entropy": (lambda r, c: cross_entropy_of_products(r, 2 * jax.lax.stop_gradient(r), c)),
    }
    one = {name: gradients(f, weights, rows, columns) for name, f in cases.items()}
    mesh = make_mesh(shards)
    place = lambda x: jax.device_put(x, batch_sharding(mesh)) if len(x) % 8 == 0 else x  # noqa: E731
    with jax.set_mesh(mesh):
        eight = {name: gradients(f, weights, place(rows), place(columns)) for name, f in cases.items()}
    assert_equal(one, eight)


def test_row_without_a_column_is_finite_and_gets_no_gradient(block):
    z = some((5, 5, 3))[0]
    same = jnp.zeros(5, jnp.int32)
    for reduce in (lambda z: logsumexp_within(z, ids=same), lambda z: logsumexp_of_products(z, z, valid=same > 0)):
        y, pull = jax.vjp(reduce, z)
        assert_equal(y, jnp.full(5, MASKED))
        assert not np.any(pull(jnp.ones(5))[0])


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_large_products_do_not_overflow(scale, block):
    rows, columns, *_, weights = some((5, 7, 3))
    rows, columns = scale * rows, scale * columns
    y, grads = gradients(logsumexp_of_products, weights, rows, columns)
    assert_equal(y, dense(rows, columns))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in grads)


def test_bfloat16_products_have_float32_sums(block):
    rows, columns, *_, weights = some((16, 24, 8))
    half = rows.astype(jnp.bfloat16), columns.astype(jnp.bfloat16)
    y, grads = gradients(logsumexp_of_products, weights, *half)
    assert y.dtype == jnp.float32 and all(g.dtype == jnp.bfloat16 for g in grads)
    want, want_grads = gradients(dense, weights, *(x.astype(jnp.float32) for x in half))
    assert_equal(y, want)  # the products of bfloat16 numbers are exact in float32
    assert_equal([g.astype(jnp.float32) for g in grads], list(want_grads), tolerance=3e-2)


def test_no_array_is_as_large_as_all_products():
    n, d = 4096, 8
    z = jax.ShapeDtypeStruct((n, d), jnp.float32)
    for reduce in (logsumexp_within, lambda z: logsumexp_of_products(z, z)):
        compiled = jax.jit(jax.grad(lambda z, f=reduce: jnp.sum(f(z)))).lower(z).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 2


def test_shapes_that_do_not_fit_are_named():
    x, y = jnp.zeros((4, 3)), jnp.zeros((5, 2))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 2\)"):
        logsumexp_of_products(x, y)
    with pytest.raises(ValueError, match=r"valid of shape \(3,\).*\(4, 3\)"):
        logsumexp_within(x, valid=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="give both or none"):
        logsumexp_of_products(x, x, row_ids=jnp.arange(4))


@pytest.mark.parametrize("platform, products", [("cpu", blockwise.BLOCK), ("tpu", blockwise.ACCELERATOR_BLOCK)])
def test_blocks_have_the_size_that_suits_the_target(platform, products):
    with jax.sharding.use_abstract_mesh(mesh_of(platform, devices=4)):
        assert blockwise.block_size() == products
