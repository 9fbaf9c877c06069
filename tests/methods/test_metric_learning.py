"""Methods that learn from labels and attributes, with a small MLP on vectors as the encoder, so that all are quick."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BATCH, Training
from traffic import sent, step_of

from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.losses import References, l2_normalise, triplet
from ssljax.methods import (
    ArcFace,
    AttributeClassification,
    Contrastive,
    CosFace,
    GivenTriplets,
    Lifted,
    Memory,
    MetricLearning,
    MultiSimilarity,
    MultiTask,
    NPairs,
    ProxyAnchor,
    ProxyNCA,
    SimCLR,
    SubCenterArcFace,
    SupCon,
    Triplet,
)
from ssljax.methods.metric_losses import ClassLoss
from ssljax.models import MLP, Frozen, Identity, ResNet
from ssljax.optim import AdamW
from ssljax.schedules import Linear
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.setup import Setup
from ssljax.types import UserError

CLASSES, SIGNAL, NOISE, STEPS = 6, 6, 6, 100
CENTRES = np.random.default_rng(0).normal(size=(CLASSES, SIGNAL))
PARTS = {"encoder": MLP(hidden=(32,), out=8, batch_norm=True)}
TASK = {"encoder": Identity()}
MEMORY = {"memory": Memory(size=6 * BATCH)}
METHODS = {
    "triplet": MetricLearning(**PARTS, **MEMORY, criterion=Triplet(margin=0.5)),
    "triplet_semi_hard": MetricLearning(**PARTS, criterion=Triplet(mining="semi_hard", margin=0.5)),
    "triplet_soft": MetricLearning(**PARTS, criterion=Triplet(mining="all", soft=True, margin=0.0)),
    "contrastive": MetricLearning(**PARTS, **MEMORY, criterion=Contrastive(negative_margin=1.0)),
    "sup_con": MetricLearning(
        **PARTS, **MEMORY, projector=MLP(hidden=(16,), out=8, batch_norm=True), criterion=SupCon()
    ),
    "multi_similarity": MetricLearning(**PARTS, **MEMORY, criterion=MultiSimilarity()),
    "n_pairs": MetricLearning(**PARTS, criterion=NPairs()),
    "n_pairs_normalised": MetricLearning(**PARTS, criterion=NPairs(normalise=True)),
    "lifted": MetricLearning(**PARTS, **MEMORY, criterion=Lifted()),
    "arcface": MetricLearning(
        **PARTS, criterion=ArcFace(classes=CLASSES, scale=8.0, class_sizes=tuple(range(CLASSES)))
    ),
    "cosface": MetricLearning(
        **PARTS, criterion=CosFace(classes=CLASSES, scale=8.0, margin=Linear(0.0, 0.35, until=0.5))
    ),
    "sub_center_arcface": MetricLearning(**PARTS, criterion=SubCenterArcFace(classes=CLASSES, scale=8.0)),
    "proxy_nca": MetricLearning(**PARTS, criterion=ProxyNCA(classes=CLASSES)),
    "proxy_anchor": MetricLearning(**PARTS, criterion=ProxyAnchor(classes=CLASSES)),
    "given_triplets": GivenTriplets(**PARTS, margin=0.5),
    "attributes": AttributeClassification(**PARTS, values=(2, 3)),
    "multi_task": MultiTask(
        **PARTS,
        tasks=(
            MetricLearning(**TASK, **MEMORY, criterion=Triplet(margin=0.5)),
            AttributeClassification(**TASK, values=(2, 3)),
            SimCLR(**TASK, projector=MLP(hidden=(16,), out=8, batch_norm=True)),
        ),
        task_weights=(1.0, 1.0, Linear(0.2, 0.0)),
        uncertainty=True,
    ),
}
QUICK = ("triplet", "arcface", "multi_task")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
LABELLED = [name for name, method in METHODS.items() if isinstance(method, MetricLearning)]
REMEMBERING = [name for name in LABELLED if METHODS[name].memory.size]


def items(rng, labels):
    """f32[n, SIGNAL + NOISE]: items of a class are alike in the first numbers; the others say nothing."""
    return np.concatenate(
        [CENTRES[labels] + 0.3 * rng.normal(size=(len(labels), SIGNAL)), 2 * rng.normal(size=(len(labels), NOISE))], 1
    ).astype(np.float32)


def batch_of(step=0):
    """Labelled items, two of them unlabelled, with two attributes of which some are missing; and a triplet of each."""
    rng = np.random.default_rng(step)
    label = rng.integers(0, CLASSES, BATCH)
    other = (label + rng.integers(1, CLASSES, BATCH)) % CLASSES
    attributes = np.stack([label % 2, label // 2], axis=1)
    attributes[rng.random((BATCH, 2)) < 0.2] = -1
    batch = {"photos": np.stack([items(rng, label), items(rng, label), items(rng, other)], axis=1)}
    label[:2] = -1
    return batch | {"label": label.astype(np.int32), "attributes": attributes.astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Views of the first photos of an item."""

    count: int

    def __call__(self, rng, batch):
        return batch | {"views": tuple(batch["photos"][:, i] for i in range(self.count))}


