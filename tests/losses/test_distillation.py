"""Distillation losses against loops over the papers' formulas, their invariances, and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_agrees, assert_defined, assert_one_device_equals_eight, bad_inputs, normal

from ssljax import losses

TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.04}
SHARP = {"student_temperature": 0.5, "teacher_temperature": 0.2}


def unit(x):
    return x / jnp.linalg.norm(x)


def log_softmax(x):
    return x - jnp.log(jnp.sum(jnp.exp(x - jnp.max(x)))) - jnp.max(x)


def cross_entropy(teacher, student):
    return -jnp.sum(jnp.exp(log_softmax(teacher)) * log_softmax(student))


def dino(student, teacher, center, student_temperature, teacher_temperature):
    """The loss of the teacher's logits, centered."""
    targets = losses.centered_softmax(teacher, center, temperature=teacher_temperature)
    return losses.dino(student, targets, student_temperature=student_temperature)


def ibot(student, teacher, mask, center, student_temperature, teacher_temperature):
    """The loss of the teacher's logits, centered."""
    targets = losses.centered_softmax(teacher, center, temperature=teacher_temperature)
    return losses.ibot(student, targets, mask, student_temperature=student_temperature)


def byol_loop(p1, z2, p2, z1):
    rows = [jnp.sum((unit(p) - unit(z)) ** 2) for p, z in [*zip(p1, z2, strict=True), *zip(p2, z1, strict=True)]]
    return sum(rows) / len(p1)


def dino_loop(student, teacher, center, student_temperature, teacher_temperature):
    pairs = []
    for t in range(len(teacher)):
        for v in range(len(student)):
            if v != t:
                rows = [
                    cross_entropy((q - center) / teacher_temperature, p / student_temperature)
                    for q, p in zip(teacher[t], student[v], strict=True)
                ]
                pairs.append(sum(rows) / len(rows))
    return sum(pairs) / len(pairs)


def ibot_loop(student, teacher, mask, center, student_temperature, teacher_temperature):
    images = []
    for b in range(len(mask)):
        patches = [
            cross_entropy((teacher[b, n] - center) / teacher_temperature, student[b, n] / student_temperature)
            for n in range(mask.shape[1])
            if mask[b, n]
        ]
        images.append(sum(patches) / len(patches) if patches else 0.0)
    return sum(images) / len(images)


def koleo_loop(z):
    z = [unit(row) for row in z]
    rows = []
    for i, a in enumerate(z):
        distances = jnp.stack([jnp.linalg.norm(a - b) for j, b in enumerate(z) if j != i])
        rows.append(-jnp.log(jnp.min(distances)))
    return sum(rows) / len(rows)


def similarity_loop(student, teacher, queue, student_temperature, teacher_temperature):
    rows = []
    for s, t in zip(student, teacher, strict=True):
        to_teacher = jnp.stack([unit(t) @ unit(key) for key in queue]) / teacher_temperature
        to_student = jnp.stack([unit(s) @ unit(key) for key in queue]) / student_temperature
        rows.append(cross_entropy(to_teacher, to_student))
    return sum(rows) / len(rows)


def knowledge_loop(student, teacher, temperature):
    rows = []
    for s, t in zip(student, teacher, strict=True):
        log_q, log_p = log_softmax(t / temperature), log_softmax(s / temperature)
        rows.append(temperature**2 * jnp.sum(jnp.exp(log_q) * (log_q - log_p)))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("batch, features", [(4, 3), (1, 8), (7, 2)])
def test_negative_cosine_and_byol_equal_the_loop(batch, features):
    p1, z2, p2, z1 = (normal(batch, features, seed=i) for i in range(4))
    cosine = lambda p: -sum(unit(a) @ unit(b) for a, b in zip(p, z2, strict=True)) / batch  # noqa: E731
    assert_agrees(lambda p: losses.negative_cosine(p, z2), cosine, p1)
    assert_agrees(lambda a, b: losses.byol(a, z2, b, z1), lambda a, b: byol_loop(a, z2, b, z1), p1, p2)


