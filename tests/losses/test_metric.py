"""Metric-learning losses against loops over the papers' formulas, their invariances, devices, memory and bad inputs."""

from functools import partial
from typing import get_args

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

from ssljax.losses import (
    contrastive_pairs,
    cross_batch,
    l2_normalise,
    lifted_structure,
    multi_similarity,
    n_pairs,
    sup_con,
    triplet,
    triplet_from_indices,
)
from ssljax.losses.metric import Mining, _mined_triplets
from ssljax.losses.pairs import of_anchors

MARGIN = 0.4


def distances(z, references):
    z, references = unit(z), unit(references)
    return np.array([[np.linalg.norm(a - b) for b in references] for a in z])


def pairs_of(labels, others, own):
    """All (anchor, positive) and all (anchor, negative)."""
    pairs = [(i, j) for i, a in enumerate(labels) for j, b in enumerate(others) if a >= 0 and b >= 0 and j != own[i]]
    return [p for p in pairs if labels[p[0]] == others[p[1]]], [p for p in pairs if labels[p[0]] != others[p[1]]]


def mean(losses):
    return sum(losses) / len(losses) if losses else 0.0


def mean_of_active(losses):
    return mean([loss for loss in losses if loss > 0])


def mined(d, positives, negatives, margin, mining):
    """The set of triplets, by a triple loop."""
    triplets = [(a, p, n) for a, p in positives for b, n in negatives if a == b]
    gap = {(a, p, n): d[a, n] - d[a, p] for a, p, n in triplets}
    if mining == "batch_hard":
        return [min((t for t in triplets if t[0] == a), key=gap.get) for a in sorted({t[0] for t in triplets})]
    counts = {
        "all": lambda g: True,
        "easy": lambda g: g > margin,
        "semi_hard": lambda g: 0 < g <= margin,
        "hard": lambda g: g <= 0,
    }[mining]
    return [t for t in triplets if counts(gap[t])]


def triplet_loop(z, labels, references, others, own, *, margin, mining, soft=False):
    d = distances(z, references)
    triplets = mined(d, *pairs_of(labels, others, own), margin, mining)
    excess = [margin + d[a, p] - d[a, n] for a, p, n in triplets]
    return mean([np.log(1 + np.exp(x)) for x in excess]) if soft else mean_of_active(excess)


def contrastive_loop(z, labels, references, others, own, *, positive_margin, negative_margin, squared):
    d = distances(z, references)
    positives, negatives = pairs_of(labels, others, own)
    shape = (lambda x: x**2 / 2) if squared else (lambda x: x)
    near = [shape(max(d[i, j] - positive_margin, 0)) for i, j in positives]
    far = [shape(max(negative_margin - d[i, j], 0)) for i, j in negatives]
    return mean_of_active(near) + mean_of_active(far)


def multi_similarity_loop(z, labels, references, others, own, *, alpha, beta, base):
    cosine = unit(z) @ unit(references).T
    positives, negatives = pairs_of(labels, others, own)
    rows = []
    for i in range(len(labels)):
        attract = sum(np.exp(-alpha * (cosine[a, j] - base)) for a, j in positives if a == i)
        repel = sum(np.exp(beta * (cosine[a, j] - base)) for a, j in negatives if a == i)
        rows.append(np.log(1 + attract) / alpha + np.log(1 + repel) / beta)
    return mean([row for row, label in zip(rows, labels, strict=True) if label >= 0])


def sup_con_loop(z, labels, references, others, own, *, temperature):
    logits = unit(z) @ unit(references).T / temperature
    positives, negatives = pairs_of(labels, others, own)
    rows = []
    for i in range(len(labels)):
        near = [logits[a, j] for a, j in positives if a == i]
        total = np.log(sum(np.exp(logits[a, j]) for a, j in positives + negatives if a == i)) if near else 0
        rows += [total - np.mean(near)] if near else []
    return mean(rows)


