"""Methods trained for some seconds on the toy catalogue find other photos better than they did untrained."""

import dataclasses

import pytest
from learning import learn
from methods import METHODS, views_of

from ssljax.models import DINOHead, ViT
from ssljax.optim import AdamW


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ibot"])
def test_trained_is_better_than_untrained_and_not_collapsed(name):
    learned = learn(METHODS[name], views=views_of(name))
    assert learned.after > learned.before and learned.spread > 0.1


@pytest.mark.slow
def test_ibot_trained_is_better_than_untrained_and_not_collapsed():
    # AdamW and a slow, sharp teacher: by the others' SGD or momentum a ViT ends below its untrained embedding.
    method = dataclasses.replace(
        METHODS["ibot"],
        encoder=ViT(patch=4, width=64, depth=2, heads=4, mask_token=True, drop_path=0.1),
        projector=DINOHead(hidden=(64,), bottleneck=32, out=64),
        momentum=0.98,
        teacher_temperature=0.04,
    )
    optimizer = AdamW(lr=1e-3, weight_decay=0.04, warmup=0.1, clip_norm=3.0)
    learned = learn(method, views=views_of("ibot"), optimizer=optimizer, steps=600)
    assert learned.after > learned.before and learned.spread > 0.1
