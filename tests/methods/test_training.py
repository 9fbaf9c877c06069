"""What every method must keep, on one device and on eight: run on MoCo, and the first of it on all."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from methods import METHODS, NAMES, crops_of
from tiny import BATCH, CROPS, ENCODER, MOCO, SIMCLR, STEPS, VIEWS, Training, seen
from traffic import bytes_by_kind, sent, step_of

from ssljax.methods import CLIP, EMA, SEED, KnowledgeDistillation, MetricLearning, MultiTask, SigLIP, Triplet
from ssljax.methods.base.teachers import WithTeacher
from ssljax.models import MLP, BatchNorm, Frozen, Identity, Pretrained, Prototypes, ViT, weights_bytes, whole
from ssljax.optim import SGD
from ssljax.schedules import Cosine, Linear
from ssljax.sharding import batch_sharding, make_mesh, state_sharding
from ssljax.training.checkpoint import Checkpoints
from ssljax.types import Progress, UserError

SHUFFLED = dataclasses.replace(MOCO, shuffle=True, encoder=dataclasses.replace(ENCODER, norm_groups=8))
SYMMETRIC = dataclasses.replace(MOCO, symmetric=True, shuffle=True, encoder=dataclasses.replace(ENCODER, norm_groups=2))


def largest_difference(a, b, relative=False):
    """The largest difference of any two numbers of two trees; `relative` to the array's largest, if that is above 1."""
    worst = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        scale = np.max(np.abs(x), initial=1.0) if relative else 1.0
        worst = max(worst, float(np.max(np.abs(x - y), initial=0) / scale))
    return worst


VIEWS_BATCH = {"views": (np.zeros((BATCH, 16, 16, 3), np.float32),) * 2}


def equal_on_eight_devices(method, views):
    one, eight = Training(method, views=views), Training(method, views=views, devices=8)
    assert largest_difference(one.state, eight.state) < 1e-6
    for _ in range(3):  # each step from the same state: rounding grows from step to step
        eight.state = jax.device_put(jax.device_get(one.state), eight.shardings)
        figures = one.run(1), eight.run(1)
        assert largest_difference(*figures, relative=True) < 1e-3
        assert largest_difference(one.state, eight.state, relative=True) < 1e-3


@pytest.fixture(params=NAMES, scope="module")
def name(request):
    """Each method in turn: of the module's scope, so that what it compiles serves all of its tests."""
    return request.param


def test_one_device_equals_eight_in_loss_and_state(name):
    equal_on_eight_devices(METHODS[name], crops_of(name))


def test_a_restored_checkpoint_goes_on_bit_for_bit_and_nothing_compiles_twice(name, tmp_path):
    training = Training(METHODS[name], views=crops_of(name))
    training.run(2)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), training.state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, training.state, {})
        checkpoints.wait()
        training.run(2)
        resumed = Training(METHODS[name], views=crops_of(name))
        resumed.state = checkpoints.restore(shapes, resumed.shardings)
    resumed.run(2)
    assert largest_difference(training.state, resumed.state) == 0
    assert training.step._cache_size() == 1


@pytest.mark.slow
def test_one_device_equals_eight_with_split_batch_norm_and_both_directions():
    equal_on_eight_devices(SYMMETRIC, CROPS)


def test_no_gradient_reaches_any_teacher_and_it_follows_the_student_or_stays(name):
    method = METHODS[name]
    if not isinstance(method, WithTeacher):
        pytest.skip("has no teacher")
    training = Training(method, views=crops_of(name))
    training.run(1)
    state, batch = training.state, seen(crops_of(name))

    def loss(teacher):
        aux = dataclasses.replace(state.aux, teacher=dataclasses.replace(state.aux.teacher, params=teacher))
        return method.loss(state.params, aux, batch, state.rng, jnp.float32(0.5))[0]

    assert all(not np.any(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(state.aux.teacher.params)))
    after = jax.jit(method.after_update)(state.params, state.aux, jnp.float32(0.5)).teacher.params
    params, expected = jax.device_get((state.params, state.aux.teacher.params))
    if isinstance(method.teacher, EMA):
        followed = {name: params[name] for name in expected}
        expected = jax.tree.map(lambda t, s: 0.9 * t + 0.1 * s, expected, followed)
    assert largest_difference(after, expected) < 1e-6