def lifted_loop(z, labels, references, others, own, *, margin):
    d = distances(z, references)
    positives, negatives = pairs_of(labels, others, own)
    losses = []
    for i, j in positives:
        near = sum(np.exp(margin - d[a, n]) for a, n in negatives if a == i)
        near += sum(np.exp(margin - d[a, j]) for a, label in enumerate(labels) if 0 <= label != others[j])
        losses.append(max(np.log(near) + d[i, j], 0) ** 2 / 2)
    return mean(losses)


def n_pairs_loop(z, labels, references, others, own):
    first_two = [np.flatnonzero(labels == c)[:2] for c in range(max(labels) + 1)]
    pairs = [p for p in first_two if len(p) == 2]
    rows = []
    for i, j in pairs:
        rows.append(np.log(1 + sum(np.exp(z[i] @ z[k] - z[i] @ z[j]) for _, k in pairs if k != j)))
    return mean(rows)


SETTINGS = {
    **{f"triplet_{m}": (triplet, triplet_loop, {"margin": MARGIN, "mining": m}) for m in get_args(Mining)},
    **{
        f"triplet_{m}_soft": (triplet, triplet_loop, {"margin": MARGIN, "mining": m, "soft": True})
        for m in get_args(Mining)
    },
    "contrastive": (
        contrastive_pairs,
        contrastive_loop,
        {"positive_margin": 0.1, "negative_margin": 1.2, "squared": False},
    ),
    "contrastive_squared": (
        contrastive_pairs,
        contrastive_loop,
        {"positive_margin": 0.1, "negative_margin": 1.2, "squared": True},
    ),
    "multi_similarity": (multi_similarity, multi_similarity_loop, {"alpha": 2.0, "beta": 50.0, "base": 0.5}),
    "sup_con": (sup_con, sup_con_loop, {"temperature": 0.3}),
    "lifted_structure": (lifted_structure, lifted_loop, {"margin": 1.0}),
    "n_pairs": (n_pairs, n_pairs_loop, {}),
}
LOSSES = {name: partial(loss, **settings) for name, (loss, _, settings) in SETTINGS.items()}
EACH_FORM = [name for name in LOSSES if name not in ("triplet_all", "triplet_easy", "triplet_hard", "sup_con")]
EACH_FORM = [name for name in EACH_FORM if not name.endswith(("_soft", "_squared"))] + ["triplet_semi_hard_soft"]
AGAINST_MEMORY = [name for name in LOSSES if name != "n_pairs"]


@pytest.mark.parametrize("size, features, number, left_out", [(7, 3, 2, 0), (9, 5, 3, 2), (6, 2, 4, 1)])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_the_loop(name, size, features, number, left_out):
    _, loop, settings = SETTINGS[name]
    z, labels = vectors(size, features, seed=size), classes(size, number, seed=features, left_out=left_out)
    y = np.asarray(labels)
    expected = loop_and_gradients(lambda z: loop(z, y, z, y, range(size), **settings), z)
    assert_close(value_and_gradients(LOSSES[name], labels, z), expected)


@pytest.mark.parametrize("name", AGAINST_MEMORY)
def test_cross_batch_equals_the_loop_and_gives_the_memory_no_gradient(name):
    loss, loop, settings = SETTINGS[name]
    memory, memory_labels, valid = vectors(9, 3), classes(9, 3), np.arange(9) != 4
    own = jnp.array([2, 7, 8, -1])
    z = jnp.concatenate([2 * memory[own[:3]], vectors(1, 3, seed=1)])  # of another length: normalised inside
    labels = jnp.concatenate([memory_labels[own[:3]], jnp.array([0])])

    def batch_loss(z, memory):
        return cross_batch(loss, z, labels, memory, memory_labels, jnp.asarray(valid), own, **settings)

    value, gradients = jax.value_and_grad(batch_loss, (0, 1))(z, memory)
    others = np.where(valid, memory_labels, -1)
    reference = np.asarray(memory, np.float64)
    expected, by_z = loop_and_gradients(lambda z: loop(z, np.asarray(labels), reference, others, own, **settings), z)
    assert_close((value, gradients), (expected, [*by_z, np.zeros_like(memory)]))


