"""The encoder among the tensors of a training checkpoint, beside heads, teachers, queues and an optimizer's state.

Known are FAIR's MoCo (v1 to v3), DINO (v1 to v3), iBOT, SimSiam, SwAV, Barlow Twins and VICReg, lightly's and
solo-learn's modules, timm's and torchvision's training scripts, and what DDP and torch.compile put before names.
"""

import re
from typing import NamedTuple

from ssljax.models.weights.names import Tensors, renamed
from ssljax.types import UserError

# A student and its teacher, and which of them their authors evaluate.
_PAIRS = (
    ("student", "teacher", "teacher"),  # DINO, iBOT
    ("student_backbone", "teacher_backbone", "teacher"),  # lightly's DINO
    ("state_dict", "state_dict_ema", "teacher"),  # timm
    ("model", "model_ema", "teacher"),  # DeiT, ConvNeXt, torchvision
    ("encoder_q", "encoder_k", "student"),  # MoCo
    ("base_encoder", "momentum_encoder", "student"),  # MoCo v3
    ("backbone", "backbone_momentum", "student"),  # lightly
    ("backbone", "momentum_backbone", "student"),  # solo-learn
    ("encoder", "momentum_encoder", "student"),  # solo-learn before 1.0.5
    ("online_encoder", "target_encoder", "student"),  # byol-pytorch
)
_WRAPPERS = ("state_dict", "model", "module", "backbone", "encoder", "net", "network")
# What no encoder has: the first parts of the names of heads, queues and all that is kept to go on training.
_TRAINING = re.compile(
    r"(\w+_)?(projector|predictor|projection_head|prediction_head|prototypes|queue|queue_ptr|memory_bank)(_\w+|\d*)"
    r"|\w*(loss|criterion|optimi[sz]er|scheduler|scaler|momentum_)\w*|(student|teacher|online|momentum)_(head|classifier)"
    r"|head_momentum|callbacks|loops|args|config|\w*hyper_parameters"
)
# What an encoder's checkpoint may have beside the encoder, and an encoder within itself.
_HEADS = re.compile(r"(\w+_)?(head|fc|mlp|classifier|bn|norm|projection|center)\d*")


class Encoder(NamedTuple):
    """What a checkpoint has of an encoder."""

    tensors: Tensors
    """under the names that the encoder has alone, its classifier included"""
    left_over: tuple[str, ...]
    """the names of all other tensors, as in the file"""


def encoder_tensors(tensors: Tensors, part: str | None = None) -> Encoder:
    """The encoder's tensors, without what its training put around them.

    Args:
        tensors: of a file, as `read_weights` gives them.
        part: student or teacher, where there are both; None: the one that its authors evaluate, for DINO, iBOT and
            averaged weights (EMA) the teacher, for MoCo and BYOL the student.

    Raises:
        UserError: there is no such part, or two tensors have one name.
    """
    names = {name: name.replace("_orig_mod.", "") for name in tensors}  # as in the file → without what is around it
    found = None
    while inside := _inside(set(map(_first, names.values())), part):
        wrapper, role = inside
        found = role or found
        names = {old: new[len(wrapper) + 1 :] for old, new in names.items() if _first(new) == wrapper}
    if part is not None and found is None:
        raise UserError(f"part={part} is not in the file, which has one encoder: leave part out")
    names = {old: new for old, new in names.items() if not _TRAINING.fullmatch(_first(new))}
    return Encoder(renamed(tensors, names), tuple(n for n in tensors if n not in names))


def _first(name: str) -> str:
    return re.split("[./]", name, maxsplit=1)[0]


def _inside(firsts: set[str], part: str | None) -> tuple[str, str | None] | None:
    """What the encoder's names begin with, of all `firsts`, and whether that is the student or the teacher."""
    around = {name for pair in _PAIRS for name in pair[:2]} | {*_WRAPPERS}
    if any(not (name in around or _TRAINING.fullmatch(name) or _HEADS.fullmatch(name)) for name in firsts):
        return None
    student, teacher, evaluated = max(_PAIRS, key=lambda pair: len(firsts.intersection(pair[:2])))
    if teacher in firsts or (student in firsts and student not in _WRAPPERS):
        there = {role: name for role, name in (("student", student), ("teacher", teacher)) if name in firsts}
        if part is not None and part not in there:
            raise UserError(f"part={part} is not in the file: choose {' or '.join(there)}")
        role = part or (evaluated if evaluated in there else next(iter(there)))
        return there[role], role
    return next(((name, None) for name in _WRAPPERS if name in firsts), None)