def test_one_device_equals_eight_in_gradients():
    one, eight = Training(MOCO), Training(MOCO, devices=8)
    one.run(2)
    eight.state = jax.device_put(jax.device_get(one.state), eight.shardings)  # the same state, not two near ones
    grads = []
    for training in (one, eight):

        def gradient(state, batch):
            return jax.grad(MOCO.loss, has_aux=True)(state.params, state.aux, batch, state.rng, jnp.float32(0.5))[0]

        with jax.set_mesh(training.mesh):
            batch = jax.device_put(seen(VIEWS, 7), batch_sharding(training.mesh))
            grads.append(jax.jit(gradient)(training.state, batch))
    scale = max(float(np.max(np.abs(g))) for g in jax.tree.leaves(grads[0]))
    assert largest_difference(*grads) < 1e-4 * scale


def test_parameter_shards_equal_copies():
    copied, split = Training(MOCO, devices=8), Training(MOCO, devices=8, shards=4)
    assert largest_difference(copied.run(2), split.run(2)) < 1e-3


def test_large_parameters_are_split_and_small_ones_copied():
    mesh = make_mesh(8)
    state = {"large": jax.ShapeDtypeStruct((256, 512), "float32"), "small": jax.ShapeDtypeStruct((8, 8), "float32")}
    sharding = state_sharding(mesh, state)
    assert sharding["large"].shard_shape((256, 512)) == (256, 64)
    assert sharding["small"].shard_shape((8, 8)) == (8, 8)


