"""Contrastive losses against loops over the papers' formulas, their invariances, bad inputs, and many devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from traffic import sent

from ssljax.losses import (
    blockwise,
    decoupled,
    embedding_std,
    in_batch_info_nce,
    info_nce,
    l2_normalise,
    nt_xent,
    re_ssl,
    siglip,
    sinkhorn,
    sup_con,
    swav,
)
from ssljax.sharding import batch_sharding, make_mesh


def vectors(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def mean(rows):
    return sum(rows) / max(len(rows), 1)


def nt_xent_loop(z1, z2, temperature):
    z, n = unit(jnp.concatenate([z1, z2])), len(z1)
    s = lambda i, j: jnp.exp(z[i] @ z[j] / temperature)  # noqa: E731
    return mean(
        [-jnp.log(s(i, (i + n) % (2 * n)) / sum(s(i, j) for j in range(2 * n) if j != i)) for i in range(2 * n)]
    )


def decoupled_loop(z1, z2, temperature, sigma=None):
    views, n, rows = (unit(z1), unit(z2)), len(z1), []
    cosine = [views[0][i] @ views[1][i] for i in range(n)]
    for k in range(2):
        for i in range(n):
            weight = 1.0
            if sigma is not None:
                exps = [jnp.exp(jax.lax.stop_gradient(c) / sigma) for c in cosine]
                weight = 2 - exps[i] / mean(exps)
            negatives = [jnp.exp(views[k][i] @ view[j] / temperature) for view in views for j in range(n) if j != i]
            rows.append(-weight * cosine[i] / temperature + jnp.log(sum(negatives)))
    return mean(rows)


def sup_con_loop(z, temperature, labels):
    z, rows = unit(z), []
    kept = [i for i in range(len(z)) if labels[i] >= 0]
    for i in kept:
        others = [a for a in kept if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        total = sum(jnp.exp(z[i] @ z[a] / temperature) for a in others) if others else 1
        if positives:
            rows.append(-mean([jnp.log(jnp.exp(z[i] @ z[p] / temperature) / total) for p in positives]))
    return mean(rows)


def info_nce_loop(anchor, positive, queue, temperature):
    rows = []
    for q, k in zip(unit(anchor), unit(positive), strict=True):
        numerator = jnp.exp(q @ k / temperature)
        rows.append(-jnp.log(numerator / (numerator + sum(jnp.exp(q @ n / temperature) for n in unit(queue)))))
    return mean(rows)


def in_batch_info_nce_loop(anchor, key, temperature, valid=None, ids=None):
    q, k = unit(anchor), unit(key)
    s = lambda i, j: jnp.exp(q[i] @ k[j] / temperature)  # noqa: E731
    compared = pairs_of(len(q), valid, ids)
    return mean([-jnp.log(s(i, i) / sum(s(i, j) for j in others)) for i, others in compared.items()])


def re_ssl_loop(student, teacher, queue, temperature):
    rows = []
    for s, t in zip(unit(student), jax.lax.stop_gradient(unit(teacher)), strict=True):
        keys = jax.lax.stop_gradient(unit(queue))
        p = [jnp.exp(t @ key / jax.lax.stop_gradient(0.4 * temperature)) for key in keys]
        q = [jnp.exp(s @ key / temperature) for key in keys]
        rows.append(-sum(a / sum(p) * jnp.log(b / sum(q)) for a, b in zip(p, q, strict=True)))
    return mean(rows)


def siglip_loop(z1, z2, temperature, valid=None, ids=None):
    z1, z2 = unit(z1), unit(z2)
    sign = lambda i, j: 1.0 if i == j else -1.0  # noqa: E731
    logit = lambda i, j: sign(i, j) * (z1[i] @ z2[j] / temperature - 3.0)  # noqa: E731
    compared = pairs_of(len(z1), valid, ids)
    return mean([-sum(jax.nn.log_sigmoid(logit(i, j)) for j in others) for i, others in compared.items()])


def pairs_of(n, valid=None, ids=None):
    """Each item that is valid → itself, and those of the valid ones that have another id."""
    kept, ids = range(n) if valid is None else np.flatnonzero(valid[:n]).tolist(), range(n) if ids is None else ids
    return {i: [j for j in kept if j == i or ids[j] != ids[i]] for i in kept}


LABELS = np.array([0, 1, 0, 2, -1, 1, 0, 3, 1, -1, 2, 2, 0, 4, 4, 1])


# Of photos and titles: which are there, and which belong to one product.
SOME = {"valid": np.array([1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1], bool), "ids": np.maximum(LABELS, 0)}


def of_some(loss, *z, **settings):
    """A loss with items left out, and without negatives of one id."""
    return loss(*z, **settings, **{name: jnp.asarray(x[: len(z[0])]) for name, x in SOME.items()})


def siglip_of(*z, temperature, **some):
    return siglip(*z, scale=1 / temperature, bias=-3.0, **some)


def re_ssl_of(s, t, q, *, temperature):
    return re_ssl(s, t, q, student_temperature=temperature, teacher_temperature=0.4 * temperature)


def sup_con_of(z, *, temperature):
    return sup_con(z, jnp.asarray(LABELS[: len(z)]), temperature=temperature)


# Loss, its loop, and the lengths of its inputs for a batch of B and a queue of K.
LOSSES = {
    "nt_xent": (nt_xent, nt_xent_loop, "BB"),
    "decoupled": (decoupled, decoupled_loop, "BB"),
    "decoupled weighted": (
        lambda *z, temperature: decoupled(*z, temperature=temperature, sigma=0.5),
        lambda *z: decoupled_loop(*z, sigma=0.5),
        "BB",
    ),
    "sup_con": (sup_con_of, lambda z, t: sup_con_loop(z, t, LABELS), "B"),
    "info_nce": (info_nce, info_nce_loop, "BBK"),
    "in_batch_info_nce": (in_batch_info_nce, in_batch_info_nce_loop, "BB"),
    "re_ssl": (re_ssl_of, re_ssl_loop, "BBK"),
    "siglip": (siglip_of, siglip_loop, "BB"),
    "in_batch_info_nce of some": (
        lambda *z, temperature: of_some(in_batch_info_nce, *z, temperature=temperature),
        lambda *z: in_batch_info_nce_loop(*z, **SOME),
        "BB",
    ),
    "siglip of some": (
        lambda *z, temperature: of_some(siglip_of, *z, temperature=temperature),
        lambda *z: siglip_loop(*z, **SOME),
        "BB",
    ),
}


def inputs(name, batch, keys, features, dtype=jnp.float32):
    lengths = [batch if c == "B" else keys for c in LOSSES[name][2]]
    return [vectors(length, features, seed=i).astype(dtype) for i, length in enumerate(lengths)]


def gradients(loss, x, temperature):
    """The value, and the gradients by each input and by the temperature."""
    arguments = tuple(range(len(x) + 1))
    return jax.jit(jax.value_and_grad(lambda *a: loss(*a[:-1], temperature=a[-1]), arguments))(*x, temperature)


def assert_equal(a, b, tolerance=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance * max(1, np.abs(y).max()), rtol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch, keys, features, temperature", [(5, 6, 3, 0.5), (3, 1, 8, 0.2), (2, 5, 2, 1.0)])
def test_equals_the_loop(name, batch, keys, features, temperature, monkeypatch):
    loss, loop, _ = LOSSES[name]
    x = inputs(name, batch, keys, features)
    expected = jax.jit(jax.value_and_grad(loop, tuple(range(len(x) + 1))))(*x, temperature)
    assert_equal(gradients(loss, x, temperature), expected)
    monkeypatch.setattr(blockwise, "BLOCK", 4)
    assert_equal(gradients(lambda *a, **t: loss(*a, **t), x, temperature), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_one_device_equals_eight_and_embeddings_travel_but_no_logits_and_no_queue(name):
    loss, x = LOSSES[name][0], inputs(name, 16, 56, 4)
    one = gradients(loss, x, 0.2)
    mesh = make_mesh(2)
    placed = [jax.device_put(z, batch_sharding(mesh)) for z in x]
    arguments = tuple(range(len(x)))
    with jax.set_mesh(mesh):
        assert_equal(gradients(lambda *a, **t: loss(*a, **t), placed, 0.2), one)
        function = jax.jit(
            jax.value_and_grad(lambda *z: loss(*z, temperature=0.2), arguments),
            out_shardings=(None, (placed[0].sharding,) * len(x)),
        )
        shapes = [array.shape for array in sent(function.lower(*placed).compile())]
    assert shapes
    views = 32 if name in ("nt_xent", "decoupled", "decoupled weighted") else 16
    largest = views * (5 if "siglip" in name else 4)  # its bias is one more column
    assert max(int(np.prod(shape)) for shape in shapes) <= largest, shapes


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("batch", [1, 4])
def test_extreme_inputs_stay_finite(name, dtype, batch):
    x = inputs(name, batch, 6, 3, dtype)
    arguments = tuple(range(len(x) + 1))
    both = jax.jit(jax.value_and_grad(lambda *a: LOSSES[name][0](*a[:-1], temperature=a[-1]), arguments))
    for same in (x, *([jnp.full_like(z, fill) for z in x] for fill in (0.0, 1.0, 1e4))):
        value, grads = both(*same, 0.01)
        assert np.isfinite(float(value)) and value.dtype == jnp.float32
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in grads)


@pytest.mark.parametrize("name", LOSSES)
def test_batch_order_and_rotations_do_not_matter(name):
    loss, x = LOSSES[name][0], inputs(name, 16, 6, 4)
    base, rotation = loss(*x, temperature=0.2), np.linalg.qr(vectors(4, 4, seed=9))[0]
    assert_equal(loss(*(z @ rotation for z in x), temperature=0.2), base)
    if name != "sup_con" and "of some" not in name:  # labels move along: below
        order = np.random.default_rng(0).permutation(16)
        assert_equal(loss(*(z[order] if len(z) == 16 else z for z in x), temperature=0.2), base)


@pytest.mark.parametrize("name", ["nt_xent", "decoupled", "decoupled weighted", "siglip"])
def test_views_may_be_swapped(name):
    z1, z2 = inputs(name, 5, 0, 4)
    assert_equal(LOSSES[name][0](z2, z1, temperature=0.2), LOSSES[name][0](z1, z2, temperature=0.2))


def test_sup_con_order_names_of_labels_and_items_left_out_do_not_matter():
    z, labels = vectors(16, 4), jnp.asarray(LABELS)
    base, order = sup_con(z, labels, temperature=0.2), np.random.default_rng(0).permutation(16)
    assert_equal(sup_con(z[order], labels[order], temperature=0.2), base)
    assert_equal(sup_con(z, jnp.where(labels < 0, -1, 1000 - labels), temperature=0.2), base)
    assert_equal(sup_con(z[LABELS >= 0], labels[LABELS >= 0], temperature=0.2), base)
    grad = jax.grad(lambda z: sup_con(z, labels, temperature=0.2))(z)
    assert not np.any(grad[LABELS < 0])


@pytest.mark.parametrize("loss", [in_batch_info_nce, siglip_of])
def test_items_left_out_count_for_nothing(loss):
    z, order = (vectors(16, 4), vectors(16, 4, seed=1)), np.random.default_rng(0).permutation(16)
    some = {name: jnp.asarray(x) for name, x in SOME.items()}
    both = jax.value_and_grad(lambda *z, **some: loss(*z, temperature=0.2, **some), (0, 1))
    base, grads = both(*z, **some)
    kept = SOME["valid"]
    value, those = both(*(x[kept] for x in z), ids=some["ids"][kept])
    assert_equal(base, value)
    for grad, of_kept in zip(grads, those, strict=True):
        assert not np.any(grad[~kept])
        assert_equal(grad[kept], of_kept)
    permuted = loss(*(x[order] for x in z), temperature=0.2, **{name: x[order] for name, x in some.items()})
    assert_equal(permuted, base)
    names = loss(*z, temperature=0.2, valid=some["valid"], ids=-1000 - some["ids"])
    assert_equal(names, base)
    value, grads = both(*z, valid=jnp.zeros(16, bool))
    assert float(value) == 0 and not any(np.any(grad) for grad in grads)
    assert float(base) != float(loss(*z, temperature=0.2, valid=some["valid"]))


def test_losses_of_pairs_have_their_known_values():
    z = jnp.eye(3)  # cosines of 1 with the own one, and of 0 with the two others
    assert float(in_batch_info_nce(z, z, temperature=0.5)) == pytest.approx(np.log1p(2 * np.exp(-2)))
    positive, negative = np.log1p(np.exp(-(10 - 2.0))), np.log1p(np.exp(-2.0))
    assert float(siglip(z, z, scale=10.0, bias=-2.0)) == pytest.approx(positive + 2 * negative)


@pytest.mark.parametrize("loss", [in_batch_info_nce, siglip_of])
def test_pairs_take_the_memory_of_the_batch_and_not_of_all_pairs(loss):
    n, z = 4096, jax.ShapeDtypeStruct((4096, 8), jnp.float32)
    some = {"valid": jax.ShapeDtypeStruct((n,), bool), "ids": jax.ShapeDtypeStruct((n,), jnp.int32)}
    gradient = jax.grad(lambda a, b, some: loss(a, b, temperature=0.2, **some), (0, 1))
    compiled = jax.jit(gradient).lower(z, z, some).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 2


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, -1, -1, -1], [0, -1, -1, -1]])
def test_sup_con_without_a_positive_is_zero_with_a_zero_gradient(labels):
    value, grad = jax.value_and_grad(lambda z: sup_con(z, jnp.array(labels), temperature=0.2))(vectors(4, 3))
    assert float(value) == 0 and not np.any(grad)


def test_sup_con_of_two_views_is_nt_xent():
    z1, z2 = vectors(5, 4), vectors(5, 4, seed=1)
    labels = jnp.tile(jnp.arange(5), 2)
    assert_equal(sup_con(jnp.concatenate([z1, z2]), labels, temperature=0.2), nt_xent(z1, z2, temperature=0.2))


@pytest.mark.parametrize("name", ["info_nce", "re_ssl"])
def test_places_not_valid_count_for_nothing(name):
    anchor, positive, queue = inputs(name, 4, 6, 3)
    valid = jnp.array([True, False, True, False, False, True])
    loss = {
        "info_nce": lambda queue, **v: info_nce(anchor, positive, queue, temperature=0.2, **v),
        "re_ssl": lambda queue, **v: re_ssl(
            anchor, positive, queue, student_temperature=0.1, teacher_temperature=0.04, **v
        ),
    }[name]
    assert_equal(loss(queue, valid=valid), loss(queue[valid]))
    value, grad = jax.value_and_grad(lambda queue: loss(queue, valid=jnp.zeros(6, bool)))(queue)
    assert float(value) == 0 and not np.any(grad)


def test_bfloat16_products_are_near():
    z1, z2, queue = vectors(16, 8), vectors(16, 8, seed=1), vectors(24, 8, seed=2)
    for loss in (nt_xent, decoupled, in_batch_info_nce, lambda *z, **t: info_nce(*z, queue, **t)):
        exact = jax.value_and_grad(loss)(z1, z2, temperature=0.2)
        assert_equal(jax.value_and_grad(loss)(z1, z2, temperature=0.2, dtype=jnp.bfloat16), exact, tolerance=2e-2)


def sinkhorn_loop(scores, epsilon, iterations):
    q = np.exp(np.asarray(scores, np.float64) / epsilon).T
    (k, b), q = q.shape, q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(axis=1, keepdims=True) / k
        q = q / q.sum(axis=0, keepdims=True) / b
    return (q * b).T


@pytest.mark.parametrize("shape, iterations", [((6, 4), 3), ((3, 7), 1), ((1, 2), 3)])
def test_sinkhorn_equals_the_loop(shape, iterations):
    scores = jnp.tanh(vectors(*shape))
    got = sinkhorn(scores, epsilon=0.05, iterations=iterations)
    assert_equal(got, sinkhorn_loop(scores, 0.05, iterations))
    assert_equal(jnp.sum(got, axis=1), jnp.ones(shape[0]))


def test_sinkhorn_uses_the_prototypes_alike_and_has_no_gradient():
    scores = jnp.tanh(vectors(8, 4))
    assert_equal(jnp.sum(sinkhorn(scores, epsilon=0.5, iterations=50), axis=0), jnp.full(4, 2.0), tolerance=1e-3)
    assert not np.any(jax.grad(lambda s: jnp.sum(sinkhorn(s, epsilon=0.5, iterations=3) ** 2))(scores))
    for extreme in (1e4, 0.0):
        assert bool(jnp.all(jnp.isfinite(sinkhorn(scores * extreme, epsilon=0.05, iterations=3))))


def test_swav_equals_the_loop():
    scores, assignments = vectors(5, 4), jax.nn.softmax(vectors(5, 4, seed=1))

    def loop(scores):
        p = [jnp.exp(row / 0.1) / sum(jnp.exp(row / 0.1)) for row in scores]
        return mean([-sum(q[k] * jnp.log(p[i][k]) for k in range(4)) for i, q in enumerate(assignments)])

    assert_equal(
        jax.value_and_grad(lambda s: swav(s, assignments, temperature=0.1))(scores), jax.value_and_grad(loop)(scores)
    )
    assert not np.any(jax.grad(lambda q: swav(scores, q, temperature=0.1))(assignments))
    for extreme in (0.0, 1e4):
        value, grad = jax.value_and_grad(lambda s: swav(s, assignments, temperature=0.1))(scores * extreme)
        assert np.isfinite(float(value)) and bool(jnp.all(jnp.isfinite(grad)))


def test_swav_of_a_batch_on_eight_devices_equals_one():
    scores, other = jnp.tanh(vectors(16, 6)), jnp.tanh(vectors(16, 6, seed=1))

    def loss(scores, other):
        return swav(scores, sinkhorn(other, epsilon=0.05, iterations=3), temperature=0.1)

    mesh = make_mesh()
    one = jax.value_and_grad(loss)(scores, other)
    with jax.set_mesh(mesh):
        placed = jax.device_put((scores, other), batch_sharding(mesh))
        assert_equal(jax.jit(jax.value_and_grad(loss))(*placed), one)


@pytest.mark.parametrize("loss", [nt_xent, decoupled, in_batch_info_nce, swav])
def test_pairs_that_do_not_fit_are_named(loss):
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 3\)"):
        loss(vectors(4, 3), vectors(5, 3), temperature=0.2)


def test_shapes_that_do_not_fit_are_named():
    x = vectors(4, 3)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 3\)"):
        siglip(x, vectors(5, 3), scale=10.0, bias=-10.0)
    with pytest.raises(ValueError, match=r"\(6, 2\).*\(4, 3\)"):
        info_nce(x, x, vectors(6, 2), temperature=0.2)
    with pytest.raises(ValueError, match=r"\(6, 2\).*\(4, 3\)"):
        re_ssl(x, x, vectors(6, 2), student_temperature=0.1, teacher_temperature=0.04)
    with pytest.raises(ValueError, match=r"\(5,\).*\(6, 3\)"):
        info_nce(x, x, vectors(6, 3), temperature=0.2, valid=jnp.ones(5, bool))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5,\)"):
        sup_con(x, jnp.arange(5), temperature=0.2)


def test_l2_normalise_is_unit_and_its_gradient_at_zero_finite():
    np.testing.assert_allclose(jnp.linalg.norm(l2_normalise(vectors(5, 3) * 1e3), axis=1), np.ones(5), rtol=1e-6)
    assert bool(jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(l2_normalise(x)))(jnp.zeros((2, 3))))))


def test_embedding_std_is_one_when_spread_and_zero_when_collapsed():
    assert float(embedding_std(vectors(4096, 16))) == pytest.approx(1.0, abs=0.03)
    assert float(embedding_std(jnp.ones((8, 16)))) == pytest.approx(0.0, abs=1e-6)