@pytest.mark.parametrize("views, teachers, batch, count", [(4, 2, 3, 5), (2, 2, 1, 7), (3, 1, 2, 2), (2, 1, 4, 3)])
def test_dino_equals_the_loop(views, teachers, batch, count):
    student, teacher = normal(views, batch, count), normal(teachers, batch, count, seed=1)
    center = normal(count, seed=2)
    assert_agrees(
        lambda s: dino(s, teacher, center, **SHARP), lambda s: dino_loop(s, teacher, center, **SHARP), student
    )
    for first in range(1, views):
        parts = [student[:first], student[first:]]
        np.testing.assert_allclose(
            dino(parts, teacher, center, **SHARP), dino(student, teacher, center, **SHARP), rtol=1e-5
        )


@pytest.mark.parametrize("batch, patches, count", [(3, 4, 5), (1, 6, 2), (4, 1, 3)])
def test_ibot_equals_the_loop(batch, patches, count):
    student, teacher = normal(batch, patches, count), normal(batch, patches, count, seed=1)
    center, mask = normal(count, seed=2), np.random.default_rng(3).random((batch, patches)) < 0.5
    mask[0] = False  # an image without masked patches
    assert_agrees(
        lambda s: ibot(s, teacher, jnp.asarray(mask), center, **SHARP),
        lambda s: jnp.asarray(ibot_loop(s, teacher, mask, center, **SHARP)) + 0 * jnp.sum(s),
        student,
    )


@pytest.mark.parametrize("batch, features", [(4, 3), (2, 8), (9, 5)])
def test_koleo_equals_the_loop(batch, features):
    assert_agrees(losses.koleo, koleo_loop, normal(batch, features))


@pytest.mark.parametrize("batch, keys, features", [(4, 6, 3), (3, 1, 8), (1, 5, 2)])
def test_similarity_distillation_equals_the_loop(batch, keys, features):
    student, teacher, queue = normal(batch, features), normal(batch, features, seed=1), normal(keys, features, seed=2)
    assert_agrees(
        lambda s: losses.similarity_distillation(s, teacher, queue, **SHARP),
        lambda s: similarity_loop(s, teacher, queue, **SHARP),
        student,
    )


@pytest.mark.parametrize("batch, classes, temperature", [(4, 3, 1.0), (1, 8, 4.0), (5, 2, 0.5)])
def test_knowledge_distillation_equals_the_loop(batch, classes, temperature):
    student, teacher = normal(batch, classes), normal(batch, classes, seed=1)
    assert_agrees(
        lambda s: losses.knowledge_distillation(s, teacher, temperature=temperature),
        lambda s: knowledge_loop(s, teacher, temperature),
        student,
    )


def test_center_is_a_moving_average_of_the_mean_logits():
    center, teacher = normal(5), normal(2, 3, 5, seed=1)
    expected = 0.9 * np.asarray(center) + 0.1 * np.mean(np.asarray(teacher).reshape(6, 5), axis=0)
    np.testing.assert_allclose(losses.update_center(center, teacher, momentum=0.9), expected, rtol=1e-5, atol=1e-6)


STUDENT, TEACHER = normal(3, 8, 5), normal(2, 8, 5, seed=1)
CENTER, QUEUE = normal(5, seed=2), normal(16, 5, seed=3)
IMAGES, MASK = normal(8, 4, 5, seed=4), normal(8, 4, seed=5) > 0
# Name → a loss of (student, teacher, the rest) whose second and later arguments get no gradient.
TAUGHT = {
    "negative_cosine": (losses.negative_cosine, (STUDENT[0], TEACHER[0])),
    "byol": (lambda p, z: losses.byol(p[0], z[1], p[1], z[0]), (STUDENT, TEACHER)),
    "dino": (lambda s, t, c: dino(s, t, c, **TEMPERATURES), (STUDENT, TEACHER, CENTER)),
    "ibot": (lambda s, t, c: ibot(s, t, MASK, c, **TEMPERATURES), (IMAGES, IMAGES[::-1], CENTER)),
    "similarity_distillation": (
        lambda s, t, q: losses.similarity_distillation(s, t, q, **TEMPERATURES),
        (STUDENT[0], TEACHER[0], QUEUE),
    ),
    "knowledge_distillation": (
        lambda s, t: losses.knowledge_distillation(s, t, temperature=2.0),
        (STUDENT[0], TEACHER[0]),
    ),
    "update_center": (
        lambda s, t, c: jnp.sum(s[0, 0] * losses.update_center(c, t, momentum=0.9)),
        (STUDENT, TEACHER, CENTER),
    ),
}


