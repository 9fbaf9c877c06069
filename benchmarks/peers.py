"""What it takes to import other libraries beside a torch for CPUs."""

import importlib
import sys


def import_torchvision() -> None:
    """Imports torchvision, which lightly does, also where its wheel does not fit a torch for CPUs.

    It then lacks the kernels of two operators, which no loss uses and which its import merely looks for.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
