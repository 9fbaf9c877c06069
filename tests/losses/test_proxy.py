"""Losses against class vectors: loops over the papers' formulas, devices, memory and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from labelled import (
    assert_close,
    classes,
    loop_and_gradients,
    on_mesh,
    temporary_bytes,
    unit,
    value_and_gradients,
    vectors,
)

from ssljax.losses import arcface, cosface, proxy_anchor, proxy_nca, sub_center_arcface

CLASSES, FEATURES, CENTRES = 5, 4, 3
MARGINS = np.linspace(0.1, 0.6, CLASSES)


def cross_entropy(cosines, target, label, scale):
    others = sum(np.exp(scale * c) for j, c in enumerate(cosines) if j != label)
    return -np.log(np.exp(scale * target) / (np.exp(scale * target) + others))


def angular(cosine, margin):
    theta = np.arccos(cosine)
    return np.cos(theta + margin) if theta <= np.pi - margin else cosine - margin * np.sin(margin)


def softmax_loop(z, cosines_of, labels, scale, with_margin):
    rows = []
    for x, label in zip(unit(z), labels, strict=True):
        if label >= 0:
            cosines = cosines_of(x)
            rows.append(cross_entropy(cosines, with_margin(cosines[label], label), label, scale))
    return sum(rows) / len(rows)


def arcface_loop(z, weights, labels):
    return softmax_loop(z, lambda x: unit(weights) @ x, labels, 8.0, lambda c, _: angular(c, 0.5))


def margins_loop(z, weights, labels):
    return softmax_loop(z, lambda x: unit(weights) @ x, labels, 8.0, lambda c, label: angular(c, MARGINS[label]))


def cosface_loop(z, weights, labels):
    return softmax_loop(z, lambda x: unit(weights) @ x, labels, 8.0, lambda c, _: c - 0.35)


def sub_center_loop(z, weights, labels):
    nearest = lambda x: [max(centre @ x for centre in centres) for centres in unit(weights)]  # noqa: E731
    return softmax_loop(z, nearest, labels, 8.0, lambda c, _: angular(c, 0.5))


def proxy_nca_loop(z, proxies, labels):
    squares = [[np.sum((x - p) ** 2) for p in unit(proxies)] for x in unit(z)]
    rows = [-np.log(np.exp(-d[y]) / sum(np.exp(-e) for e in d)) for d, y in zip(squares, labels, strict=True) if y >= 0]
    return sum(rows) / len(rows)


def proxy_anchor_loop(z, proxies, labels):
    cosine, alpha, delta = unit(z) @ unit(proxies).T, 32.0, 0.1
    positive, negative = [], []
    for p in range(len(proxies)):
        own = [i for i, y in enumerate(labels) if y == p]
        others = [i for i, y in enumerate(labels) if y >= 0 and y != p]
        if own:
            positive.append(np.log(1 + sum(np.exp(-alpha * (cosine[i, p] - delta)) for i in own)))
        negative.append(np.log(1 + sum(np.exp(alpha * (cosine[i, p] + delta)) for i in others)))
    return sum(positive) / len(positive) + sum(negative) / len(negative)


def with_settings(loss, **settings):
    return lambda z, weights, labels: loss(z, weights, labels, **settings)


LOSSES = {
    "arcface": (with_settings(arcface, scale=8.0, margin=0.5), arcface_loop),
    "arcface_margins": (with_settings(arcface, scale=8.0, margin=jnp.asarray(MARGINS)), margins_loop),
    "cosface": (with_settings(cosface, scale=8.0, margin=0.35), cosface_loop),
    "sub_center_arcface": (with_settings(sub_center_arcface, scale=8.0, margin=0.5), sub_center_loop),
    "proxy_nca": (proxy_nca, proxy_nca_loop),
    "proxy_anchor": (with_settings(proxy_anchor, scale=32.0, margin=0.1), proxy_anchor_loop),
}
PUBLISHED = {
    "arcface": with_settings(arcface, scale=64.0, margin=0.5),
    "cosface": with_settings(cosface, scale=64.0, margin=0.35),
    "sub_center_arcface": with_settings(sub_center_arcface, scale=64.0, margin=0.5),
    "proxy_nca": proxy_nca,
    "proxy_anchor": with_settings(proxy_anchor, scale=32.0, margin=0.1),
}


def class_vectors(name, number=CLASSES, features=FEATURES, seed=1):
    return vectors(number, *((CENTRES,) if name == "sub_center_arcface" else ()), features, seed=seed)


@pytest.mark.parametrize("size, left_out, seed", [(6, 0, 0), (9, 3, 1), (1, 0, 2)])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_the_loop(name, size, left_out, seed):
    loss, loop = LOSSES[name]
    z, weights = vectors(size, FEATURES, seed=seed), class_vectors(name, seed=seed + 9)
    labels = classes(size, CLASSES, seed, left_out)
    expected = loop_and_gradients(lambda z, w: loop(z, w, np.asarray(labels)), z, weights)
    assert_close(value_and_gradients(loss, labels, z, weights), expected)


@pytest.mark.parametrize("name", ["arcface", "arcface_margins", "sub_center_arcface"])
def test_angles_beyond_pi_less_the_margin_equal_the_loop(name):
    loss, loop = LOSSES[name]
    weights, labels = class_vectors(name), jnp.arange(CLASSES)
    z = 0.05 * vectors(CLASSES, FEATURES) - unit(weights[:, 0] if weights.ndim == 3 else weights)
    if weights.ndim == 3:
        weights = weights.at[:, 1:].set(weights[:, :1] + 0.01 * weights[:, 1:])
    expected = loop_and_gradients(lambda z, w: loop(z, w, np.asarray(labels)), z, weights)
    assert_close(value_and_gradients(loss, labels, z, weights), expected)


def test_arcface_rises_with_the_angle_to_the_own_class_all_the_way():
    angle = jnp.linspace(0, jnp.pi, 200)
    z = jnp.stack([jnp.cos(angle), jnp.sin(angle), jnp.zeros(200)], axis=1)
    weights, label = jnp.array([[1.0, 0, 0], [0, 0, 1.0]]), jnp.zeros(1, jnp.int32)
    losses = jax.vmap(lambda x: arcface(x[None], weights, label, scale=4.0, margin=0.5))(z)
    assert bool(jnp.all(jnp.diff(losses) > 0))


def test_sub_center_arcface_with_one_centre_is_arcface():
    z, weights, labels = vectors(6, FEATURES), class_vectors("arcface"), classes(6, CLASSES, left_out=1)
    value = sub_center_arcface(z, weights[:, None], labels, scale=64.0, margin=0.5)
    np.testing.assert_allclose(value, arcface(z, weights, labels, scale=64.0, margin=0.5), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_batch_order_rotations_and_lengths_do_not_matter(name):
    loss, _ = LOSSES[name]
    z, weights, labels = vectors(6, FEATURES), class_vectors(name), classes(6, CLASSES)
    order, rotation = np.array([3, 1, 4, 0, 2, 5]), np.linalg.qr(vectors(FEATURES, FEATURES, seed=3))[0]
    base, (by_z, by_weights) = value_and_gradients(loss, labels, z, weights)
    permuted = value_and_gradients(loss, labels[order], z[order], weights)
    assert_close(permuted, (base, (by_z[order], by_weights)))
    rotated = value_and_gradients(loss, labels, z @ rotation, weights @ rotation)
    assert_close(rotated, (base, (by_z @ rotation, by_weights @ rotation)))
    longer = value_and_gradients(loss, labels, 2 * z, 4 * weights)
    assert_close(longer, (base, (by_z / 2, by_weights / 4)))


BAD = {
    "one class": (vectors(6, FEATURES), [2] * 6),
    "each its own class": (vectors(5, FEATURES), [0, 1, 2, 3, 4]),
    "all equal": (jnp.ones((6, FEATURES)), [0, 0, 1, 1, 2, 2]),
    "zero vectors": (jnp.zeros((6, FEATURES)), [0, 0, 1, 1, 2, 2]),
    "values of 1e4": (1e4 * vectors(6, FEATURES), [0, 0, 1, 1, 2, 2]),
    "bfloat16": (vectors(6, FEATURES).astype(jnp.bfloat16), [0, 0, 1, 1, 2, 2]),
    "labels of -1": (vectors(6, FEATURES), [0, -1, 1, 1, 2, -1]),
    "all labels -1": (vectors(6, FEATURES), [-1] * 6),
    "batch of one": (vectors(1, FEATURES), [0]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_bad_inputs_give_a_number_and_finite_gradients(name):
    usual = class_vectors(name)
    for case, (z, labels) in BAD.items():
        for weights in (usual, jnp.ones_like(usual), -jnp.ones_like(usual), jnp.zeros_like(usual), 1e4 * usual):
            weights = weights.astype(z.dtype)
            value, gradients = value_and_gradients(PUBLISHED[name], jnp.array(labels), z, weights)
            assert value.shape == () and value.dtype == jnp.float32 and bool(jnp.isfinite(value)), case
            for x, gradient in zip((z, weights), gradients, strict=True):
                assert gradient.dtype == x.dtype and bool(jnp.all(jnp.isfinite(gradient))), case
            if case == "all labels -1":
                assert float(value) == 0 and not np.any(gradients[0]) and not np.any(gradients[1])


@pytest.mark.parametrize("name", ["arcface", "cosface", "sub_center_arcface", "proxy_nca"])
def test_one_class_alone_costs_nothing(name):
    z, weights = vectors(3, FEATURES), class_vectors(name, number=1)
    value, gradients = value_and_gradients(PUBLISHED[name], jnp.zeros(3, jnp.int32), z, weights)
    assert float(value) == 0 and not np.any(gradients[0]) and not np.any(gradients[1])


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_are_named(name):
    loss, _ = LOSSES[name]
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(5,\)"):
        loss(vectors(4, FEATURES), class_vectors(name), classes(5, 2))
    wrong = (15, 2) if name == "sub_center_arcface" else (5, 2)
    with pytest.raises(ValueError, match=rf"{wrong[0]}, {wrong[1]}\).*\(4, 4\)"):
        loss(vectors(4, FEATURES), class_vectors(name, features=2), classes(4, 2))
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 4\)"):
        loss(vectors(4, FEATURES), vectors(4), classes(4, 2))


@pytest.mark.parametrize(
    "name, loss", [("arcface", arcface), ("cosface", cosface), ("sub_center_arcface", sub_center_arcface)]
)
def test_margins_that_do_not_fit_the_classes_are_named(name, loss):
    weights = class_vectors(name)
    with pytest.raises(ValueError, match=r"\(4,\).*\(5, .*\[C\]"):
        loss(vectors(4, FEATURES), weights, classes(4, 2), scale=8.0, margin=jnp.ones(4))


@pytest.mark.parametrize("name", ["arcface", "cosface", "sub_center_arcface", "proxy_nca"])
def test_blocks_change_nothing(name, monkeypatch):
    z, weights, labels = vectors(13, FEATURES), class_vectors(name), classes(13, CLASSES, left_out=2)
    whole = value_and_gradients(PUBLISHED[name], labels, z, weights)
    monkeypatch.setattr("ssljax.losses.pairs.BLOCK", 20)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", 20)
    assert_close(jax.value_and_grad(PUBLISHED[name], (0, 1))(z, weights, labels), whole, 2e-6)


@pytest.mark.parametrize("block", [2**20, 256])
@pytest.mark.parametrize("name", PUBLISHED)
def test_one_device_equals_eight_and_the_class_vectors_do_not_travel(name, block, monkeypatch):
    size, number = 16, 48
    z, weights, labels = vectors(size, FEATURES), class_vectors(name, number), classes(size, number, left_out=2)
    one = value_and_gradients(PUBLISHED[name], labels, z, weights)
    monkeypatch.setattr("ssljax.losses.pairs.BLOCK", block)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", block)
    *eight, sent = on_mesh(PUBLISHED[name], labels, z, weights)
    assert_close(eight, one, 2e-6)
    assert (size, FEATURES) in sent
    assert not any(48 in shape or 6 in shape or shape[:1] == (144,) for shape in sent), sent  # the classes, or a part
    assert all(np.prod(shape) <= size * FEATURES for shape in sent), sent


@pytest.mark.parametrize("name", PUBLISHED)
def test_classes_that_the_devices_do_not_divide(name):
    z, weights, labels = vectors(8, FEATURES), class_vectors(name), classes(8, CLASSES, left_out=2)
    one = value_and_gradients(PUBLISHED[name], labels, z, weights)
    assert_close(on_mesh(PUBLISHED[name], labels, z, weights, split=False)[:2], one, 2e-6)


@pytest.mark.parametrize("name", ["arcface", "cosface", "sub_center_arcface"])
def test_memory_grows_with_items_and_classes_and_not_their_product(name, monkeypatch):
    monkeypatch.setattr("ssljax.losses.pairs.BLOCK", 2**14)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", 2**14)

    def bytes_of(size, number):
        return temporary_bytes(PUBLISHED[name], classes(size, number), vectors(size, 8), class_vectors(name, number, 8))

    small, large = bytes_of(512, 512), bytes_of(2048, 2048)
    assert large < 5 * small and large < 2048 * 2048
