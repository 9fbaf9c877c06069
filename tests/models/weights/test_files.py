"""Weights files: what was written is read, and damaged and foreign files are refused in a sentence."""

import io
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from safetensors.numpy import save

from ssljax.models.weights.files import read_weights
from ssljax.types import UserError


def npz(write=np.savez, **arrays):
    buffer = io.BytesIO()
    write(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_torch_tensors_have_their_offsets_and_strides(read, write):
    body = mapping(
        whole=tensor(),
        transposed=tensor((3, 2), (1, 3)),
        every_second=tensor((2,), (2,), offset=1),
        number=tensor((), (), offset=5),
        empty=tensor((0, 4), (4, 1)),
        parameter=call(name("torch._utils", "_rebuild_parameter"), tensor(), value(True), value(None)),
        old=call(name("torch._utils", "_rebuild_tensor"), storage(), value(0), value((6,)), value((1,))),
    )
    file = read(write(body, {"0": SIX.tobytes()}))
    wanted = {
        **{"whole": SIX.reshape(2, 3), "transposed": SIX.reshape(2, 3).T, "every_second": SIX[1:5:2]},
        **{"number": SIX[5], "empty": np.zeros((0, 4)), "parameter": SIX.reshape(2, 3), "old": SIX},
    }
    assert file.format == "torch" and list(file.tensors) == list(wanted)
    for key, array in wanted.items():
        assert file.tensors[key].dtype == np.float32 and file.tensors[key].shape == array.shape
        np.testing.assert_array_equal(file.tensors[key], array)
        assert file.tensors[key].flags.c_contiguous


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    "kind, dtype", [("Half", np.float16), ("BFloat16", ml_dtypes.bfloat16), ("Long", np.int64), ("Bool", bool)]
)
def test_torch_dtypes_are_kept(read, write, kind, dtype):
    content = SIX.astype(dtype)
    options = {} if write is zip_file else {"item": content.itemsize}
    file = read(write(mapping(x=tensor(kind=f"{kind}Storage")), {"0": content.tobytes()}, **options))
    assert file.tensors["x"].dtype == dtype
    np.testing.assert_array_equal(file.tensors["x"], content.reshape(2, 3))


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_nested_dicts_have_flat_names_and_nothing_else_is_kept(read, write):
    namespace = name("argparse", "Namespace") + b")\x81" + value({"lr": 0.1}) + b"b"
    double = call(name("numpy", "dtype"), value("f8"), value(False), value(True)) + value((3, "<")) + b"b"
    ordered = call(name("collections", "OrderedDict")) + b"(" + value("0.weight") + tensor() + b"u}b"
    state = b"}(" + value(0) + mapping(exp_avg=tensor()) + b"u"
    body = mapping(
        model=ordered,
        optimizer=mapping(state=state, groups=b"]" + value({"lr": 0.1}) + b"a"),
        args=namespace,
        best=call(name("numpy.core.multiarray", "scalar"), double, call(name("_codecs", "encode"), value("12345678"))),
        epoch=value(3),
        shape=call(name("torch", "Size"), value((1, 2))),
    )
    assert list(read(write(body, {"0": SIX.tobytes()})).tensors) == ["model/0.weight", "optimizer/state/0/exp_avg"]


def test_safetensors_that_begin_like_a_pickle_are_read(read):
    contents = (save({"a": SIX}, {"padding": "x" * n}) for n in range(300))
    assert read(next(content for content in contents if content[0] == 0x80)).format == "safetensors"