def test_cross_batch_of_the_batch_itself_is_the_loss_on_the_batch():
    z, labels = vectors(8, 4), classes(8, 3)
    settings = {"margin": MARGIN, "mining": "semi_hard"}
    value = cross_batch(triplet, z, labels, z, labels, jnp.ones(8, bool), jnp.arange(8), **settings)
    np.testing.assert_allclose(value, triplet(z, labels, **settings), rtol=1e-6)


def test_triplets_by_their_indices_equal_the_loop():
    z, triplets = vectors(6, 3), jnp.array([[0, 1, 2], [3, 1, 5], [4, 0, 1], [2, 3, 4], [-1, -1, -1], [5, 5, 0]])

    def loop(z):
        d = distances(z, z)
        return mean_of_active([MARGIN + d[a, p] - d[a, n] for a, p, n in np.asarray(triplets) if a >= 0])

    value, gradient = jax.value_and_grad(lambda z: triplet_from_indices(z, triplets, margin=MARGIN))(z)
    assert_close((value, [gradient]), loop_and_gradients(loop, z))


@pytest.mark.parametrize("mining", ["all", "easy", "semi_hard", "hard"])
def test_as_many_triplets_of_each_anchor_are_mined_as_in_the_loop(mining):
    z, labels = vectors(12, 4), classes(12, 3, left_out=2)
    d, y = distances(z, z), np.asarray(labels)
    triplets = mined(d, *pairs_of(y, y, range(12)), MARGIN, mining)
    above, upto = {"all": (-9, 9), "easy": (MARGIN, 9), "semi_hard": (0, MARGIN), "hard": (-9, 0)}[mining]
    rows = partial(_mined_triplets, margin=MARGIN, soft=True, above=above, upto=upto)
    _, count = of_anchors(rows, l2_normalise(z), labels)
    np.testing.assert_array_equal(count, np.bincount([a for a, _, _ in triplets], minlength=12))


@pytest.mark.parametrize("name", EACH_FORM)
def test_items_left_out_count_for_nothing(name):
    z, labels = vectors(9, 4), classes(9, 2, left_out=3)
    np.testing.assert_allclose(LOSSES[name](z, labels), LOSSES[name](z[3:], labels[3:]), rtol=1e-5)


@pytest.mark.parametrize("name", EACH_FORM)
def test_batch_order_and_rotations_do_not_matter(name):
    z, labels = vectors(8, 4), jnp.repeat(jnp.arange(4), 2)
    rotation = np.linalg.qr(vectors(4, 4, seed=3))[0]
    order = np.array([6, 7, 2, 3, 0, 1, 4, 5]) if name == "n_pairs" else np.array([3, 1, 4, 0, 7, 2, 6, 5])
    base, (gradient,) = value_and_gradients(LOSSES[name], labels, z)
    permuted = value_and_gradients(LOSSES[name], labels[order], z[order])  # N-pairs: anchors stay first
    assert_close(permuted, (base, [gradient[order]]))
    assert_close(value_and_gradients(LOSSES[name], labels, z @ rotation), (base, [gradient @ rotation]), 1e-4)


@pytest.mark.parametrize("name", [name for name in EACH_FORM if name != "n_pairs"])
def test_length_does_not_matter(name):
    z, labels = vectors(8, 4), classes(8, 3)
    (value, _), (longer, _) = (value_and_gradients(LOSSES[name], labels, x) for x in (z, 7 * z))
    np.testing.assert_allclose(longer, value, rtol=1e-5)


