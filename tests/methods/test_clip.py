"""CLIP and SigLIP: against dense formulas, with items left out, beside another method, and what they then find."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import catalogue
from methods import METHODS, ONE_CROP, TITLED, TITLED_VIEWS, crops_of
from tiny import BATCH, CROPS, EXPERIMENT, MOCO, TOKENS, Training, photos, seen
from traffic import bytes_by_kind, sent, step_of

from ssljax import train
from ssljax.data import Titles
from ssljax.data.photos import decode_all
from ssljax.evaluation import Embeddings, PhotoToTitle, Retrieval
from ssljax.evaluation.restore import Restored
from ssljax.export.network import Network
from ssljax.losses import l2_normalise
from ssljax.methods import CLIP, MetricLearning, MoBY, MultiTask, SigLIP, SwAV
from ssljax.models import MLP, BagOfTokens, Identity, TextTransformer, ViT
from ssljax.optim import AdamW
from ssljax.training.run_folder import Run
from ssljax.types import Progress, UserError
from ssljax.views import PhotoAndTitle

VIT = ViT(patch=4, width=16, depth=2, heads=2)  # nothing in it depends on the rest of the batch
PARTS = {"encoder": VIT, "projector": MLP(hidden=(), out=8), **TITLED}
PAIRS = {"clip": CLIP(**PARTS), "sig_lip": SigLIP(**PARTS)}
both = pytest.mark.parametrize("name", PAIRS)


def at_first(method, views=TITLED_VIEWS):
    """The state before the first step, and what the loss sees."""
    batch = seen(views)
    return jax.jit(method.init)(jax.random.PRNGKey(0), batch), batch


def loss_of(method, params, aux, batch):
    return method.loss(params, aux, batch, jax.random.PRNGKey(1), Progress(0, 20))


def cut(batch, rows):
    """The batch of some of the items."""
    return {"views": tuple(jax.tree.map(lambda x: x[rows], view) for view in batch["views"])}


def there(batch):
    view = batch["views"][0]
    return np.asarray(view.has_photo & view.has_title)


def dense(name, photo, title, scale, bias=0.0):
    """The papers' pseudocode, on what is embedded."""
    logits = scale * l2_normalise(photo) @ l2_normalise(title).T + bias
    if name == "clip":
        items = jnp.arange(len(logits))
        rows = optax.softmax_cross_entropy_with_integer_labels
        return (rows(logits, items).mean() + rows(logits.T, items).mean()) / 2
    signs = 2 * jnp.eye(len(logits)) - 1
    return -jnp.sum(jax.nn.log_sigmoid(signs * logits)) / len(logits)


@both
def test_equals_the_dense_formula_of_what_is_embedded(name):
    method, ((params, aux), batch) = PAIRS[name], at_first(PAIRS[name])
    batch, scale = cut(batch, there(batch)), {"clip": (1 / 0.07, 0.0), "sig_lip": (10.0, -10.0)}[name]
    assert len(batch["views"][0]) > 4

    def expected(params):
        return dense(name, method.embed(params, aux, batch), method.embed_title(params, aux, batch), *scale)

    value, gradient = jax.value_and_grad(expected)(params)
    got, own = jax.value_and_grad(lambda params: loss_of(method, params, aux, batch)[0])(params)
    assert float(got) == pytest.approx(float(value), rel=1e-5)
    for part in ("encoder", "projector", "title_encoder", "title_projector"):
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), own[part], gradient[part])
    assert all(np.any(own[part]) for part in params if not isinstance(own[part], dict))


@both
def test_what_is_hidden_counts_for_nothing(name):
    method, ((params, aux), batch) = PAIRS[name], at_first(PAIRS[name])
    view, kept = batch["views"][0], there(batch)
    assert 4 < kept.sum() < BATCH and not view.has_photo.all() and not view.has_title.all()
    of_kept, (_, figures) = loss_of(method, params, aux, cut(batch, kept))

    def loss(photo):
        return loss_of(method, params, aux, {"views": (dataclasses.replace(view, photo=photo),)})

    (value, (_, others)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(view.photo))
    assert float(value) == pytest.approx(float(of_kept), rel=1e-5)
    assert not np.any(gradient[~kept]) and all(np.any(g) for g in gradient[kept])
    for figure in ("positive_cosine", "negative_cosine"):
        assert float(figures[figure]) == pytest.approx(float(others[figure]), abs=1e-5)
    assert (float(figures["pairs"]), float(others["pairs"])) == (1, kept.mean())
    unread = np.setdiff1d(view.title[~kept], [-1, *view.title[kept].ravel()])
    table = jax.grad(lambda params: loss_of(method, params, aux, batch)[0])(params)["title_encoder"]["tokens"]
    assert len(unread) and not np.any(table[unread]) and np.any(table)
    nothing = {"views": (dataclasses.replace(view, has_photo=np.zeros(BATCH, bool)),)}
    value, gradient = jax.value_and_grad(lambda params: loss_of(method, params, aux, nothing)[0])(params)
    assert float(value) == 0 and not any(np.any(g) for g in jax.tree.leaves(gradient))


