"""Torch files written byte by byte, as torch writes them and as nobody should."""

import io
import pickle
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
SIX = np.arange(6, dtype=np.float32)


def value(x):
    """The instructions that push a plain value."""
    return pickle.dumps(x, 2)[2:-1]


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def call(function, *args):
    """The instructions that push what a function gives, of what other instructions push."""
    return function + b"(" + b"".join(args) + b"tR"


def storage(key="0", kind="FloatStorage", size=6, module="torch", first="storage"):
    return b"(" + value(first) + name(module, kind) + value(key) + value("cpu") + value(size) + b"tQ"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, **of):
    hooks = call(name("collections", "OrderedDict"))
    args = storage(**of), value(offset), value(shape), value(strides), value(False), hooks
    return call(name("torch._utils", "_rebuild_tensor_v2"), *args)


def mapping(**items):
    return b"}(" + b"".join(value(key) + made for key, made in items.items()) + b"u"


def pickled(body):
    return b"\x80\x02" + body + b"."


def zip_file(body, storages, compression=zipfile.ZIP_STORED, **others):
    """The zip format; storages: key → content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(body))
        for key, content in {**{f"data/{key}": content for key, content in storages.items()}, **others}.items():
            archive.writestr(f"archive/{key}", content)
    return buffer.getvalue()


def legacy_file(body, storages, item=4, little_endian=True):
    """The legacy format; every storage's content is preceded by its size in elements of `item` bytes."""
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2}}
    head = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps(machine, 2)
    contents = [(len(content) // item).to_bytes(8, "little") + content for content in storages.values()]
    return head + pickled(body) + pickle.dumps(list(storages), 2) + b"".join(contents)


FORMATS = {"zip": zip_file, "legacy": legacy_file}