OPTIMIZER = AdamW(lr=1e-2)


def training(name, **settings):
    views = Vectors(3 if name == "given_triplets" else 2)
    method = METHODS[name] if isinstance(name, str) else name
    return Training(method, views=views, optimizer=OPTIMIZER, steps=STEPS, photos=batch_of, **settings)


def viewed(step=0, count=2):
    return Vectors(count)(None, jax.tree.map(jnp.asarray, batch_of(step)))


def recall(method, state):
    """The share of 120 new items whose nearest is of their class."""
    labels = np.arange(120) % CLASSES
    vectors = jnp.asarray(items(np.random.default_rng(99), labels))
    z = np.asarray(l2_normalise(jax.jit(method.embed)(state.params, state.aux, {"views": (vectors,)})))
    return np.mean(labels[np.argmax(z @ z.T - 2 * np.eye(len(z)), axis=1)] == labels)


@pytest.fixture(params=NAMES, scope="module")
def name(request):
    """Each method in turn: of the module's scope, so that what it compiles serves all of its tests."""
    return request.param


def test_finds_more_after_a_short_training(name):
    trained = training(name)
    before = recall(METHODS[name], trained.state)
    trained.run(STEPS)
    after = recall(METHODS[name], trained.state)
    assert after > before + 0.15 and after > 0.7


def test_one_device_equals_eight_in_loss_and_state(name):
    one, eight = training(name), training(name, devices=8)
    for _ in range(2):
        eight.state = jax.device_put(jax.device_get(one.state), eight.shardings)
        figures = one.run(1), eight.run(1)
        for left, right in ((figures[0], figures[1]), (one.state.aux, eight.state.aux)):
            for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
                np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-3)