@pytest.mark.parametrize("name", TAUGHT)
def test_gradient_reaches_the_student_alone(name):
    loss, x = TAUGHT[name]
    student, *others = jax.grad(loss, tuple(range(len(x))))(*x)
    assert bool(jnp.any(student != 0))
    assert not any(bool(jnp.any(grad != 0)) for grad in others)


@pytest.mark.parametrize(
    "name, axes",
    [
        ("negative_cosine", (0, 0)),
        ("byol", (1, 1)),
        ("dino", (1, 1, None)),
        ("ibot", (0, 0, None)),
        ("similarity_distillation", (0, 0, 0)),
        ("knowledge_distillation", (0, 0)),
        ("update_center", (1, 1, None)),
    ],
)
def test_one_device_equals_eight(name, axes):
    loss, x = TAUGHT[name]
    assert_one_device_equals_eight(loss, *x, axes=axes)


def test_one_device_equals_eight_in_koleo():
    assert_one_device_equals_eight(losses.koleo, normal(16, 3), axes=(0,))


def test_batch_order_views_and_rotations_do_not_matter():
    order, rotation = np.random.default_rng(0).permutation(8), np.linalg.qr(normal(5, 5, seed=9))[0]
    for name, axis in [("negative_cosine", 0), ("byol", 1), ("dino", 1), ("knowledge_distillation", 0)]:
        loss, x = TAUGHT[name]
        moved = [jnp.take(a, order, axis=axis) if a.ndim > 1 else a for a in x]
        np.testing.assert_allclose(loss(*moved), loss(*x), rtol=1e-5)
    for name in ("negative_cosine", "similarity_distillation"):
        loss, x = TAUGHT[name]
        np.testing.assert_allclose(loss(*(a @ rotation for a in x)), loss(*x), rtol=1e-4)
    z = STUDENT[0]
    images, patches = IMAGES[order], IMAGES[::-1][order]
    same = ibot(images, patches, MASK[order], CENTER, **TEMPERATURES)
    np.testing.assert_allclose(same, TAUGHT["ibot"][0](*TAUGHT["ibot"][1]), rtol=1e-5)
    for same in (z[order], z @ rotation, 3 * z):
        np.testing.assert_allclose(losses.koleo(same), losses.koleo(z), rtol=1e-4)
    views = jnp.array([1, 0, 2])  # the teacher's two views swapped, the student's with them
    swapped = dino(STUDENT[views], TEACHER[::-1], CENTER, **TEMPERATURES)
    np.testing.assert_allclose(swapped, dino(STUDENT, TEACHER, CENTER, **TEMPERATURES), rtol=1e-5)
    p1, p2, z1, z2 = STUDENT[0], STUDENT[1], TEACHER[0], TEACHER[1]
    np.testing.assert_allclose(losses.byol(p2, z1, p1, z2), losses.byol(p1, z2, p2, z1), rtol=1e-6)


def test_a_shift_of_teacher_and_center_together_does_not_matter():
    shift = normal(5, seed=7)
    shifted = dino(STUDENT, TEACHER + shift[None, None], CENTER + shift, **TEMPERATURES)
    np.testing.assert_allclose(shifted, dino(STUDENT, TEACHER, CENTER, **TEMPERATURES), rtol=1e-4)


def test_patches_not_masked_count_for_nothing():
    student, teacher, center = TAUGHT["ibot"][1]
    other = jnp.where(MASK[:, :, None], student, 1e4)
    expected = ibot(student, teacher, MASK, center, **TEMPERATURES)
    np.testing.assert_array_equal(ibot(other, teacher, MASK, center, **TEMPERATURES), expected)


def test_no_masked_patch_at_all_gives_zero():
    student, teacher, center = TAUGHT["ibot"][1]
    loss = lambda s: ibot(s, teacher, jnp.zeros((8, 4), bool), center, **TEMPERATURES)  # noqa: E731
    assert assert_defined(loss, student) == 0


def test_places_not_valid_count_for_nothing():
    valid = jnp.arange(16) % 3 == 0
    masked = losses.similarity_distillation(STUDENT[0], TEACHER[0], QUEUE, **TEMPERATURES, valid=valid)
    short = losses.similarity_distillation(STUDENT[0], TEACHER[0], QUEUE[valid], **TEMPERATURES)
    np.testing.assert_allclose(masked, short, rtol=1e-6)
    empty = lambda s: losses.similarity_distillation(  # noqa: E731
        s, TEACHER[0], QUEUE, **TEMPERATURES, valid=jnp.zeros(16, bool)
    )
    assert assert_defined(empty, STUDENT[0]) == 0


