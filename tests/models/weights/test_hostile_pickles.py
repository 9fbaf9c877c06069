"""Hostile torch files: they run nothing, read nothing outside themselves, and take little time and memory."""

import pickle

import pytest
from models.weights.torch_bytes import (
    FORMATS,
    SIX,
    call,
    legacy_file,
    mapping,
    name,
    pickled,
    storage,
    tensor,
    value,
    zip_file,
)

SAME = name("collections", "OrderedDict") + b"(h\x01tR0"


def hostile(canary):
    """Pickles that would make a file appear, by every way that a pickle has to run code."""
    command = value(f"touch {canary}")
    python = value(f"open({str(canary)!r}, 'w')")
    system, evaluate = name("os", "system"), name("builtins", "eval")
    stack_global = value("os") + value("system") + b"\x93"
    popen = value((["touch", str(canary)],))
    return {
        "system": call(system, command),
        "eval": call(evaluate, python),
        "exec": call(name("builtins", "exec"), python),
        "nested in a tensor's arguments": call(name("torch._utils", "_rebuild_tensor_v2"), call(system, command)),
        "nested in a dict": mapping(model=mapping(weight=call(evaluate, python))),
        "after a good tensor": mapping(a=tensor(), b=call(system, command)),
        "by its name from the stack": call(stack_global, command),
        "by a name with dots": call(value("builtins") + value("eval.__call__") + b"\x93", python),
        "through an allowed module": call(value("torch") + value("os.system") + b"\x93", command),
        "INST": b"(" + command + b"ios\nsystem\n",
        "OBJ": b"(" + system + command + b"o",
        "NEWOBJ": name("subprocess", "Popen") + popen + b"\x81",
        "NEWOBJ_EX": name("subprocess", "Popen") + popen + b"}\x92",
        "EXT1": call(b"\x82\x01", command),
        "EXT4": call(b"\x84\x01\x00\x00\x00", command),
        "getattr": call(call(name("builtins", "getattr"), name("os", "path"), value("os")), command),
        "import": call(name("importlib", "import_module"), value("antigravity")),
        "partial": call(call(name("functools", "partial"), system, command)),
        "setstate": name("argparse", "Namespace") + b")\x81" + value({"a": 1}) + system + b"\x86b",
        "setattr on an allowed function": name("torch._utils", "_rebuild_tensor_v2")
        + b"N}"
        + value("__code__")
        + call(evaluate, python)
        + b"s\x86b",
        "another object as persistent id": value(("module", "os", "0", "cpu", 1)) + b"Q",
        "a call as persistent id": call(system, command) + b"Q",
        "a call as storage type": b"(" + value("storage") + call(system, command) + value(("0", "cpu", 1)) + b"tQ",
        "a text as persistent id": b"Pos.system\n",
        "a call of no name": call(value("system"), command),
        "a call of a storage type": call(name("torch", "FloatStorage"), command),
        "a call of a dtype": call(name("torch", "float32"), command),
        "torch.load inside": call(name("torch.storage", "_load_from_bytes"), value(b"")),
        "a whole model": name("torchvision.models.resnet", "ResNet") + b")\x81",
        "a numpy array": call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray")),
    }


@pytest.mark.parametrize("kind", hostile(""))
def test_a_hostile_pickle_runs_nothing(refused, tmp_path, kind):
    canary = tmp_path / "canary"
    body = hostile(canary)[kind]
    files = [write(body, {"0": SIX.tobytes()}) for write in FORMATS.values()]
    files += [
        pickled(body),
        legacy_file(mapping(a=tensor()), {"0": SIX.tobytes()}).replace(b"\x80\x02M", b"\x80\x02" + body),
    ]
    for content in files:
        refused(content)
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["system", "eval", "exec", "nested in a dict", "INST", "OBJ", "partial"])
def test_the_hostile_pickles_are_hostile(tmp_path, kind):
    pickle.loads(pickled(hostile(tmp_path / "canary")[kind]))
    assert (tmp_path / "canary").exists()