def test_safetensors_keep_dtypes_and_metadata(read):
    tensors = {"a": SIX.astype(ml_dtypes.bfloat16), "b": SIX.astype(np.float16), "c/d": SIX, "e": np.int64(3)[None]}
    file = read(save(tensors, metadata={"module": "ResNet"}))
    assert file.format == "safetensors" and file.metadata == {"module": "ResNet"}
    assert {key: x.dtype for key, x in file.tensors.items()} == {key: x.dtype for key, x in tensors.items()}
    for key, x in tensors.items():
        np.testing.assert_array_equal(file.tensors[key], x)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_keeps_names_and_bfloat16(read, write):
    half = SIX.astype(ml_dtypes.bfloat16)
    file = read(npz(write, **{"params/img/kernel": SIX.reshape(2, 3).T, "half": half, "words": np.array(["a"])}))
    assert file.format == "npz" and list(file.tensors) == ["params/img/kernel", "half"]
    np.testing.assert_array_equal(file.tensors["params/img/kernel"], SIX.reshape(2, 3).T)
    assert file.tensors["half"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(file.tensors["half"], half)


def test_a_storage_is_held_once(read):
    """Tensors that share a storage share its memory."""
    tied = read(zip_file(mapping(a=tensor(), b=tensor()), {"0": SIX.tobytes()})).tensors
    assert np.shares_memory(tied["a"], tied["b"])


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_file_takes_little_more_memory_than_its_size(tmp_path, write):
    count, size = 16, 2**18
    body = mapping(**{f"x{i}": tensor((512, 512), (1, 512), key=str(i), size=size) for i in range(count)})
    (tmp_path / "large").write_bytes(write(body, {str(i): bytes(4 * size) for i in range(count)}))
    tracemalloc.start()
    tensors = read_weights(tmp_path / "large").tensors
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(x.nbytes for x in tensors.values()) == 4 * size * count
    assert peak < 1.3 * 4 * size * count


def test_zip_members_are_bounded(refused):
    """Compressed storages, many names for the same bytes, and sizes that a header only claims."""
    body, content = mapping(x=tensor((2**22,), (1,), size=2**22)), {"0": bytes(2**24)}
    assert "compressed" in refused(zip_file(body, content, compression=zipfile.ZIP_DEFLATED))
    assert "far larger" in refused(npz(np.savez_compressed, x=np.zeros(2**26, np.float32)))

    good = bytearray(zip_file(mapping(x=tensor()), {"0": SIX.tobytes(), "1": SIX.tobytes()}))
    where = good.find(b"PK\x01\x02")  # the first entry of the list of members
    good[where + 20 : where + 28] = (2**31 - 1).to_bytes(4, "little") * 2
    assert "far larger" in refused(bytes(good))


@pytest.mark.parametrize("member", ["../../canary", "/canary", "a/../../canary", "..\\canary"])
def test_names_that_leave_the_archive_are_refused(refused, tmp_path, member):
    for start in (zip_file(mapping(x=tensor()), {"0": SIX.tobytes()}), npz(x=SIX)):
        buffer = io.BytesIO(start)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(member, b"")
        assert "leads out of the archive" in refused(buffer.getvalue())
    assert not (tmp_path / "canary").exists() and not (tmp_path.parent / "canary").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(refused):
    buffer = io.BytesIO(zip_file(mapping(x=tensor()), {"0": SIX.tobytes()}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/data/0", bytes(24))
    assert "one name" in refused(buffer.getvalue())


def test_programs_and_other_byte_orders_are_refused(refused):
    body, content = mapping(x=tensor()), {"0": SIX.tobytes()}
    assert "TorchScript" in refused(zip_file(body, content, **{"constants.pkl": pickled(value(()))}))
    assert "big-endian" in refused(zip_file(body, content, byteorder=b"big"))
    assert "big-endian" in refused(legacy_file(body, content, little_endian=False))


def test_a_damaged_storage_is_refused(refused):
    content = zip_file(mapping(x=tensor()), {"0": SIX.tobytes()})
    assert "CRC" in refused(content.replace(SIX.tobytes(), SIX[::-1].tobytes()))


def test_npz_with_objects_or_false_shapes_is_refused(refused, tmp_path):
    class Canary:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    assert "objects" in refused(npz(x=np.array([Canary()], dtype=object)))
    assert not (tmp_path / "canary").exists()
    for shape in ("(9,)", "(5,)", "(-6,)", "(2**9,)", "(-2,-3)", "(4**16,)", "__import__('os')"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(npz(x=SIX))) as old, zipfile.ZipFile(buffer, "w") as new:
            new.writestr("x.npy", old.read("x.npy").replace(b"(6,), }" + b" " * 20, f"{shape}, }}".encode().ljust(27)))
        refused(buffer.getvalue())


@pytest.mark.parametrize(
    "header, rest",
    [
        (b"{}", b""),
        (b'{"x": 3}', b""),
        (b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}', b""),
        (b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}', bytes(100)),
        (b'{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,24]}}', bytes(24)),
        (b'{"x":{"dtype":"F32","shape":[-6],"data_offsets":[0,24]}}', bytes(24)),
        (b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[24,0]}}', bytes(24)),
        (b'{"x":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,24]}}', bytes(24)),
        (b'{"x":{"dtype":"OBJ","shape":[6],"data_offsets":[0,24]}}', bytes(24)),
        (b'{"x":{"dtype":"F8_E4M3","shape":[24],"data_offsets":[0,24]}}', bytes(24)),
        (b"{" * 5000, b""),
    ],
)
def test_unsound_safetensors_are_refused(refused, header, rest):
    refused(len(header).to_bytes(8, "little") + header + rest)
    for length in (0, 2**31, 2**63, 2**64 - 1):
        refused(length.to_bytes(8, "little") + header + rest)


GOOD = {
    "safetensors": save({"x": SIX}),
    "zip": zip_file(mapping(x=tensor()), {"0": SIX.tobytes()}),
    "legacy": legacy_file(mapping(x=tensor()), {"0": SIX.tobytes()}),
    "npz": npz(x=SIX),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_a_truncated_file_is_refused(refused, content):
    for end in (*range(0, len(content) - 1, 7), len(content) - 1):
        refused(content[:end])


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_file_is_read_whole_or_refused(tmp_path_factory, content, data):
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(changed)
    try:
        tensors = read_weights(path).tensors
    except UserError:
        return
    assert len(tensors) == 1 and all(x.nbytes <= len(content) for x in tensors.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"<!DOCTYPE html>",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff",
        b"PK\x03\x04",
        b"\x80",
        b"\x80\x02.",
    ],
)
def test_foreign_files_are_refused(refused, content):
    refused(content)


def test_other_zips_pickles_and_pointers_are_told_apart(refused):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", b"<xml>")
    assert "not a safetensors, torch or .npz file" in refused(buffer.getvalue())
    assert "torch did not write" in refused(pickle.dumps({"a": 1}, 2))
    assert "git lfs pull" in refused(b"version https://git-lfs.github.com/spec/v1\n")
    assert "no tensors" in refused(zip_file(value({"epoch": 3}), {}))
    assert "without a name" in refused(zip_file(tensor(), {"0": SIX.tobytes()}))
    twice = mapping(**{"a/b": tensor(), "a": mapping(b=tensor())})
    assert "tensors are named 'a/b'" in refused(zip_file(twice, {"0": SIX.tobytes()}))


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    for path, why in {
        tmp_path: "is a folder",
        tmp_path / "none": "does not exist",
        "https://example.com/model.safetensors": "is a URL",
        "/dev/zero": "does not exist",
    }.items():
        with pytest.raises(UserError, match=why):
            read_weights(path)
