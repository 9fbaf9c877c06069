"""Methods trained for some seconds on the toy catalogue find other photos better than they did untrained."""

import dataclasses

import jax
import pytest
from learning import learn, photos
from methods import METHODS, teacher, views_of
from tiny import Training

from ssljax.methods import EMA
from ssljax.models import DINOHead, ViT, weights_bytes
from ssljax.optim import SGD, AdamW

OTHERWISE = ("arcface", "ibot", "seed", "knowledge_distillation", "clip", "sig_lip", "clip_moco")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name not in OTHERWISE])
def test_trained_is_better_than_untrained_and_not_collapsed(name):
    learned = learn(METHODS[name], views=views_of(name))
    assert learned.after > learned.before and learned.spread > 0.1


@pytest.mark.slow
def test_arcface_trained_is_better_than_untrained_and_not_collapsed():
    # At the others' rate and length it ends about where it began, on one side or the other as the processor rounds.
    optimizer = SGD(lr=0.03, weight_decay=1e-4)
    learned = learn(METHODS["arcface"], views=views_of("arcface"), optimizer=optimizer, steps=480)
    assert learned.after > learned.before and learned.spread > 0.1


@pytest.mark.slow
def test_ibot_trained_is_better_than_untrained_and_not_collapsed():
    # AdamW and a slow, sharp teacher: by the others' SGD or momentum a ViT ends below its untrained embedding.
    method = dataclasses.replace(
        METHODS["ibot"],
        encoder=ViT(patch=4, width=64, depth=2, heads=4, mask_token=True, drop_path=0.1),
        projector=DINOHead(hidden=(64,), bottleneck=32, out=64),
        teacher=EMA(momentum=0.98),
        teacher_temperature=0.04,
    )
    optimizer = AdamW(lr=1e-3, weight_decay=0.04, warmup=0.1, clip_norm=3.0)
    learned = learn(method, views=views_of("ibot"), optimizer=optimizer, steps=600)
    assert learned.after > learned.before and learned.spread > 0.1


@pytest.fixture(scope="module")
def trained_teacher(tmp_path_factory):
    """The file of BYOL's teacher after some seconds."""
    byol, training = METHODS["byol"], Training(METHODS["byol"], steps=120)
    training.run(120, photos)
    file = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    state = jax.device_get(training.state)
    file.write_bytes(weights_bytes(byol.weights(state.params, state.aux)["teacher"]))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seed", "knowledge_distillation"])
def test_student_of_a_trained_teacher_is_better_than_untrained_and_not_collapsed(name, trained_teacher):
    learned = learn(dataclasses.replace(METHODS[name], **teacher(trained_teacher)))
    assert learned.after > learned.before and learned.spread > 0.1