@both
def test_what_is_missing_is_embedded_as_zeros(name):
    (params, aux), batch = at_first(PAIRS[name])
    view = batch["views"][0]
    embedded = PAIRS[name].embed(params, aux, batch), PAIRS[name].embed_title(params, aux, batch)
    for vectors, has in zip(embedded, (view.has_photo, view.has_title), strict=True):
        assert vectors.shape == (BATCH, 8) and (np.any(vectors, axis=1) == has).all()


@both
def test_items_of_a_group_are_not_negatives(name):
    method = PAIRS[name]
    (params, aux), batch = at_first(method)
    value = {}
    for group, numbers in {
        None: np.zeros(BATCH, np.int32),
        "label": np.arange(BATCH, dtype=np.int32),
        "listing": np.zeros(BATCH, np.int32),
    }.items():
        grouped = dataclasses.replace(method, group=group)
        value[group] = float(loss_of(grouped, params, aux, batch | {group or "label": numbers})[0])
    assert value[None] == value["label"] and value["listing"] < value[None]
    unknown = batch | {"label": np.full(BATCH, -1, np.int32)}
    assert float(loss_of(dataclasses.replace(method, group="label"), params, aux, unknown)[0]) == value[None]


@both
def test_embeddings_travel_and_neither_photos_nor_tokens(name):
    longer = functools.partial(photos, title_length=12)
    short, long = (
        sent(step_of(Training(METHODS[name], views=crops_of(name), devices=8, photos=p))) for p in (photos, longer)
    )
    assert bytes_by_kind(short) == bytes_by_kind(long)
    gathered = {array.shape for array in short if array.kind != "all-reduce"}
    width = 8 + (name == "sig_lip")  # its bias is one more column
    assert gathered and gathered <= {(BATCH, width), (BATCH, 8), (BATCH,)}, short


def test_scale_stays_below_100_and_comes_back():
    method = PAIRS["clip"]
    (params, aux), batch = at_first(method)

    def scale_and_gradient(log_scale, batch):
        def loss(log_scale):
            return loss_of(method, {**params, "log_scale": log_scale}, aux, batch)

        (_, (_, figures)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.float32(log_scale))
        return float(figures["scale"]), float(gradient)

    above = math.log(100) + 0.5
    assert scale_and_gradient(math.log(50), batch)[0] == pytest.approx(50, rel=1e-5)
    scale, back = scale_and_gradient(above, batch)
    assert scale == pytest.approx(100, rel=1e-5) and back > 0  # untrained: a smaller scale has a smaller loss
    alone = cut(batch, there(batch))["views"][0]
    alone = {"views": (jax.tree.map(lambda x: x[:1], alone),)}
    assert scale_and_gradient(above, alone)[1] == 0


BESIDE = dataclasses.replace(PAIRS["clip"], beside=dataclasses.replace(MOCO, encoder=Identity()), beside_weight=0.5)
TWO_CROPS = PhotoAndTitle(CROPS)