def test_a_restored_checkpoint_goes_on_bit_for_bit(name, tmp_path):
    first = training(name)
    first.run(1)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), first.state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, first.state, {})
        checkpoints.wait()
        first.run(2)
        resumed = training(name)
        resumed.state = checkpoints.restore(shapes, resumed.shardings)
    resumed.run(2)
    for x, y in zip(jax.tree.leaves(first.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_order_of_the_batch_does_not_matter(name):
    if name in ("n_pairs", "n_pairs_normalised"):
        pytest.skip("takes the first two items of each class")
    method, batch = METHODS[name], viewed(count=3 if name == "given_triplets" else 2)
    state, order = training(name).state, np.random.default_rng(0).permutation(BATCH)
    loss = jax.jit(lambda batch: method.loss(state.params, state.aux, batch, state.rng, jnp.float32(0.5))[0])
    np.testing.assert_allclose(loss(batch), loss(jax.tree.map(lambda x: x[order], batch)), rtol=1e-4)


@pytest.mark.parametrize("name", LABELLED)
def test_items_without_label_neither_attract_nor_repel(name):
    method, rng = METHODS[name], np.random.default_rng(0)
    z, labels = jnp.asarray(rng.normal(size=(12, 8)), jnp.float32), jnp.asarray(np.arange(12) % 3 - 1, jnp.int32)
    vectors = method.criterion.shape(8) if isinstance(method.criterion, ClassLoss) else ()
    params = {"class_vectors": jnp.asarray(rng.normal(size=vectors), jnp.float32)}

    @jax.jit
    def loss_and_gradient(z, labels):
        return jax.value_and_grad(lambda z: method.compare(params, None, z, labels, jnp.float32(0.5))[0])(z)

    value, gradient = loss_and_gradient(z, labels)
    elsewhere, _ = loss_and_gradient(jnp.where((labels < 0)[:, None], 3.0, z), labels)
    assert np.any(gradient) and not np.any(gradient[labels < 0])
    np.testing.assert_allclose(value, elsewhere, rtol=1e-6)
    value, gradient = loss_and_gradient(z, jnp.full(12, -1))
    assert float(value) == 0 and not np.any(gradient)


def test_the_memory_is_the_same_on_one_device_and_eight_and_each_holds_an_eighth():
    method = METHODS["triplet"]
    memories = []
    for devices in (1, 8):
        run = training("triplet", devices=devices)
        run.run(5)
        memories.append(run.state.aux.memory)
    one, eight = memories
    rows = 2 * BATCH
    assert {s.data.shape for s in eight.keys.addressable_shards} == {(rows // 8, 3, 8)}
    assert {s.data.shape for s in eight.labels.addressable_shards} == {(rows // 8, 3)}
    np.testing.assert_array_equal(one.labels, eight.labels)
    np.testing.assert_allclose(one.keys, eight.keys, atol=2e-2)  # after five steps of rounding, of unit vectors
    # Slots hold the steps 3, 4 and, around the end, 2: each item's two views, one after the other.
    for slot, step in enumerate((3, 4, 2)):
        np.testing.assert_array_equal(one.labels[:, slot], np.repeat(batch_of(step)["label"], 2))
    assert int(one.count) == 5 and method.memory.size == one.flat.shape[0]
    np.testing.assert_array_equal(one.newest, np.arange(rows) * 3 + 1)


def test_the_batch_is_remembered_before_the_loss_which_begins_after_the_warm_up():
    method = dataclasses.replace(METHODS["triplet"], memory=Memory(6 * BATCH, start=0.5, weight=2.0))
    state, batch = training("triplet").state, viewed()
    outputs, _ = jax.jit(method.network.train_crops)(state.params, state.aux.stats, batch["views"])
    z, labels = method.rows([view["projector"] for view in outputs], batch["label"])
    settings = {"margin": 0.5, "mining": "batch_hard"}
    inside = float(triplet(z, labels, **settings))
    # With nothing else in the memory, its pairs are those of the batch.
    references = References(l2_normalise(z), labels, jnp.arange(len(z)))
    across = float(triplet(z, labels, references=references, **settings))
    step = jax.jit(lambda progress: method.loss(state.params, state.aux, batch, state.rng, progress))
    for progress, expected in ((0.4, inside), (0.5, inside + 2 * across)):
        loss, (_, figures) = step(jnp.float32(progress))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(figures["memory_loss"], across, rtol=1e-5)


@pytest.mark.parametrize("name", REMEMBERING)
def test_no_gradient_reaches_the_memory(name):
    run = training(name)
    run.run(2)
    state, method = run.state, METHODS[name]

    def loss(keys):
        aux = dataclasses.replace(state.aux, memory=dataclasses.replace(state.aux.memory, keys=keys))
        return method.loss(state.params, aux, viewed(7), state.rng, jnp.float32(0.5))[0]

    assert not np.any(jax.jit(jax.grad(loss))(state.aux.memory.keys))


def test_neither_the_memory_nor_its_products_travel():
    run = training("triplet", devices=8)
    shapes = {array.shape for array in sent(step_of(run))}
    rows, size = 2 * BATCH, METHODS["triplet"].memory.size
    assert (rows, 8) in shapes  # the anchors
    assert not shapes & {(size, 8), (rows, 3, 8), (rows, size), (rows, size // 8)}


def test_a_million_classes_are_an_eighth_on_each_device():
    classes = 10**6
    method = MetricLearning(encoder=MLP(hidden=(), out=4), criterion=ArcFace(classes=classes))
    run = Training(method, views=Vectors(1), optimizer=OPTIMIZER, photos=batch_of, devices=8, shards=8)
    text = step_of(run).as_text()
    before = np.asarray(run.state.params["class_vectors"][:CLASSES])
    assert np.isfinite(run.run(1)["loss"])
    vectors, moments = run.state.params["class_vectors"], jax.tree.leaves(run.state.opt_state)
    moments = [x for x in moments if x.shape == vectors.shape]
    assert len(moments) == 2  # Adam's
    for x in (vectors, *moments):
        assert {s.data.shape for s in x.addressable_shards} == {(classes // 8, 4)}
    assert np.all(np.asarray(vectors[:CLASSES]) != before)
    assert f"[{classes}," not in text and f",{classes}]" not in text  # nowhere in the step, let alone sent


def test_margins_grow_over_training_and_with_rarity():
    criterion = ArcFace(classes=3, class_sizes=(1, 16, 81), margin=Linear(0.0, 0.5), size_power=0.5, size_floor=0.1)
    rarity = np.array([1, 1 / 4, 1 / 9])
    expected = 0.5 * (0.1 + 0.9 * (rarity - 1 / 9) / (1 - 1 / 9))
    np.testing.assert_allclose(criterion.margins(jnp.float32(1)), expected, rtol=1e-5)
    np.testing.assert_allclose(criterion.margins(jnp.float32(0.5)), expected / 2, rtol=1e-5)
    assert criterion.margins(jnp.float32(1))[2] == pytest.approx(0.05)
    assert dataclasses.replace(criterion, class_sizes=(5, 5, 5)).margins(jnp.float32(1)) == 0.5


def test_many_tasks_are_their_weighted_sum_and_say_how_they_pull():
    method = dataclasses.replace(METHODS["multi_task"], task_weights=(1.0, 0.5, 2.0))
    state, batch, progress = training("multi_task").state, viewed(), jnp.float32(0.5)
    s = jnp.array([0.3, -0.2, 0.1])
    params = {**state.params, "log_variance": s}
    rngs = jax.random.split(state.rng, 4)

    def apart(params, k, weigh):
        views, _ = method.network.train_crops(params, state.aux.stats, batch["views"], rngs[0])
        encoded = tuple(view["encoder"] for view in views)
        (name, task), weight = list(method.named.items())[k], (1.0, 0.5, 2.0)[k]

        def loss(encoded):
            seen = batch | {"views": encoded, "images": batch["views"]}
            return task.loss(params["tasks"][name], state.aux.tasks[name], seen, rngs[k + 1], progress)[0]

        if not weigh:
            return jnp.sqrt(sum(jnp.sum(g**2) for g in jax.grad(loss)(encoded)))
        return weight * jnp.exp(-params["log_variance"][k]) * loss(encoded) + params["log_variance"][k] / 2

    expected = jax.jit(jax.value_and_grad(lambda p: sum(apart(p, k, True) for k in range(3))))(params)
    together = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (loss, (_, figures)), gradient = together(params, state.aux, batch, state.rng, progress)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
    for k, name in enumerate(method.named):
        norm = jax.jit(lambda params, k=k: apart(params, k, False))(params)
        np.testing.assert_allclose(figures[f"{name}/gradient_norm"], norm, rtol=1e-4)
    assert figures["AttributeClassification/weight"] == pytest.approx(0.5 * np.exp(0.2))


def test_labels_are_the_anchors_where_the_other_views_are_of_other_items():
    alone = AttributeClassification(**PARTS, values=(2, 3), labelled_views=1)
    state = training("attributes").state
    step = jax.jit(lambda batch: alone.loss(state.params, state.aux, batch, state.rng, jnp.float32(0))[0])
    assert step(viewed(count=3)) == step(viewed(count=1))


def test_a_task_that_comes_twice_has_two_names():
    task = MetricLearning(**TASK, criterion=Triplet())
    assert list(MultiTask(tasks=(task, SimCLR(**TASK), task)).named) == ["Triplet", "SimCLR", "Triplet_2"]


@dataclasses.dataclass
class Split:
    """What a method is told of the train split."""

    label: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    attributes: np.ndarray | None = None
    attribute_names: tuple[str, ...] = ("colour", "shape")
    attribute_values: tuple[tuple[str, ...], ...] = ()


@dataclasses.dataclass
class Batched:
    """What a method is told of the batches."""

    alike: bool = True


@pytest.mark.parametrize(
    "method, split, sentence",
    [
        (MetricLearning(criterion=Triplet()), Split(), "Triplet learns from labels, and the data has none"),
        (
            MetricLearning(criterion=Triplet()),
            Split(np.array([-1, -1, -1])),
            "the 3 photos of the train split have 0: 3 have no label",
        ),
        (
            MetricLearning(criterion=ProxyNCA(classes=3)),
            Split(np.array([1, 1, -1])),
            "the 3 photos of the train split have 1: 1 have no label",
        ),
        (
            MetricLearning(criterion=ArcFace(classes=3)),
            Split(np.array([0, 3]), tuple("abcde")),
            "method.criterion.classes=3 is too small for labels from 0 to 4",
        ),
        (MetricLearning(criterion=ArcFace()), Split(np.array([0, 3])), "set it to 4"),
        (AttributeClassification(), Split(), "AttributeClassification learns from attributes, and the data has none"),
        (
            AttributeClassification(values=(2, 3)),
            Split(attributes=np.array([[0, 1], [0, 2], [-1, 0]])),
            "attribute 'colour' has 1 value in the 3 photos of the train split (1 lack it)",
        ),
        (
            AttributeClassification(values=(2, 3)),
            Split(attributes=np.array([[0, 1], [1, 0]]), attribute_values=(("a", "b"), ("c", "d"))),
            "method.values=(2, 3) are not the data's attributes: set it to (2, 2)",
        ),
        (MultiTask(tasks=(MetricLearning(**TASK, criterion=Triplet()),)), Split(), "Triplet learns from labels"),
        (
            MetricLearning(criterion=Contrastive()),
            Split(np.array([0, 1, -1, 2])),
            "each of the 3 classes of the train split has a single one",
        ),
        (
            MetricLearning(criterion=CosFace(classes=3, class_sizes=(2, 0, 0))),
            Split(np.array([0, 1, 0])),
            "method.criterion.class_sizes is 0 for 1 classes that have photos, such as 1 with 1: give",
        ),
    ],
)
def test_data_that_does_not_suit_is_refused_before_training(method, split, sentence):
    with pytest.raises(UserError) as caught:
        method.check(split, Batched(), views=1)
    assert sentence in str(caught.value)


def test_a_projection_may_be_what_is_searched():
    method = MetricLearning(**PARTS, projector=MLP(hidden=(), out=5), criterion=Triplet(), embedding="projector")
    state, batch = training(method).state, viewed()
    outputs = method.network.evaluate(state.params, state.aux.stats, batch["views"][0])
    np.testing.assert_array_equal(method.embed(state.params, state.aux, batch), outputs["projector"])
    np.testing.assert_array_equal(
        dataclasses.replace(method, embedding="encoder").embed(state.params, state.aux, batch), outputs["encoder"]
    )


def test_the_encoder_waits_until_the_heads_are_warm():
    method = MetricLearning(**PARTS, criterion=ArcFace(classes=CLASSES, scale=8.0), encoder_from=0.02)  # of 100 steps
    run = training(method)
    states = [jax.device_get(run.state.params)]
    for _ in range(3):
        run.run(1)
        states.append(jax.device_get(run.state.params))

    def moved(name):
        kernels = [jax.tree.leaves(state[name])[-1] for state in states]
        return [bool(np.any(x != y)) for x, y in itertools.pairwise(kernels)]

    assert moved("encoder") == [False, False, True] and moved("class_vectors") == [True, True, True]


def test_photos_alone_in_their_class_are_well_with_two_views():
    split = Split(np.array([0, 1, 2]))
    MetricLearning(criterion=SupCon()).check(split, Batched(), views=2)
    with pytest.raises(UserError, match="each of the 3 classes of the train split has a single one"):
        MetricLearning(labelled_views=1, criterion=SupCon()).check(split, Batched(), views=2)


def test_class_sizes_of_another_length_are_refused_before_training():
    data, parts = ToyCatalogue(listings=40, size=16), {"batch_size": 16, "photo_size": 16}
    method = MetricLearning(encoder=ResNet(depth=10), criterion=ArcFace(classes=20, class_sizes=(1, 2)))
    with pytest.raises(UserError, match=r"method\.criterion\.class_sizes has 2 numbers and there are 20 classes"):
        Setup.of(Experiment(name="x", data=data, method=method, **parts))


@pytest.mark.parametrize(
    "method, alike, sentence",
    [
        (
            MetricLearning(criterion=Triplet()),
            False,
            "method.labelled_views=None takes the positive and the negative of the sampler's triplets",
        ),
        (AttributeClassification(), False, "set it to 1, or learn from the triplets by GivenTriplets"),
        (
            MultiTask(tasks=(GivenTriplets(**TASK), MetricLearning(**TASK, labelled_views=2, criterion=SupCon()))),
            False,
            "method.tasks.1.labelled_views=2",
        ),
        (GivenTriplets(), True, "the sampler's are of photos that are alike: choose sampler=Triplets()"),
    ],
)
def test_triplets_are_not_taken_for_photos_of_one_class(method, alike, sentence):
    with pytest.raises(UserError) as caught:
        method.check(Split(np.array([0, 0, 1])), Batched(alike), views=3)
    assert sentence in str(caught.value)


def test_an_experiment_asks_the_method_about_its_data():
    data, parts = ToyCatalogue(listings=40, size=16), {"batch_size": 16, "photo_size": 16}
    with pytest.raises(
        UserError, match=r"method.criterion.classes=2 is too small for labels from 0 to \d+: set it to \d+"
    ):
        Setup.of(
            Experiment(
                name="x",
                data=data,
                method=MetricLearning(encoder=ResNet(depth=10), criterion=ArcFace(classes=2)),
                **parts,
            )
        )


@pytest.mark.parametrize(
    "method, sentence",
    [
        (
            MetricLearning(**PARTS, criterion=Triplet(margin=3.0)),
            "method.criterion.margin=3.0 must be at least 0 and at most 2",
        ),
        (
            MetricLearning(encoder=Frozen(PARTS["encoder"]), criterion=Triplet(), encoder_from=0.1),
            "method.encoder_from=0.1 is when the encoder begins to learn, and this one has no parameters that learn",
        ),
        (
            MetricLearning(**PARTS, memory=Memory(size=33), criterion=Triplet()),
            "method.memory.size=33 is not a multiple of the 32 embeddings",
        ),
        (MetricLearning(**PARTS, memory=Memory(size=-1), criterion=Triplet()), "try 32, or 0 for no memory"),
        (
            MetricLearning(**PARTS, memory=Memory(start=1.0), criterion=Triplet()),
            "method.memory.start=1.0 must be a share of training",
        ),
        (
            MetricLearning(**PARTS, memory=Memory(weight=-1.0), criterion=Triplet()),
            "method.memory.weight=-1.0 must be at least 0",
        ),
        (MetricLearning(**PARTS, criterion=MultiSimilarity(beta=0.0)), "method.criterion.beta=0.0 must be above 0"),
        (MetricLearning(**PARTS, criterion=NPairs(scale=0.0)), "method.criterion.scale=0.0 above 0"),
        (
            MetricLearning(**PARTS, criterion=ArcFace()),
            "method.criterion.classes=0 must be the number of the data's classes",
        ),
        (
            MetricLearning(**PARTS, criterion=ArcFace(classes=4, margin=4.0)),
            "method.criterion.margin=4.0 must be at least 0 and at most 1.5708",
        ),
        (
            MetricLearning(**PARTS, criterion=CosFace(classes=4, margin=1.2)),
            "method.criterion.margin=1.2 must be at least 0 and at most 1",
        ),
        (
            MetricLearning(**PARTS, criterion=ArcFace(classes=4, scale=-1.0)),
            "method.criterion.scale=-1.0 must be above 0",
        ),
        (
            MetricLearning(**PARTS, criterion=ArcFace(classes=4, class_sizes=(1, 2))),
            "method.criterion.class_sizes has 2 numbers and there are 4 classes",
        ),
        (
            MetricLearning(**PARTS, criterion=ArcFace(classes=2, class_sizes=(1, 2), size_power=0.0)),
            "method.criterion.size_power=0.0 above 0",
        ),
        (
            MetricLearning(**PARTS, criterion=SubCenterArcFace(classes=4, centers=0)),
            "method.criterion.centers=0 is too small",
        ),
        (MetricLearning(**PARTS, criterion=ProxyAnchor(classes=4, margin=1.0)), "method.criterion.margin=1.0 a cosine"),
        (
            MetricLearning(**PARTS, labelled_views=3, criterion=Triplet()),
            "method.labelled_views=3 must be from 1 to 2, the number of views",
        ),
        (GivenTriplets(**PARTS), "views make 2 views, and GivenTriplets needs three"),
        (
            AttributeClassification(**PARTS, values=(2,)),
            "method.values=(2,) must be the numbers of values of the data's 2 attributes",
        ),
        (MultiTask(**PARTS, tasks=()), "method.tasks=() leaves nothing to learn"),
        (
            MultiTask(**PARTS, tasks=(MetricLearning(criterion=Triplet()),)),
            "method.tasks.0.encoder=ResNet(...) would encode",
        ),
        (MultiTask(**PARTS, tasks=(ResNet(),)), "method.tasks.0=ResNet(...) must be a method of one network"),
        (MultiTask(**PARTS, task_weights=(1.0, 2.0)), "method.task_weights has 2 numbers and there are 1 tasks"),
        (MultiTask(**PARTS, task_weights=(-1.0,)), "method.task_weights.0=-1.0 must be at least 0"),
    ],
)
def test_senseless_settings_are_refused_before_compilation(method, sentence):
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda: method.init(jax.random.PRNGKey(0), viewed()))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "method", [MetricLearning(**PARTS, criterion=Triplet()), AttributeClassification(**PARTS, values=(2, 3))]
)
def test_data_without_labels_is_refused_by_the_batch_as_well(method):
    batch = {"views": viewed()["views"]}
    with pytest.raises(UserError, match="and the data has none"):
        jax.eval_shape(lambda: method.init(jax.random.PRNGKey(0), batch))
