"""Views that are not normalised as the weights of an encoder or a teacher want them are refused before training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from ssljax.methods import KnowledgeDistillation, SimCLR
from ssljax.methods.base.teachers import FrozenTeacher
from ssljax.models import MLP, Preprocessing, Pretrained, weights_bytes
from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.names import to_timm
from ssljax.training.setup import Setup
from ssljax.types import UserError

HEAD, HALF = MLP(hidden=(), out=4), Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclasses.dataclass(frozen=True)
class OwnViews:
    """A user's, which do not say how they prepare photos."""

    views: object = tiny.EXPERIMENT.views

    def __call__(self, rng, batch):
        """As those inside."""
        return self.views(rng, batch)

    def evaluation(self, batch):
        """As those inside."""
        return self.views.evaluation(batch)


def shapes(module, x):
    made = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), x)
    return {name: np.ones(leaf.shape, np.float32) for name, leaf in flatten_dict(made, sep="/").items()}


@pytest.fixture
def files(tmp_path):
    """Of another library and of a run that does not say its preprocessing."""
    encoder = shapes(tiny.ENCODER, jnp.ones((1, 16, 16, 3)))
    save_file(to_timm(layout_of(tiny.ENCODER), encoder), tmp_path / "theirs")
    head = shapes(HEAD, jnp.ones((1, tiny.ENCODER.features)))
    (tmp_path / "ours").write_bytes(weights_bytes({"encoder": encoder, "projector": head}))
    return str(tmp_path / "theirs"), str(tmp_path / "ours")


def refused(method, **changes):
    with pytest.raises(UserError) as error:
        Setup.of(dataclasses.replace(tiny.EXPERIMENT, method=method, **changes))
    return str(error.value)


def other_views(mean=HALF.mean, std=HALF.std):
    return dataclasses.replace(tiny.EXPERIMENT.views, mean=mean, std=std)


def test_explicit_views_must_be_those_of_the_weights(files):
    theirs, ours = files
    said = refused(SimCLR(encoder=Pretrained(tiny.ENCODER, theirs)), views=other_views())
    assert said.startswith(f"weights={theirs} were trained with mean=(0.485, 0.456, 0.406)") and "in `views`" in said
    said = refused(SimCLR(encoder=Pretrained(tiny.ENCODER, theirs, preprocessing=HALF)), views=OwnViews())
    assert "give OwnViews a property `preprocessing`" in said
    for start in (Pretrained(tiny.ENCODER, ours), Pretrained(tiny.ENCODER, theirs, preprocessing=HALF)):
        Setup.of(dataclasses.replace(tiny.EXPERIMENT, method=SimCLR(encoder=start), views=other_views()))


def test_a_frozen_teacher_sees_what_it_was_trained_on(files):
    _, ours = files
    encoder = Pretrained(tiny.ENCODER, ours, preprocessing=HALF)
    teacher = FrozenTeacher(encoder=encoder, projector=Pretrained(HEAD, ours, part="projector"))
    method = KnowledgeDistillation(encoder=tiny.ENCODER, projector=HEAD, teacher=teacher)
    assert "mean=(0.5, 0.5, 0.5) and std=(0.5, 0.5, 0.5), but the views have mean=(0.485" in refused(method)
    Setup.of(dataclasses.replace(tiny.EXPERIMENT, method=method, views=other_views()))
