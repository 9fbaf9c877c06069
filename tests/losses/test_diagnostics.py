"""Diagnostics against loops over all pairs, and at the two ends: collapsed and spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import bad_inputs, normal
from jax.sharding import NamedSharding, PartitionSpec

from ssljax import losses
from ssljax.sharding import batch_sharding, make_mesh

LABELS = np.array([0, 1, 0, 2, 1, 0, -1, 5, -1, 2], np.int32)
Z1, Z2 = normal(10, 4), normal(10, 4, seed=1)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    x = np.exp(np.asarray(x, np.float64))
    return x / x.sum(-1, keepdims=True)


def test_entropy_and_kl_equal_their_formulas():
    logits = 2 * normal(2, 6, 5)
    p = softmax(logits).reshape(12, 5)
    assert float(losses.entropy(p)) == pytest.approx(np.mean([-sum(r * np.log(r)) for r in p]), rel=1e-5)
    mean = p.mean(0)
    assert float(losses.kl_to_uniform(p)) == pytest.approx(sum(mean * np.log(mean / (1 / 5))), rel=1e-5)


def test_entropy_and_kl_tell_the_two_collapses_apart():
    uniform, one = jnp.full((8, 16), 1 / 16), jnp.zeros((8, 16)).at[:, 3].set(1)
    spread = jnp.tile(jnp.eye(16), (2, 1))
    assert [float(losses.entropy(x)) for x in (uniform, one, spread)] == pytest.approx([np.log(16), 0, 0], abs=1e-5)
    kls = [float(losses.kl_to_uniform(x)) for x in (uniform, one, spread)]
    assert kls == pytest.approx([0, np.log(16), 0], abs=1e-5)


def test_view_cosines_equal_the_loop():
    cosine = unit(Z1) @ unit(Z2).T
    expected = np.diagonal(cosine).mean(), cosine[~np.eye(10, dtype=bool)].mean()
    np.testing.assert_allclose(losses.view_cosines(Z1, Z2), expected, atol=1e-6)


def test_label_cosines_equal_the_loop():
    positive, negative, z = [], [], unit(Z1)
    for i, a in enumerate(LABELS):
        for j, b in enumerate(LABELS):
            if i != j and a >= 0 and b >= 0:
                (positive if a == b else negative).append(z[i] @ z[j])
    expected = np.mean(positive), np.mean(negative)
    np.testing.assert_allclose(losses.label_cosines(Z1, jnp.asarray(LABELS)), expected, atol=1e-6)


def test_alignment_and_uniformity_equal_the_loop():
    a, b = unit(Z1), unit(Z2)
    expected = np.mean([sum((x - y) ** 2) for x, y in zip(a, b, strict=True)])
    assert float(losses.alignment(Z1, Z2)) == pytest.approx(expected, rel=1e-5)
    for sample, rows in [(512, a), (4, a[:4])]:
        pairs = [np.exp(-2 * sum((x - y) ** 2)) for i, x in enumerate(rows) for y in rows[i + 1 :]]
        assert float(losses.uniformity(Z1, sample=sample)) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("sample", [128, 7])
def test_active_triplets_equal_the_loop(margin, sample):
    z, labels, active = unit(Z1)[:sample], LABELS[:sample], []
    for a in range(len(z)):
        for p in range(len(z)):
            for n in range(len(z)):
                if a != p and labels[a] == labels[p] != labels[n] and labels[a] >= 0 and labels[n] >= 0:
                    active.append(margin + np.linalg.norm(z[a] - z[p]) - np.linalg.norm(z[a] - z[n]) > 0)
    share = losses.active_triplets(Z1, jnp.asarray(LABELS), margin=margin, sample=sample)
    assert float(share) == pytest.approx(np.mean(active), abs=1e-6)


def test_figures_of_collapsed_and_of_spread_embeddings():
    same, spread = jnp.ones((256, 64)), normal(256, 64)
    assert float(losses.uniformity(same)) == pytest.approx(0, abs=1e-5)
    assert float(losses.uniformity(spread)) == pytest.approx(-4, abs=0.2)
    assert losses.view_cosines(same, same) == pytest.approx((1, 1), abs=1e-5)
    assert losses.view_cosines(spread, spread) == pytest.approx((1, 0), abs=0.01)
    assert float(losses.alignment(spread, spread)) == 0


FIGURES = {
    "embedding_std": losses.embedding_std,
    "entropy": lambda z: losses.entropy(jax.nn.softmax(z)),
    "kl_to_uniform": lambda z: losses.kl_to_uniform(jax.nn.softmax(z)),
    "view_cosines": lambda z: losses.view_cosines(z, z[::-1]),
    "label_cosines": lambda z: losses.label_cosines(z, jnp.arange(len(z)) // 2),
    "unlabelled cosines": lambda z: losses.label_cosines(z, jnp.full(len(z), -1)),
    "alignment": lambda z: losses.alignment(z, z[::-1]),
    "uniformity": losses.uniformity,
    "active_triplets": lambda z: losses.active_triplets(z, jnp.arange(len(z)) // 2, margin=0.2),
    "unlabelled triplets": lambda z: losses.active_triplets(z, jnp.full(len(z), -1), margin=0.2),
}


@pytest.mark.parametrize("name", FIGURES)
def test_one_device_equals_eight(name):
    mesh, z = make_mesh(1, jax.devices()[:8]), normal(16, 4)
    expected = FIGURES[name](z)
    with jax.set_mesh(mesh):
        split = jax.jit(FIGURES[name])(jax.device_put(z, batch_sharding(mesh)))
        whole = jax.jit(FIGURES[name])(jax.device_put(z, NamedSharding(mesh, PartitionSpec())))
    np.testing.assert_allclose(split, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", bad_inputs())
@pytest.mark.parametrize("batch", [1, 4])
def test_bad_inputs_give_a_defined_float32(name, kind, batch):
    for figure in jax.tree.leaves(FIGURES[name](bad_inputs((batch, 3))[kind][0])):
        assert figure.dtype == jnp.float32 and np.isfinite(float(figure))


def test_no_figure_makes_a_matrix_over_the_batch():
    batch = 4096
    for name, figure in FIGURES.items():
        text = jax.jit(figure).lower(jax.ShapeDtypeStruct((batch, 8), "float32")).as_text()
        assert f"{batch}x{batch}" not in text, name


def test_shapes_that_do_not_fit_are_named():
    for figure in (losses.view_cosines, losses.alignment):
        with pytest.raises(ValueError, match=r"\(10, 4\).*\(9, 4\)"):
            figure(Z1, Z2[:9])
    with pytest.raises(ValueError, match=r"\(10, 4\).*\(9,\)"):
        losses.label_cosines(Z1, jnp.asarray(LABELS[:9]))
    with pytest.raises(ValueError, match=r"\(10, 4\).*\(9,\)"):
        losses.active_triplets(Z1, jnp.asarray(LABELS[:9]), margin=0.2)
