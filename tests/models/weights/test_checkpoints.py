"""The encoder is found in the checkpoints of others, by their names alone."""

import numpy as np
import pytest

from ssljax.models import ResNet
from ssljax.models.weights import resnet
from ssljax.models.weights.checkpoints import encoder_tensors
from ssljax.types import UserError

RESNET = ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.1.bn2.bias"]
VIT = ["cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "norm.bias"]
HUGGING_FACE = ["embeddings.cls_token", "encoder.layer.0.attention.output.dense.weight", "layernorm.bias"]

# what is before the encoder's names, the encoder, and what else is in the file
CHECKPOINTS = {
    "torchvision": ("", RESNET, []),
    "timm with averaged weights": ("state_dict_ema/", VIT, ["state_dict/norm.bias", "optimizer/state/0/exp_avg"]),
    "Hugging Face": ("", HUGGING_FACE, []),
    "DDP": ("module.", RESNET, []),
    "torch.compile in DDP": ("module._orig_mod.", RESNET, []),
    "DeiT": ("model/", VIT, ["optimizer/state/0/exp_avg", "scaler/scale"]),
    "MoCo v2": (
        "state_dict/module.encoder_q.",
        [*RESNET, "fc.0.weight", "fc.2.bias"],
        [
            "state_dict/module.encoder_k.conv1.weight",
            "state_dict/module.queue",
            "state_dict/module.queue_ptr",
            "optimizer/state/0/momentum_buffer",
        ],
    ),
    "MoCo v3": (
        "state_dict/module.base_encoder.",
        [*VIT, "head.0.weight", "head.1.running_mean"],
        ["state_dict/module.momentum_encoder.cls_token", "state_dict/module.predictor.0.weight"],
    ),
    "DINO": (
        "teacher/backbone.",
        VIT,
        [
            "student/module.backbone.cls_token",
            "student/module.head.mlp.0.weight",
            "teacher/head.last_layer.weight_v",
            "dino_loss/center",
            "optimizer/state/0/exp_avg",
        ],
    ),
    "DINOv2": ("teacher/backbone.", VIT, ["teacher/dino_head.mlp.0.weight", "teacher/ibot_head.last_layer.weight_g"]),
    "iBOT": ("state_dict/", VIT, []),
    "SimSiam": ("state_dict/module.encoder.", [*RESNET, "fc.0.weight"], ["state_dict/module.predictor.0.weight"]),
    "SwAV": ("module.", RESNET, ["module.projection_head.0.weight", "module.prototypes.weight"]),
    "SwAV, several heads": ("state_dict/module.", RESNET, ["state_dict/module.prototypes.prototypes0.weight"]),
    "Barlow Twins": (
        "model/module.backbone.",
        RESNET,
        ["model/module.projector.0.weight", "model/module.bn.running_mean", "optimizer/state/0/mu"],
    ),
    "VICReg": ("model/module.backbone.", RESNET, ["model/module.projector.0.weight"]),
    "lightly's BYOL": (
        "state_dict/backbone.",
        ["0.weight", "4.0.conv1.weight"],
        [
            "state_dict/projection_head.layers.0.weight",
            "state_dict/prediction_head.layers.0.weight",
            "state_dict/backbone_momentum.0.weight",
            "state_dict/projection_head_momentum.layers.0.weight",
        ],
    ),
    "lightly's DINO": (
        "state_dict/teacher_backbone.",
        VIT,
        [
            "state_dict/student_backbone.cls_token",
            "state_dict/student_head.layers.0.weight",
            "state_dict/teacher_head.layers.0.weight",
            "state_dict/criterion.center.center",
        ],
    ),
    "solo-learn's BYOL": (
        "state_dict/backbone.",
        RESNET,
        [
            "state_dict/classifier.weight",
            "state_dict/projector.0.weight",
            "state_dict/predictor.0.weight",
            "state_dict/momentum_backbone.conv1.weight",
            "state_dict/momentum_projector.0.weight",
            "state_dict/momentum_classifier.weight",
        ],
    ),
    "solo-learn before 1.0.5": (
        "state_dict/encoder.",
        RESNET,
        ["state_dict/momentum_encoder.conv1.weight", "state_dict/queue", "state_dict/projector.0.weight"],
    ),
}


def named(names):
    return {name: np.full(1, i) for i, name in enumerate(names)}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_encoder_is_found_and_the_rest_is_named(kind):
    prefix, encoder, rest = CHECKPOINTS[kind]
    file = named([prefix + name for name in encoder] + rest)
    tensors, left_over = encoder_tensors(file)
    assert list(tensors) == encoder and sorted(left_over) == sorted(rest)
    assert all(tensors[name] is file[prefix + name] for name in encoder)


@pytest.mark.parametrize("kind", ["DINO", "MoCo v3", "lightly's BYOL", "timm with averaged weights"])
def test_the_other_of_student_and_teacher_can_be_asked_for(kind):
    prefix, encoder, rest = CHECKPOINTS[kind]
    file = named([prefix + name for name in encoder] + rest)
    student, teacher = (list(encoder_tensors(file, part).tensors.values()) for part in ("student", "teacher"))
    default = list(encoder_tensors(file).tensors.values())
    assert student != teacher and default in (student, teacher)


@pytest.mark.parametrize(
    "file, sentence",
    [
        (RESNET, "^part=teacher is not in the file, which has one encoder: leave part out$"),
        (["encoder_q.conv1.weight"], "^part=teacher is not in the file: choose student$"),
    ],
)
def test_a_part_that_is_not_there_is_refused(file, sentence):
    with pytest.raises(UserError, match=sentence):
        encoder_tensors(named(file), "teacher")


@pytest.mark.parametrize("first", [4, 3, 2])  # of torchvision's children, without max-pool, and without ReLU
def test_numbered_children_of_a_resnet_get_their_names(first):
    file = {"0.weight": np.zeros((8, 3, 7, 7)), "1.bias": np.zeros(8)}
    file |= {f"{first + stage}.{block}.conv1.weight": np.zeros(1) for stage in range(4) for block in range(2)}
    file[f"{first + 1}.0.shortcut.0.weight"] = np.zeros(1)
    assert resnet.guess(file) == (None if first == 2 else ResNet(18, width=8))