def test_values_known_by_hand():
    z = jnp.eye(2)
    assert float(losses.negative_cosine(z, z)) == pytest.approx(-1)
    assert float(losses.byol(z, z, z, z)) == pytest.approx(0, abs=1e-6)
    assert float(losses.byol(z, -z, z, -z)) == pytest.approx(8)
    assert float(losses.koleo(z)) == pytest.approx(-np.log(np.sqrt(2)), rel=1e-6)
    uniform = dino(jnp.zeros((2, 3, 7)), jnp.zeros((2, 3, 7)), jnp.zeros(7), **TEMPERATURES)
    assert float(uniform) == pytest.approx(np.log(7), rel=1e-6)
    assert float(losses.knowledge_distillation(STUDENT[0], STUDENT[0], temperature=3.0)) == pytest.approx(0, abs=1e-6)


# Name → a loss of arrays, and their shapes for a batch of `b`.
SHAPES = {
    "negative_cosine": (losses.negative_cosine, lambda b: [(b, 3)] * 2),
    "byol": (losses.byol, lambda b: [(b, 3)] * 4),
    "koleo": (losses.koleo, lambda b: [(b, 3)]),
    "similarity_distillation": (TAUGHT["similarity_distillation"][0], lambda b: [(b, 3), (b, 3), (6, 3)]),
    "knowledge_distillation": (TAUGHT["knowledge_distillation"][0], lambda b: [(b, 3)] * 2),
    "dino": (TAUGHT["dino"][0], lambda b: [(3, b, 5), (2, b, 5), (5,)]),
    "ibot": (
        lambda s, t, m, c: ibot(s, t, m > 0, c, **TEMPERATURES),
        lambda b: [(b, 3, 5), (b, 3, 5), (b, 3), (5,)],
    ),
    "update_center": (TAUGHT["update_center"][0], lambda b: [(2, b, 5), (2, b, 5), (5,)]),
}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_bad_inputs_give_a_defined_value_and_finite_gradients(name, batch):
    loss, shapes = SHAPES[name]
    for x in bad_inputs(*shapes(batch)).values():
        assert_defined(loss, *x)


@pytest.mark.parametrize(
    "call, shapes",
    [
        (lambda: losses.negative_cosine(normal(4, 3), normal(5, 3)), r"\(4, 3\).*\(5, 3\)"),
        (lambda: losses.byol(normal(4, 3), normal(4, 3), normal(4, 3), normal(4, 2)), r"\(4, 3\).*\(4, 2\)"),
        (lambda: dino(STUDENT, normal(2, 7, 5), CENTER, **TEMPERATURES), r"\(3, 8, 5\).*\(2, 7, 5\)"),
        (lambda: dino(TEACHER, STUDENT, CENTER, **TEMPERATURES), r"\(2, 8, 5\).*\(3, 8, 5\)"),
        (lambda: dino(STUDENT[:1], TEACHER[:1], CENTER, **TEMPERATURES), r"\(1, 8, 5\).*\(1, 8, 5\)"),
        (lambda: dino(STUDENT, TEACHER, normal(4), **TEMPERATURES), r"\(4,\).*\(2, 8, 5\)"),
        (lambda: ibot(STUDENT, TEACHER, MASK, CENTER, **TEMPERATURES), r"\(3, 8, 5\).*\(2, 8, 5\)"),
        (lambda: ibot(TEACHER, TEACHER, MASK, CENTER, **TEMPERATURES), r"\(8, 4\).*\(2, 8, 5\)"),
        (lambda: losses.update_center(normal(4), TEACHER, momentum=0.9), r"\(4,\).*\(2, 8, 5\)"),
        (lambda: losses.koleo(normal(4)), r"\(4,\)"),
        (
            lambda: losses.similarity_distillation(STUDENT[0], TEACHER[0], normal(6, 4), **TEMPERATURES),
            r"\(6, 4\).*\(8, 5\)",
        ),
        (
            lambda: losses.similarity_distillation(STUDENT[0], TEACHER[0], QUEUE, **TEMPERATURES, valid=MASK[0]),
            r"\(4,\).*\(16, 5\)",
        ),
        (lambda: losses.knowledge_distillation(normal(4, 3), normal(4, 2), temperature=1.0), r"\(4, 3\).*\(4, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, shapes):
    with pytest.raises(ValueError, match=shapes):
        call()