def test_a_method_beside_trains_the_same_encoder():
    (params, aux), batch = at_first(BESIDE, TWO_CROPS)
    assert jax.tree.all(jax.tree.map(np.array_equal, aux.beside.teacher.params["encoder"], params["encoder"]))
    assert set(params["beside"]) == {"projector"} and set(aux.beside.stats) == {"projector"}
    moco = dataclasses.replace(MOCO, encoder=VIT)
    alone = dataclasses.replace(BESIDE, beside=None)
    photos_alone = {"views": tuple(view.photo for view in batch["views"])}
    moco_aux = dataclasses.replace(aux.beside, stats={"encoder": aux.stats["encoder"], "projector": {}})
    rng = jax.random.PRNGKey(1)

    def expected(params):
        clip = alone.loss(params, dataclasses.replace(aux, beside=None), batch, rng, Progress(0, 20))[0]
        own = {"encoder": params["encoder"], "projector": params["beside"]["projector"]}
        return clip + 0.5 * moco.loss(own, moco_aux, photos_alone, rng, Progress(0, 20))[0]

    value, gradient = jax.value_and_grad(expected)(params)
    got, own = jax.value_and_grad(lambda params: loss_of(BESIDE, params, aux, batch)[0])(params)
    assert float(got) == pytest.approx(float(value), rel=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), own, gradient)


def test_teacher_and_queue_of_the_method_beside_go_on_and_are_saved():
    training = Training(BESIDE, views=TWO_CROPS)
    before = training.state.aux.beside
    figures = training.run(2)
    after, params = training.state.aux.beside, training.state.params
    assert int(after.queue.count) == 2 and {"beside/loss", "beside/queue_fill", "scale"} <= set(figures)
    teacher, student = after.teacher.params["encoder"], params["encoder"]
    moved = jax.tree.map(lambda a, b: np.any(a != b), teacher, before.teacher.params["encoder"])
    assert jax.tree.all(moved) and not jax.tree.all(jax.tree.map(np.array_equal, teacher, student))
    saved = BESIDE.weights(params, training.state.aux)
    assert set(saved["student"]) == {"encoder", "projector", "title_encoder", "title_projector"}
    assert set(saved["teacher"]) == {"encoder", "projector"}


@pytest.mark.parametrize(
    "beside",
    [
        MoBY(encoder=Identity(), projector=MLP(out=8), predictor=MLP(out=8), queue_size=3 * BATCH),
        MetricLearning(encoder=Identity(), encoder_from=0.25),
        SwAV(encoder=Identity(), projector=MLP(out=8), queue_size=None),
    ],
    ids=lambda method: type(method).__name__,
)
def test_other_methods_may_stand_beside(beside):
    method, batch = SigLIP(**PARTS, beside=beside), seen(TWO_CROPS)
    training = jax.eval_shape(lambda: method.init(jax.random.PRNGKey(0), batch))
    AdamW(lr=1e-3).build(20, method).init(training[0])  # the paths of what is frozen are there
    shapes = jax.eval_shape(lambda p, a: loss_of(method, p, a, batch), *training)
    assert jax.tree.structure(shapes[1][0]) == jax.tree.structure(training[1])


@pytest.mark.parametrize(
    "method, views, sentence",
    [
        (PAIRS["clip"], CROPS, "CLIP reads photos with their titles: choose views=PhotoAndTitle"),
        (PAIRS["sig_lip"], TWO_CROPS, "views make 2 views of a photo, and the method compares one with its title"),
        (CLIP(**PARTS, temperature=0.001), TITLED_VIEWS, "method.temperature=0.001 must be at least 0.01"),
        (SigLIP(**PARTS, scale=0.0), TITLED_VIEWS, "method.scale=0.0 must be above 0"),
        (CLIP(**PARTS, group="listing"), TITLED_VIEWS, "method.group=listing, and the data has none"),
        (
            CLIP(**PARTS | {"title_projector": MLP(out=5)}),
            TITLED_VIEWS,
            "method.projector makes 8 numbers and method.title_projector 5, which are compared",
        ),
        (
            CLIP(**PARTS | {"title_encoder": TextTransformer(width=5)}),
            TITLED_VIEWS,
            "method.title_encoder.heads=6 does not divide",
        ),
        (CLIP(**PARTS, beside=MOCO), TWO_CROPS, "method.beside.encoder=ResNet(...) would be a second encoder"),
        (CLIP(**PARTS, beside=MultiTask()), TWO_CROPS, "method.beside=MultiTask(...) must be a method of photos"),
        (dataclasses.replace(BESIDE, beside_weight=-1.0), TWO_CROPS, "method.beside_weight=-1.0 must be at least 0"),
        (BESIDE, TITLED_VIEWS, "views make 1 views of a photo, and the method compares two"),
        (
            dataclasses.replace(BESIDE, beside=dataclasses.replace(BESIDE.beside, queue_size=20)),
            TWO_CROPS,
            "method.beside.queue_size=20 is not a multiple",
        ),
    ],
)
def test_senseless_settings_are_refused(method, views, sentence):
    batch = seen(views)
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda: method.init(jax.random.PRNGKey(0), batch))
    assert sentence in str(caught.value)