def test_what_a_pickle_names_is_in_the_error(refused):
    for content in (pickled(call(name("os", "system"), value("true"))), zip_file(name("posix", "system"), {})):
        assert "system" in refused(content) and "state_dict()" in refused(content)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    "options",
    [
        {"shape": (7,), "strides": (1,)},
        {"shape": (2, 3), "strides": (4, 1)},
        {"shape": (6,), "strides": (1,), "offset": 1},
        {"shape": (1,), "strides": (1,), "offset": 2**62},
        {"shape": (1,), "strides": (1,), "offset": -1},
        {"shape": (2,), "strides": (-1,), "offset": 5},
        {"shape": (-1,), "strides": (1,)},
        {"shape": (-2, -3), "strides": (3, 1)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},
        {"shape": (2**34,), "strides": (0,)},
        {"shape": (2**62, 0), "strides": (1, 1)},
        {"shape": (2, 3), "strides": (3,)},
        {"shape": (2.0, 3), "strides": (3, 1)},
        {"shape": 6, "strides": 1},
        {"shape": (1,) * 65, "strides": (1,) * 65},
        {"size": 2**40},
        {"size": -1},
        {"size": 5},
        {"key": "1"},
        {"key": "../0"},
        {"key": "/etc/passwd"},
        {"kind": "DoubleStorage"},
        {"kind": "QInt8Storage"},
        {"module": "os", "kind": "system"},
        {"first": "module"},
    ],
    ids=str,
)
def test_a_tensor_stays_within_its_storage(refused, write, options):
    refused(write(mapping(x=tensor(**options)), {"0": SIX.tobytes()}))


def test_an_expanded_tensor_is_read_and_not_a_flood_of_them(read, refused):
    row = tensor((1024, 1024), (0, 1), size=1024)
    content = {"0": bytes(4096)}
    assert read(zip_file(mapping(mask=row), content)).tensors["mask"].shape == (1024, 1024)
    assert "far larger" in refused(zip_file(mapping(**{f"mask{i}": row for i in range(100)}), content))


@pytest.mark.parametrize(
    "body",
    [
        b"(" * 1_100_000,
        b"}" + b"q\x00" + value("a") + b"h\x00s",  # a dict in itself
        b"}" + b"".join(b"}" + value("a") + b"h\x00s" for _ in range(2)) + b"00",
        mapping(x=tensor())
        + b"q\x01"
        + b"".join(b"}(" + value("a") + b"h\x01" + value("b") + b"h\x01uq\x01" for _ in range(40)),
        b"]" + b"q\x01" + b"](h\x01h\x01eq\x01" * 60,  # 2 ** 60 lists, were they unfolded
        (b")" + b"2\x86" * 60) + b"Q",  # ... and shown in an error
        b"}" + value("a" * 2000) + tensor() + b"s",
        b"}" + b"\x8b\xff\xff\xff\x7f",  # a number of 2 GB
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # bytes of 2 ** 63
        value([])
        + b"("
        + (value(["", 1]) + b"2") * 100_000
        + b"eq\x01"
        + SAME * 200_000,  # a long list, gone through anew
        b"(" + (value(("", 1)) + b"2") * 20_000 + b"tq\x01" + SAME * 2_000,  # ... a tuple
        b"}(" + b"".join(value(f"{i:02x}") + b"N" for i in range(256)) + b"uq\x01" + SAME * 150_000,  # ... a dict
        b"(" + b"N" * 300_000 + b"tq\x010" + b"h\x01Q" * 200_000,
        b"("
        + storage()
        + b"N" * 300_000
        + b"tq\x010"
        + (name("torch._utils", "_rebuild_tensor") + b"h\x01R0") * 200_000,
        b"("
        + b"K\x01" * 300_000
        + b"tq\x010"
        + call(name("torch._utils", "_rebuild_tensor"), storage(), value(0), b"h\x01h\x01"),
        b"N" + b"r\xff\xff\xff\xff" + b"0",  # a memo of 4 billion places
        b"p99999999999999999999\n",
        b"I" + b"9" * 5000 + b"\n",
        b")N" + b"\x86N" * 100_000,  # tuples in tuples
        b"}" + value((1, 2)) + b"Ns",
        b"}" + value(2**61 - 1) + b"Ns",
    ],
    ids=range(21),
)
def test_a_bomb_is_refused_at_once(refused, body):
    for write in FORMATS.values():
        refused(write(body, {"0": SIX.tobytes()}))