BAD = {
    "batch of one": (vectors(1, 3), [0]),
    "one class": (vectors(6, 3), [2] * 6),
    "no positives": (vectors(6, 3), [0, 1, 2, 3, 4, 5]),
    "no active triplet": (jnp.repeat(jnp.eye(3), 2, axis=0) + 1e-3 * vectors(6, 3), [0, 0, 1, 1, 2, 2]),
    "all equal": (jnp.ones((6, 3)), [0, 0, 1, 1, 2, 2]),
    "zero vectors": (jnp.zeros((6, 3)), [0, 0, 1, 1, 2, 2]),
    "a zero vector": (vectors(6, 3).at[2].set(0), [0, 0, 1, 1, 2, 2]),
    "values of 1e4": (1e4 * vectors(6, 3), [0, 0, 1, 1, 2, 2]),
    "opposite": (jnp.tile(jnp.array([[1.0, 0, 0], [-1, 0, 0]]), (3, 1)), [0, 0, 1, 1, 2, 2]),
    "bfloat16": (vectors(6, 3).astype(jnp.bfloat16), [0, 0, 1, 1, 2, 2]),
    "labels of -1": (vectors(6, 3), [0, -1, 1, 1, 2, -1]),
    "all labels -1": (vectors(6, 3), [-1] * 6),
}


@pytest.mark.parametrize("name", LOSSES)
def test_bad_inputs_give_a_number_and_finite_gradients(name):
    for case, (z, labels) in BAD.items():
        value, (gradient,) = value_and_gradients(LOSSES[name], jnp.array(labels), z)
        assert value.shape == () and value.dtype == jnp.float32 and bool(jnp.isfinite(value)), case
        assert gradient.dtype == z.dtype and bool(jnp.all(jnp.isfinite(gradient))), case
        nothing = {"batch of one", "all labels -1"}
        if name.startswith(("triplet", "lifted")):
            nothing |= {"one class", "no positives"}
        if name.startswith("triplet") and not name.endswith("soft"):
            nothing |= {"no active triplet"}
        if case in nothing:
            assert float(value) == 0 and not np.any(gradient), case


def test_triplets_from_indices_of_bad_inputs():
    triplets = jnp.array([[0, 1, 2], [3, 4, 5], [0, 0, 0], [-1, 2, 3]])
    for z in (jnp.zeros((6, 3)), jnp.ones((6, 3)), 1e4 * vectors(6, 3), vectors(6, 3).astype(jnp.bfloat16)):
        value, gradient = jax.value_and_grad(lambda z: triplet_from_indices(z, triplets, margin=MARGIN))(z)
        assert bool(jnp.isfinite(value)) and value.dtype == jnp.float32 and bool(jnp.all(jnp.isfinite(gradient)))
    none = lambda z: triplet_from_indices(z, jnp.full((2, 3), -1), margin=MARGIN)  # noqa: E731
    value, gradient = jax.value_and_grad(none)(vectors(6, 3))
    assert float(value) == 0 and not np.any(gradient)


def test_a_distance_is_exact_up_to_small_ones():
    angle = jnp.array([0.0, 0.03, 0.1, 0.5, 1.0, 3.0])
    z = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    triplets = jnp.array([[0, i, 0] for i in range(1, 6)])  # d_an = 0: the loss is d_ap
    for t, a in zip(triplets, angle[1:], strict=True):
        np.testing.assert_allclose(triplet_from_indices(z, t[None], margin=0.0), 2 * jnp.sin(a / 2), atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_are_named(name):
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5,\)"):
        LOSSES[name](vectors(4, 3), classes(5, 2))


def test_wrong_shapes_of_triplets_and_memory_are_named():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 2\)"):
        triplet_from_indices(vectors(4, 3), jnp.zeros((5, 2), int), margin=MARGIN)

    def against(memory, memory_labels, valid, own):
        cross_batch(LOSSES["contrastive"], vectors(4, 3), classes(4, 2), memory, memory_labels, valid, own)

    with pytest.raises(ValueError, match=r"\(6, 2\).*\(4, 3\)"):
        against(vectors(6, 2), classes(6, 2), jnp.ones(6, bool), jnp.arange(4))
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(5,\).*\(4, 3\)"):
        against(vectors(6, 3), classes(6, 2), jnp.ones(6, bool), jnp.arange(5))
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(7,\)"):
        against(vectors(6, 3), classes(7, 2), jnp.ones(7, bool), jnp.arange(4))
    with pytest.raises(ValueError, match=r"\(7,\).*\(6,\)"):
        against(vectors(6, 3), classes(6, 2), jnp.ones(7, bool), jnp.arange(4))


