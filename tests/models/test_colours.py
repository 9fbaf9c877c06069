"""ColourHistogram counts the colours that are not white; Joined sets encoders of one photo side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.evaluation import Whitening
from ssljax.methods import ArcFace, MetricLearning
from ssljax.models import BagOfTokens, ColourHistogram, EfficientNet, Frozen, Joined, ResNet, whole
from ssljax.models.colours import lab
from ssljax.optim import AdamW
from ssljax.types import Progress, UserError

HISTOGRAM = ColourHistogram()
# CIELAB of sRGB's corners (Lindbloom's calculator, D65)
KNOWN = {
    (1, 1, 1): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (1, 0, 0): (53.24, 80.09, 67.20),
    (0, 1, 0): (87.73, -86.18, 83.18),
    (0, 0, 1): (32.30, 79.19, -107.86),
    (0.5, 0.5, 0.5): (53.39, 0, 0),
}
JOINED = Joined((ResNet(depth=10, width=4), HISTOGRAM))


def normalised(rgb, preprocessing=HISTOGRAM.preprocessing):
    return jnp.asarray((np.asarray(rgb) - preprocessing.mean) / preprocessing.std, jnp.float32)


def colours(rgb, histogram=HISTOGRAM):
    """The histogram of photos in [0, 1]: f32[B, lightness, a*, b*]."""
    made = jax.jit(lambda x: histogram.apply({}, x, train=False))(normalised(rgb, histogram.preprocessing))
    assert made.dtype == jnp.float32 and made.shape == (len(rgb), histogram.features)
    return np.asarray(made).reshape(len(rgb), histogram.lightness, histogram.chroma, histogram.chroma) ** 2


def photos(count=3, height=7, width=5):
    return np.random.default_rng(0).uniform(0, 0.9, (count, height, width, 3))


def test_cielab_of_known_colours():
    np.testing.assert_allclose(lab(jnp.array(list(KNOWN), jnp.float32)), list(KNOWN.values()), atol=0.1)


def test_a_histogram_sums_to_one_and_knows_no_places():
    rgb = photos()
    found = colours(rgb)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), 1, atol=1e-5)
    shuffled = np.random.default_rng(1).permutation(rgb.reshape(3, 35, 3), axis=1).reshape(3, 5, 7, 3)
    np.testing.assert_allclose(colours(shuffled), found, atol=1e-6)
    np.testing.assert_allclose(colours(np.repeat(np.repeat(rgb, 2, axis=1), 2, axis=2)), found, atol=1e-6)


def test_white_is_not_counted():
    rgb = photos()
    framed = np.pad(rgb, ((0, 0), (2, 1), (3, 3), (0, 0)), constant_values=1.0)
    np.testing.assert_allclose(colours(framed), colours(rgb), atol=1e-6)
    assert (colours(np.ones((1, 4, 4, 3))) == 0).all(), "a white photo has no colour, and no NaN"
    counted = colours(np.ones((1, 4, 4, 3)), ColourHistogram(white=2.0))
    assert counted[0, -1, 4, 4] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("rgb", "cell"),
    [((0, 0, 0), (0, 4, 4)), ((1, 0, 0), (2, 8, 8)), ((0, 0, 1), (1, 8, 0)), ((0, 1, 0), (4, 0, 8))],
)
def test_known_colours_are_in_their_cells(rgb, cell):
    found = colours(np.full((1, 3, 3, 3), rgb, float))[0]
    assert np.unravel_index(found.argmax(), found.shape) == cell


def test_a_colour_between_two_cells_counts_for_both():
    grey = colours(np.full((1, 2, 2, 3), 0.5))[0, :, 4, 4]  # its L* is 53.39, and cells are 25 apart
    np.testing.assert_allclose(grey, [0, 0, 1 - 3.39 / 25, 3.39 / 25, 0], atol=2e-3)
    coarse = colours(photos(), ColourHistogram(lightness=1, chroma=1))
    np.testing.assert_allclose(coarse, 1, atol=1e-5)


def test_it_needs_the_encoders_preprocessing():
    lite = EfficientNet("lite0").preprocessing
    rgb = photos()
    np.testing.assert_allclose(colours(rgb, ColourHistogram(preprocessing=lite)), colours(rgb), atol=1e-4)
    with pytest.raises(UserError, match=r"encoders: ColourHistogram\(\.\.\.\) wants photos with mean=.*give it prepro"):
        Joined((EfficientNet("lite0"), HISTOGRAM)).init(jax.random.PRNGKey(0), normalised(rgb), train=False)


def test_half_precision_and_no_gradient():
    x = normalised(photos())
    whole_precision, half = (HISTOGRAM.apply({}, x.astype(dtype), train=False) for dtype in ("float32", "bfloat16"))
    assert half.dtype == jnp.float32 and float(jnp.abs(half - whole_precision).max()) < 0.1
    gradient = jax.grad(lambda x: HISTOGRAM.apply({}, x, train=False).sum())(x.at[0].set(3.0))
    assert (gradient == 0).all()


def test_it_is_exported_for_any_number_of_photos():
    (batch,) = jax.export.symbolic_shape("batch")
    exported = jax.export.export(jax.jit(lambda x: HISTOGRAM.apply({}, x, train=False)))(
        jax.ShapeDtypeStruct((batch, 7, 5, 3), jnp.float32)
    )
    x = normalised(photos())
    np.testing.assert_allclose(exported.call(x), HISTOGRAM.apply({}, x, train=False), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"lightness": 0}, "lightness=0 is too small"),
        ({"chroma": 0}, "chroma=0 is too small"),
        ({"limit": 0.0}, "limit=0.0 must be above 0: try 60"),
        ({"white": -1.0}, "white=-1.0 must be above 0: try 0.94"),
    ],
)
def test_what_cannot_be_is_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        ColourHistogram(**fields).init(jax.random.PRNGKey(0), jnp.zeros((1, 4, 4, 3)), train=False)


def test_joined_are_the_encoders_side_by_side_each_part_of_unit_length():
    levels = EfficientNet("lite0", levels=((2, 2),))
    joined = Joined((levels, ColourHistogram(preprocessing=levels.preprocessing), ResNet(depth=10, width=4)))
    with pytest.raises(UserError, match=r"encoders: ResNet\(\.\.\.\) wants photos with mean="):
        _ = joined.preprocessing
    joined = Joined(joined.encoders[:2])
    assert joined.preprocessing == levels.preprocessing
    assert joined.parts == (*levels.parts, 405) and joined.features == levels.features + 405
    assert Whitening(dim=4, parts=joined.parts).parts == joined.parts
    x = normalised(photos(2, 32, 32), levels.preprocessing)
    variables = joined.init(jax.random.PRNGKey(0), x, train=False)
    made = joined.apply(variables, x, train=False)
    own = {c: variables[c]["encoder0"] for c in ("params", "batch_stats")}
    np.testing.assert_allclose(made[:, : levels.features], levels.apply(own, x, train=False), atol=1e-5)
    np.testing.assert_allclose(made[:, levels.features :], joined.encoders[1].apply({}, x, train=False), atol=1e-5)
    for part in np.split(np.asarray(made), np.cumsum(joined.parts)[:-1], axis=1):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-3)
    nested = Joined((joined, joined))
    assert nested.parts == joined.parts * 2


def test_joined_encoders_begin_from_a_file_and_parts_without_parameters_stay_as_they_are():
    encoder = Joined((ResNet(depth=10, width=4, norm_groups=2), Frozen(ColourHistogram())))
    assert encoder.norm_groups == 2
    x = jnp.ones((2, 32, 32, 3))
    variables = encoder.init(jax.random.PRNGKey(0), x, train=True)
    kept = {name: {k: v for k, v in part.items() if v} for name, part in variables.items()}  # as a file has them
    _, updated = encoder.apply(kept, x, train=True, mutable=["batch_stats"])
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(kept["batch_stats"])


@pytest.mark.parametrize(
    ("encoders", "sentence"),
    [
        ((), r"encoders=\(\) leaves nothing to embed with"),
        ((BagOfTokens(10, 4),), r"encoders: BagOfTokens\(\.\.\.\) must be an encoder of photos"),
        ((3,), "encoders: 3 must be an encoder of photos"),
    ],
)
def test_joined_are_encoders_of_photos(encoders, sentence):
    with pytest.raises(UserError, match=sentence):
        Joined(encoders).init(jax.random.PRNGKey(0), jnp.zeros((1, 16, 16, 3)), train=False)


def test_joined_encoders_learn_unless_they_are_frozen():
    x, progress = normalised(photos(4, 32, 32)), Progress(jnp.int32(0), 10)
    batch = {"views": (x,), "label": jnp.array([0, 0, 1, 1])}
    frozen = Joined((Frozen(ResNet(depth=10, width=4), but_last=1), ResNet(depth=10, width=8), HISTOGRAM))
    method = MetricLearning(frozen, criterion=ArcFace(classes=2))
    params, aux = method.init(jax.random.PRNGKey(0), batch)
    tx = AdamW(lr=1e-3, layer_decay=0.9, head_lr=1e-2).build(10, method)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    gradients, (new, _) = jax.grad(lambda p: method.loss(p, aux, batch, jax.random.PRNGKey(1), progress), has_aux=True)(
        params
    )
    of = gradients["encoder"]
    assert of["encoder0"] and len(of["encoder0"]) < len(of["encoder1"]) and not of["encoder2"]
    for name in ("encoder0", "encoder1"):
        assert any(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(of[name]))
    assert jax.tree.structure(new.stats) == jax.tree.structure(aux.stats)
    weights = whole({"params": params["encoder"], "batch_stats": aux.stats["encoder"]})
    plain = Joined((ResNet(depth=10, width=4), ResNet(depth=10, width=8), HISTOGRAM))
    wanted = plain.init(jax.random.PRNGKey(0), x, train=False)
    assert jax.tree.structure(weights["params"]) == jax.tree.structure(wanted["params"])
    np.testing.assert_allclose(
        plain.apply(weights, x, train=False),
        method.embed(params, aux, batch),
        atol=1e-5,
        err_msg="by its weights alone",
    )
    with pytest.raises(UserError, match=r"Frozen is for the encoders of a Joined, one by one"):
        Frozen(plain).init(jax.random.PRNGKey(0), x, train=False)
    whole_frozen = MetricLearning(Joined((Frozen(ResNet(depth=10, width=4)), HISTOGRAM)), encoder_from=0.1)
    with pytest.raises(UserError, match="no parameters that learn"):
        whole_frozen.init(jax.random.PRNGKey(0), batch)
    assert dataclasses.replace(JOINED, encoders=(HISTOGRAM,)).parts == (405,)