def test_data_without_titles_is_refused():
    items, _ = catalogue()
    blank = dataclasses.replace(items, columns={"title": np.array(["", "\t"] * len(items), object)[: len(items)]})
    PAIRS["clip"].check(items, None, 1)
    with pytest.raises(UserError, match="CLIP learns from titles, and all those of the train split are blank"):
        PAIRS["clip"].check(blank, None, 1)


@functools.cache
def titles():
    """Token ids i32[n, 8], a number for each word, of the titles of the toy catalogue."""
    items, _ = catalogue()
    words = [title.lower().split() for title in items.columns["title"]]
    number = {word: k for k, word in enumerate(sorted({word for title in words for word in title}))}
    assert len(number) < TOKENS
    return np.array([[*map(number.get, title), *[-1] * 8][:8] for title in words], np.int32)


def photos_with_titles(step=0):
    items, decoded = catalogue()
    rows = np.random.default_rng(step).permutation(len(items))[:BATCH]
    image, aspect = decoded.image[rows][:, None], decoded.aspect[rows][:, None]
    return {"image": image, "aspect": aspect, "title": titles()[rows][:, None], "label": items.label[rows]}


def found(method, state):
    """Recall@5 of photos among the titles of the train split, and of its titles among the photos."""
    items, decoded = catalogue()
    batch = {"image": decoded.image[:, None], "aspect": decoded.aspect[:, None], "title": titles()[:, None]}
    batch = PhotoAndTitle(ONE_CROP).evaluation(batch)
    vectors, title_vectors = (
        np.asarray(jax.jit(f)(state.params, state.aux, batch)) for f in (method.embed, method.embed_title)
    )
    figures = PhotoToTitle(split="train")(lambda split: Embeddings.of(items, vectors, title_vectors))
    return np.array([figures["train/photo-to-title/cmc@5"], figures["train/title-to-photo/cmc@5"]])


@pytest.mark.parametrize("name", ["clip", pytest.param("sig_lip", marks=pytest.mark.slow)])
def test_training_teaches_photos_to_find_their_titles(name):
    method, steps = dataclasses.replace(METHODS[name], group=None), 300
    views = PhotoAndTitle(dataclasses.replace(ONE_CROP, scale=(0.6, 1.0)))
    training = Training(method, views=views, optimizer=AdamW(lr=3e-3), steps=steps, photos=photos_with_titles)
    before, first = found(method, training.state), float(training.run(1)["loss"])
    last = float(training.run(steps - 1)["loss"])
    after = found(method, training.state)
    print(name, before, after, first, last)
    assert last < first and (after > before + 0.2).all()


@pytest.mark.slow
def test_a_run_searches_photos_by_words_and_exports_its_photos_network(tmp_path):
    method = dataclasses.replace(METHODS["clip_moco"], title_encoder=BagOfTokens(8192, 16))
    experiment = dataclasses.replace(
        EXPERIMENT,
        views=TWO_CROPS,
        titles=Titles(),
        method=method,
        monitor=(),
        evaluate=(Retrieval(), PhotoToTitle()),
    )
    model = train(experiment, tmp_path)
    table = json.loads((tmp_path / "tiny/results.json").read_text())["table"]
    figures = {name for name in table["trained"] if "to-" in name}
    assert len(figures) == 10 and figures <= set(table["untrained"]) and not figures & set(table["raw pixels"])
    embeddings = Embeddings.load(tmp_path / "tiny/embeddings/test.npz")
    titles = list(embeddings.columns["title"][:3])
    np.testing.assert_allclose(model.embed_titles(titles), embeddings.title_vectors[:3], atol=1e-5)
    restored = Restored.of(Run(tmp_path / "tiny"))
    items = restored.load("test")
    decoded = decode_all([items.photos[0], items.photos[1]], size=experiment.photo_size, threads=1, record=print)
    photos = decoded.image, decoded.aspect
    wanted = restored.encoder().embed(*photos)
    np.testing.assert_allclose(Network.of(restored).embed_photos(*photos), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(embeddings.vectors[:2], wanted, rtol=1e-4, atol=1e-4)