def test_unknown_mining_is_named():
    with pytest.raises(ValueError, match=r"mining='hardest' should be one of all, easy, .*batch_hard"):
        triplet(vectors(4, 3), classes(4, 2), margin=MARGIN, mining="hardest")


@pytest.mark.parametrize("block", [1, 40])
@pytest.mark.parametrize("name", EACH_FORM)
def test_blocks_change_nothing(name, block, monkeypatch):
    z, labels = vectors(13, 4), classes(13, 3, left_out=2)
    whole = value_and_gradients(LOSSES[name], labels, z)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", block)
    value, gradient = jax.value_and_grad(LOSSES[name])(z, labels)
    assert_close((value, [gradient]), whole, 1e-6)


@pytest.mark.parametrize("block", [2**20, 128])
@pytest.mark.parametrize("name", EACH_FORM)
def test_one_device_equals_eight_and_only_embeddings_travel(name, block, monkeypatch):
    size, features = 32, 5
    z, labels = vectors(size, features), classes(size, 6, left_out=2)
    one = value_and_gradients(LOSSES[name], labels, z)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", block)
    *eight, sent = on_mesh(LOSSES[name], labels, z)
    assert_close(eight, one, 1e-6)
    height = min(size, block // size)
    assert (size, features) in sent
    by_anchor = {(), (size,), (height,), (size // height, height)}
    assert sent <= {(size, features), (height, features)} | by_anchor, sent


@pytest.mark.parametrize("block", [2**20, 128])
@pytest.mark.parametrize("name", ["triplet_batch_hard", "triplet_semi_hard", "contrastive", "multi_similarity"])
def test_the_memory_does_not_travel(name, block, monkeypatch):
    size, features, places = 16, 5, 64
    memory, memory_labels = vectors(places, features, seed=1), classes(places, 4, seed=1)
    own = 4 * jnp.arange(size)
    z, labels = memory[own], memory_labels[own]

    def loss(z, memory, labels_and_places):
        labels, own, memory_labels = labels_and_places
        return cross_batch(LOSSES[name], z, labels, memory, memory_labels, memory_labels < 3, own)

    one = value_and_gradients(loss, (labels, own, memory_labels), z, memory)
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", block)
    *eight, sent = on_mesh(loss, (labels, own, memory_labels), z, memory)
    assert_close(eight, one, 1e-6)
    height = min(size, block // places)
    by_anchor = {(), (size,), (height,), (size // height, height)}
    assert sent <= {(size, features), (height, features)} | by_anchor, sent


def test_a_memory_that_the_devices_do_not_divide():
    memory, memory_labels, own = vectors(11, 3), classes(11, 3), jnp.arange(5)

    def loss(z, labels):
        return cross_batch(LOSSES["contrastive"], z, labels, memory, memory_labels, jnp.ones(11, bool), own)

    z, labels = memory[:5], memory_labels[:5]
    assert_close(on_mesh(loss, labels, z, split=False)[:2], value_and_gradients(loss, labels, z), 1e-6)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_memory_grows_with_the_batch_and_not_its_square(mining, monkeypatch):
    monkeypatch.setattr("ssljax.losses.blockwise.BLOCK", 2**14)
    loss = partial(triplet, margin=MARGIN, mining=mining)
    small, large = (temporary_bytes(loss, classes(n, n // 4), vectors(n, 8)) for n in (512, 2048))
    assert large < 5 * small and large < 2048 * 2048


def test_the_loss_of_unit_vectors_is_that_of_pytorch_metric_learning_for_n_pairs():
    z, labels = vectors(6, 4), jnp.array([0, 0, 1, 1, 2, 2])
    u = l2_normalise(z)
    logits = u[::2] @ u[1::2].T
    expected = -jnp.mean(jnp.diag(jax.nn.log_softmax(logits)))
    np.testing.assert_allclose(n_pairs(u, labels), expected, rtol=1e-6)
