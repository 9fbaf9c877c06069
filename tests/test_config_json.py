"""An experiment as JSON: what is written is read again, and a stranger's file can do no more than make values."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from ssljax.config import Experiment, NotPublic, differences, from_json, public_classes, resolved
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import EMA, MoCo
from ssljax.models import MLP, Frozen, Preprocessing, Pretrained, ResNet
from ssljax.schedules import Cosine, Warmup
from ssljax.training.experiment_file import load_experiments
from ssljax.types import UserError
from ssljax.views import Masked, MultiCrop

ROOT = Path(__file__).parent.parent / "experiments"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


def again(value):
    """`value`, written and read."""
    return from_json(json.loads(json.dumps(resolved(value))))


def with_statistics(experiment):
    """The experiment with the mean and the standard deviation that its encoder wants, which are written too."""
    return dataclasses.replace(experiment, views=experiment.normalised_views)


@pytest.mark.parametrize("file", FILES)
def test_every_experiment_is_read_as_it_was_written(file):
    config, sweep = load_experiments(ROOT / file)
    for experiment in (config, *sweep):
        assert again(experiment) == with_statistics(experiment)


def test_values_of_every_kind_are_read_as_they_were_written():
    method = MoCo(
        encoder=Pretrained(ResNet(depth=10), weights="a.safetensors"),
        projector=MLP(hidden=(), out=8),
        teacher=EMA(Warmup(0.1, Cosine(0.9, 1.0))),
    )
    experiment = Experiment(
        name="ü 1", method=method, evaluate=(Retrieval(ks=(1, 5)), Retrieval(name="b")), cache="host"
    )
    assert again(experiment) == with_statistics(experiment)
    for value in (None, True, 3, 0.1, -math.inf, math.inf, "x", (), (1, (2.5, None)), Cosine(math.inf, 0.0)):
        assert again(value) == value and type(again(value)) is type(value)
    assert again([np.float32(0.5), np.int64(3), np.bool_(True)]) == (0.5, 3, True)
    assert again(Path("a") / "b") == "a/b"


@dataclasses.dataclass(frozen=True)
class OwnSource:
    """Not ssljax's."""

    def load(self, split):
        raise AssertionError


def test_what_is_not_public_is_refused_by_its_name():
    def rise(share):
        return share

    own = type("ResNet", (ResNet,), {"__annotations__": {}})
    for value, name in ((OwnSource(), "'OwnSource'"), (rise, "rise'"), (len, "'len'"), (own(), "'own ResNet'")):
        with pytest.raises(NotPublic, match=f"{name}, which is not one of ssljax's own classes"):
            again(MoCo(encoder=value) if value is not rise else MoCo(teacher=EMA(value)))
    assert not differences("rise", {"class": "rise"})  # as earlier versions wrote a function


def test_views_are_normalised_as_the_weights_of_the_encoder_were_trained():
    other_statistics, module = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)), ResNet(depth=10)
    own = MoCo(encoder=Frozen(Pretrained(module, "a.safetensors", preprocessing=other_statistics)))
    experiment = Experiment(name="x", method=own, views=Masked(MultiCrop(std=(1.0, 1.0, 1.0))))
    crops = experiment.normalised_views.crops
    assert (crops.mean, crops.std) == (other_statistics.mean, (1.0, 1.0, 1.0))
    assert resolved(experiment)["views"]["crops"]["mean"] == [0.1, 0.2, 0.3]
    other = dataclasses.replace(experiment, method=MoCo(encoder=Pretrained(module, "a.safetensors")))
    assert other.normalised_views.crops.mean == Preprocessing().mean


def test_a_field_that_earlier_versions_did_not_have_was_its_default():
    now, before = resolved(Experiment(name="x")), resolved(Experiment(name="x"))
    del before["views"]["fit"], before["accumulate"], before["method"]["encoder"]["pool"]
    assert not differences(before, now)
    now["views"]["fit"] = "pad"
    assert differences(before, now) == ["views.fit is 'crop' there and 'pad' here"]


HOSTILE = [
    {"class": "os.system", "command": "touch {flag}"},
    {"class": "ssljax.data.decode.Path"},
    {"class": "__class__"},
    {"class": "builtins"},
    {"class": "default_index"},
    {"class": "weights_bytes"},
    {"class": "UserError"},
    {"class": ["Experiment"]},
    {"class": None},
    {},
    {"class": "Pretrained", "__class__": "x"},
    {"class": "Cosine", "start": 1, "end": {"class": "eval"}},
    {"class": "Linear", "start": 0, "end": 1, "until": "x"},
    {"class": "Cosine"},
    {"class": "Experiment", "name": "x", "epochs": {"class": "Cosine", "start": 0, "end": 1}},
    {"class": "Experiment", "name": "../x"},
]


@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_a_strangers_json_is_refused_in_a_sentence(value):
    with pytest.raises(UserError):
        from_json(value)


def test_public_classes_are_dataclasses_of_ssljax_and_no_two_have_one_name():
    classes = public_classes()
    assert classes["Experiment"] is Experiment and classes["ToyCatalogue"] is ToyCatalogue
    for name, kind in classes.items():
        assert dataclasses.is_dataclass(kind) and kind.__name__ == name and kind.__module__.startswith("ssljax.")