def test_queue_is_split_over_the_devices():
    training = Training(MOCO, devices=8)
    keys = training.run(1) and training.state.aux.queue.keys
    assert {shard.data.shape for shard in keys.addressable_shards} == {(BATCH // 8, 3, 8)}


def test_collectives_carry_embeddings_and_never_the_queue_or_the_logits():
    arrays = sent(step_of(Training(SHUFFLED, views=CROPS, devices=8)))
    size = MOCO.queue_size
    assert not {array.shape for array in arrays} & {(size, 8), (BATCH, 3, 8), (BATCH, size), (BATCH, size // 8)}
    gathers = [array.shape for array in arrays if array.kind != "all-reduce"]
    assert gathers and set(gathers) <= {(BATCH, 8), (BATCH,)}, arrays
    assert len(gathers) <= 6, arrays


def test_of_split_parameters_only_these_travel_and_no_activation_of_a_network():
    encoder = ViT(patch=4, width=128, depth=2, heads=2)  # of which the MLPs' weights are split
    training = Training(dataclasses.replace(SIMCLR, encoder=encoder), views=CROPS, devices=8, shards=8)
    split = {x.shape for x in jax.tree.leaves(training.state.params) if x.sharding.shard_shape(x.shape) != x.shape}
    moved = [array for array in sent(step_of(training)) if array.kind != "all-reduce"]
    gathered = {array.shape for array in moved if array.kind == "all-gather"}
    assert split and split <= gathered <= split | {(2 * BATCH, 8), (2 * BATCH,)}, moved
    assert {array.kind for array in moved} <= {"all-gather", "reduce-scatter"}, moved


def larger(views):
    """Views whose crops have twice the side."""
    sides = {f.name: 2 * getattr(views, f.name) for f in dataclasses.fields(views) if f.name in ("size", "local_size")}
    inner = {name: larger(getattr(views, name)) for name in ("crops", "photo") if hasattr(views, name)}
    return dataclasses.replace(views, **sides, **inner)


@pytest.mark.parametrize("name", [*NAMES, "shuffled", pytest.param("symmetric", marks=pytest.mark.slow)])
def test_nothing_that_the_devices_send_grows_with_the_images(name):
    method = {**METHODS, "shuffled": SHUFFLED, "symmetric": SYMMETRIC}[name]
    small, large = (Training(method, views=v, devices=8) for v in (crops_of(name), larger(crops_of(name))))
    before, after = (bytes_by_kind(sent(step_of(training))) for training in (small, large))
    # A ViT's positions are a parameter that grows, whose gradients are summed: of crops of each of two sizes.
    grown = 2 * (weights(large) - weights(small))
    assert before.keys() == after.keys() and before["all-reduce"] <= after["all-reduce"] <= before["all-reduce"] + grown
    assert all(before[kind] == after[kind] for kind in before if kind != "all-reduce")


def weights(training):
    """Bytes of a method's parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(training.state.params))


@pytest.mark.slow
@pytest.mark.parametrize("method", [METHODS["swav"], dataclasses.replace(METHODS["dino"], centering="sinkhorn")])
def test_sinkhorn_moves_no_scores(method):
    """Of the batch and of the queue: sums over the prototypes travel, and nothing else."""
    assert set(bytes_by_kind(sent(step_of(Training(method, views=crops_of("swav"), devices=8))))) == {"all-reduce"}


def test_shuffling_costs_next_to_nothing():
    flops = [
        step_of(Training(dataclasses.replace(SHUFFLED, shuffle=shuffle), views=CROPS, devices=8)).cost_analysis()
        for shuffle in (False, True)
    ]
    assert flops[1]["flops"] < 1.05 * flops[0]["flops"]


def test_no_gradient_reaches_the_teacher_or_the_queue():
    training = Training(MOCO)
    training.run(2)
    state, batch = training.state, seen(VIEWS)

    def loss(teacher, keys):
        teacher = dataclasses.replace(state.aux.teacher, params=teacher)
        aux = dataclasses.replace(state.aux, teacher=teacher, queue=dataclasses.replace(state.aux.queue, keys=keys))
        return MOCO.loss(state.params, aux, batch, state.rng, jnp.float32(0))[0]

    gradient, _ = jax.jit(jax.grad(loss, argnums=(0, 1)))(state.aux.teacher.params, state.aux.queue.keys)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_teacher_follows_the_student_by_its_momentum():
    training = Training(MOCO)
    before = jax.device_get(training.state.aux.teacher.params)
    training.run(1)
    expected = jax.tree.map(lambda t, s: 0.9 * t + 0.1 * s, before, jax.device_get(training.state.params))
    assert largest_difference(expected, training.state.aux.teacher.params) < 1e-6
    assert largest_difference(before, training.state.aux.teacher.params) > 0


def test_keys_of_a_step_enter_the_queue_after_its_loss():
    training = Training(MOCO)
    assert float(training.run(1)["loss"]) == 0.0  # no negative yet: InfoNCE of the positive alone
    queue = training.state.aux.queue
    assert int(queue.count) == 1 and float(queue.fill) == pytest.approx(1 / 3)
    np.testing.assert_allclose(np.linalg.norm(queue.keys[:, 0], axis=-1), np.ones(BATCH), rtol=1e-5)
    assert not np.any(queue.keys[:, 1:])
    assert float(training.run(1)["loss"]) > 0


def test_symmetric_enqueues_both_views():
    training = Training(SYMMETRIC, views=CROPS)
    training.run(1)
    assert int(training.state.aux.queue.count) == 2


def test_step_compiles_once_and_is_reproducible():
    one, two = Training(MOCO), Training(MOCO)
    one.run(3), two.run(3)
    assert one.step._cache_size() == 1  # of all the steps that the tests of this process took with it
    assert largest_difference(one.state, two.state) == 0


def test_loss_falls_on_a_batch_seen_again():
    training = Training(SIMCLR, views=CROPS)
    with jax.set_mesh(training.mesh):
        losses = []
        for _ in range(STEPS):
            training.state, metrics = training.step(training.state, training.batch(0))
            losses.append(float(metrics["loss"]))
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("size, hint", [(20, "try 16 or 32"), (8, "try 16")])
def test_queue_that_does_not_fit_is_refused_before_compilation(size, hint):
    with pytest.raises(UserError, match=f"queue_size={size} is not a multiple of batch_size=16: {hint}"):
        Training(dataclasses.replace(MOCO, queue_size=size))


def test_symmetric_queue_shorter_than_its_keys_is_refused():
    with pytest.raises(UserError, match=r"queue_size=16.*try 32"):
        Training(dataclasses.replace(MOCO, queue_size=BATCH, symmetric=True))


@pytest.mark.parametrize(
    "method, sentence",
    [
        (dataclasses.replace(MOCO, queue_size=0), "method.queue_size=0 holds nothing: try 256"),
        (dataclasses.replace(MOCO, queue_size=-5), "method.queue_size=-5 holds nothing: try 256"),
        (
            dataclasses.replace(MOCO, teacher=EMA(momentum=2)),
            "method.teacher.momentum=2 must be at least 0 and at most 1",
        ),
        (
            dataclasses.replace(MOCO, teacher=EMA(momentum="slow")),
            "method.teacher.momentum='slow' must be a number or a schedule",
        ),
        (dataclasses.replace(MOCO, teacher=EMA(momentum=Cosine(0.9, 1.1))), "at most 1, but it ends with 1.1"),
        (dataclasses.replace(MOCO, temperature=0.0), "method.temperature=0.0 must be above 0"),
        (dataclasses.replace(MOCO, temperature=float("nan")), "method.temperature=nan must be above 0"),
        (dataclasses.replace(SIMCLR, temperature=-1), "method.temperature=-1 must be above 0"),
        (dataclasses.replace(SIMCLR, temperature=Linear(0.0, 1.0)), "must be above 0, but it begins with 0"),
        (dataclasses.replace(MOCO, encoder=None), "method.encoder=None must be a linen module"),
        (dataclasses.replace(MOCO, encoder=ENCODER.clone(width=0)), "method.encoder.width=0 is too small"),
        (dataclasses.replace(MOCO, encoder=ENCODER.clone(depth=17)), "method.encoder.depth=17 is not a ResNet"),
        (
            dataclasses.replace(MOCO, encoder=ENCODER.clone(norm_groups=3)),
            "method.encoder.norm_groups=3 does not divide",
        ),
        (
            dataclasses.replace(MOCO, encoder=ViT(width=16, depth=1, heads=1, patch=8), shuffle=True),
            "method.shuffle=True does nothing with method.encoder=ViT(...), which has no BatchNorm",
        ),
        (dataclasses.replace(MOCO, shuffle=True), "method.shuffle does nothing without method.encoder.norm_groups"),
        (dataclasses.replace(MOCO, projector=MLP(out=0)), "method.projector.out=0 is too small"),
        (dataclasses.replace(MOCO, projector=MLP(hidden=(8, 0))), "method.projector.hidden=(8, 0): each layer"),
    ],
)
def test_senseless_settings_are_refused_before_compilation(method, sentence):
    batch = {"views": (np.zeros((BATCH, 16, 16, 3), np.float32),) * 2}
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda: method.init(jax.random.PRNGKey(0), batch))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 4])
def test_views_that_do_not_suit_are_refused_before_compilation(method, count):
    any_number = isinstance(METHODS[method], SEED | KnowledgeDistillation | MetricLearning | MultiTask | CLIP | SigLIP)
    if (method in ("dino", "swav", "ibot") and count == 4) or any_number:
        pytest.skip("takes as many")
    views = (np.zeros((BATCH, 16, 16, 3), np.float32),) * count
    batch = {"views": views, "label": np.zeros(BATCH, np.int32), "masks": (np.zeros((BATCH, 16), bool),) * 2}
    with pytest.raises(UserError, match=f"views make {count} view"):
        jax.eval_shape(lambda: METHODS[method].init(jax.random.PRNGKey(0), batch))


@pytest.mark.parametrize("method", ["byol", "sim_siam", "nnclr"])
def test_predictor_of_another_width_than_the_projector_is_refused(method):
    wide = dataclasses.replace(METHODS[method], predictor=MLP(hidden=(16,), out=24))
    sentence = r"method.predictor makes 24 numbers and method.projector \d+, .*set method.predictor.out=\d+"
    with pytest.raises(UserError, match=sentence):
        jax.eval_shape(lambda: wide.init(jax.random.PRNGKey(0), VIEWS_BATCH))
    without = dataclasses.replace(wide, predictor=Identity())
    assert jax.eval_shape(lambda: without.init(jax.random.PRNGKey(0), VIEWS_BATCH))


@pytest.mark.parametrize("method", ["seed", "knowledge_distillation"])
def test_teacher_that_does_not_suit_is_refused(method):
    replace = functools.partial(dataclasses.replace, METHODS[method].teacher)
    wrong = {
        "method.teacher.encoder=ResNet(...) is untrained": {"teacher": replace(encoder=ENCODER)},
        "method.projector makes 5 numbers and method.teacher.projector 8": {"projector": MLP(out=5)},
        "method.teacher.encoder.weights=nowhere does not exist": {
            "teacher": replace(encoder=Pretrained(ENCODER, "nowhere"))
        },
    }
    for sentence, changes in wrong.items():
        with pytest.raises(UserError) as caught:
            changed = dataclasses.replace(METHODS[method], **changes)
            jax.eval_shape(lambda changed=changed: changed.init(jax.random.PRNGKey(0), VIEWS_BATCH))
        assert sentence in str(caught.value)


def test_shares_of_training_are_held_to_their_range():
    with pytest.raises(UserError, match=r"method.freeze_last=1 must be a share of training"):
        jax.eval_shape(
            lambda: dataclasses.replace(METHODS["dino"], freeze_last=1).init(jax.random.PRNGKey(0), VIEWS_BATCH)
        )


def test_frozen_prototypes_do_not_move():
    """Of DINO's head in one of 20 steps, while the rest learns; of tasks what each says itself."""
    training = Training(dataclasses.replace(METHODS["dino"], freeze_last=0.05), views=crops_of("dino"))
    states = [training.state.params]
    for _ in range(2):
        training.run(1)
        states.append(training.state.params)
    first, second, third = (state["projector"]["prototypes"] for state in states)
    assert largest_difference(first, second) == 0 < largest_difference(second, third)
    assert largest_difference(states[0]["encoder"], states[1]["encoder"]) > 0
    tasks = MultiTask(tasks=(METHODS["swav"], METHODS["triplet"], METHODS["swav"]))
    assert tasks.frozen_until == {
        "tasks/SwAV/prototypes": METHODS["swav"].freeze_prototypes,
        "tasks/SwAV_2/prototypes": METHODS["swav"].freeze_prototypes,
    }


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_with_sinkhorn_there_is_no_center_to_move(name):
    method, batch = dataclasses.replace(METHODS[name], centering="sinkhorn"), seen(crops_of(name))

    def step(rng, batch):
        params, aux = method.init(rng, batch)
        return aux, method.loss(params, aux, batch, rng, Progress(0, STEPS))[1][0]

    for aux in jax.eval_shape(step, jax.random.PRNGKey(0), batch):
        assert not jax.tree.leaves(aux.center)


def statistics_move(method, views):
    """Asserts that a loss moves every batch statistic, of the student and of a teacher that is trained."""

    def step(rng, batch):
        params, aux = method.init(rng, batch)
        return aux, method.loss(params, aux, batch, rng, Progress(0, STEPS))[1][0]

    before, after = jax.jit(step)(jax.random.PRNGKey(0), seen(views))
    followed = isinstance(getattr(method, "teacher", None), EMA)
    old, new = ((a.stats, a.teacher.stats if followed else None) for a in (before, after))
    old, new = map(jax.tree_util.tree_leaves_with_path, (old, new))
    for (path, x), (_, y) in zip(old, new, strict=True):
        assert np.any(x != y), jax.tree_util.keystr(path)
    return after


def test_batch_statistics_are_kept(name):
    statistics_move(METHODS[name], crops_of(name))


class NormedHead(nn.Module):
    """A head of prototypes behind a BatchNorm."""

    @nn.compact
    def __call__(self, x, train):
        return Prototypes(24, name="prototypes")(BatchNorm(name="norm")(x, train), train)


def test_ibot_keeps_the_batch_statistics_of_a_head_that_has_some():
    aux = statistics_move(dataclasses.replace(METHODS["ibot"], projector=NormedHead()), crops_of("ibot"))
    assert aux.stats["projector"] and aux.teacher.stats["projector"]


def equations(jaxpr, inside=False):
    """Of every operation of a jaxpr, whether it is inside a branch, and its results' shapes."""
    for equation in jaxpr.eqns:
        yield inside, [getattr(v.aval, "shape", ()) for v in equation.outvars]
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, inside or equation.primitive.name == "cond")


def test_swav_spreads_the_batch_alone_or_with_the_queue_and_not_both():
    batch = seen(crops_of("swav"))
    # As many rows as no other array has: all crops of the batch have as many scores as METHODS' queue and batch.
    method = dataclasses.replace(METHODS["swav"], queue_size=4 * BATCH)
    state = Training(method, views=crops_of("swav")).state
    queues = tuple(dataclasses.replace(q, count=jnp.int32(4)) for q in state.aux.queue)
    aux = dataclasses.replace(state.aux, queue=queues)

    def loss(progress):
        return method.loss(state.params, aux, batch, state.rng, progress)[0]

    rows = BATCH + method.queue_size
    places = [inside for inside, shapes in equations(jax.make_jaxpr(loss)(0.5).jaxpr) if (rows, 12) in shapes]
    assert places and all(places), "scores of batch and queue are computed where no branch asks for them"
    first, early, late = (float(jax.jit(loss)(Progress(step, STEPS))) for step in (0, 1, 2))
    alone = dataclasses.replace(method, queue_size=None)
    aux = dataclasses.replace(aux, queue=None)
    expected = float(jax.jit(alone.loss)(state.params, aux, batch, state.rng, 0.0)[0])
    assert first == early == pytest.approx(expected, abs=1e-5) != late


def test_mesh_refuses_what_does_not_divide():
    with pytest.raises(UserError, match="shards=3 does not divide the number of devices, 8"):
        make_mesh(3)


@pytest.mark.slow
def test_fine_tuning_from_a_run_moves_the_last_block_and_the_head_alone(tmp_path):
    start, file = Training(SIMCLR, views=CROPS), tmp_path / "student.safetensors"
    start.run(1)
    file.write_bytes(weights_bytes(jax.device_get(SIMCLR.weights(start.state.params, start.state.aux))["student"]))
    encoder = Frozen(Pretrained(ENCODER, str(file)), but_last=1)
    method = MetricLearning(encoder=encoder, projector=MLP(hidden=(), out=8), criterion=Triplet())
    tuned = Training(
        method, optimizer=SGD(lr=0.1, weight_decay=0.1, layer_decay=0.5, head_lr=1.0), views=CROPS, devices=8
    )
    tuned.run(2)
    assert set(tuned.state.params["encoder"]) == {"stage4_block0"}
    encoder = whole({"params": tuned.state.params["encoder"], "batch_stats": tuned.state.aux.stats["encoder"]})
    for name, part in encoder["params"].items():
        moved = largest_difference(part, start.state.params["encoder"][name]) > 0
        assert moved == (name == "stage4_block0"), name
        if name in tuned.state.aux.stats["encoder"]:
            before = start.state.aux.stats["encoder"][name]
            assert (largest_difference(tuned.state.aux.stats["encoder"][name], before) > 0) == moved, name
    saved = method.weights(tuned.state.params, tuned.state.aux)["student"]
    assert jax.tree.structure(saved["encoder"]) == jax.tree.structure(
        SIMCLR.weights(start.state.params, start.state.aux)["student"]["encoder"]
    )
