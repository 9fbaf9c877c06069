"""A saved folder is the old content or the new, and is read only if it is exactly as it was saved."""

import hashlib
import json
import os

import pytest

from ssljax.data import atomic_files as files
from ssljax.data.atomic_files import open_folder, read_bytes, read_json, save_folder
from ssljax.types import UserError


def writer(content):
    def write(data):
        (data / "a").write_text(content)
        (data / "b").write_text("b" * 100)

    return write


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / "deep" / "index", {"kind": "x"}, writer("one"))
    return tmp_path / "deep" / "index"


def content(folder):
    facts, data = open_folder(folder)
    return facts, (data / "a").read_text()


def test_what_is_saved_is_opened_and_replaced(folder):
    assert content(folder) == ({"kind": "x"}, "one")
    save_folder(folder, {"kind": "y"}, writer("two"))
    assert content(folder) == ({"kind": "y"}, "two")
    assert len(list(folder.iterdir())) == 2


def test_it_may_be_moved(folder):
    assert content(folder.rename(folder.with_name("elsewhere"))) == ({"kind": "x"}, "one")


@pytest.mark.parametrize("moment", ["write", "flush", "manifest"])
def test_a_failure_while_saving_leaves_the_old_content(folder, monkeypatch, moment):
    def fail(*_):
        raise OSError("No space left on device")

    if moment == "flush":
        monkeypatch.setattr(files, "_flush", fail)
    elif moment == "manifest":
        monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="space"):
        save_folder(folder, {"kind": "y"}, fail if moment == "write" else writer("two"))
    assert content(folder) == ({"kind": "x"}, "one")
    assert len(list(folder.iterdir())) == 2


def test_what_a_killed_save_left_is_cleared_by_the_next(folder):
    (folder / "data-0123456789abcdef").mkdir()
    (folder / "data-0123456789abcdef" / "half").write_text("x")
    assert content(folder) == ({"kind": "x"}, "one")
    save_folder(folder, {"kind": "y"}, writer("two"))
    assert content(folder) == ({"kind": "y"}, "two") and len(list(folder.iterdir())) == 2


def test_a_folder_with_others_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        save_folder(tmp_path, {}, writer("one"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damage_of_any_file_is_noticed(folder):
    _, data = open_folder(folder)
    for path in [folder / "manifest.json", *data.iterdir()]:
        whole = path.read_bytes()
        for damaged in (whole[:-1], b"", whole.replace(b"b", b"c", 1), whole + b"1"):
            if damaged != whole:
                path.write_bytes(damaged)
                with pytest.raises(UserError, match="build the index anew"):
                    open_folder(folder)
        path.unlink()
        with pytest.raises(UserError, match="build the index anew"):
            open_folder(folder)
        path.write_bytes(whole)
    assert content(folder) == ({"kind": "x"}, "one")


def test_a_file_more_is_refused(folder):
    _, data = open_folder(folder)
    (data / "scann_docids.pkl").write_bytes(b"evil")
    with pytest.raises(UserError, match=r"scann_docids\.pkl"):
        open_folder(folder)


def test_a_missing_data_folder_is_noticed(folder):
    _, data = open_folder(folder)
    data.rename(data.with_name("data-0000000000000000"))
    with pytest.raises(UserError, match="damaged"):
        open_folder(folder)


@pytest.mark.parametrize("manifest", ["", "[]", "1", "null", "{}", '{"schema": 1, "content": {}}', "\xff"])
def test_foreign_manifests_are_refused(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest, encoding="latin-1")
    with pytest.raises(UserError, match="no index"):
        open_folder(tmp_path)


def signed(content):
    """A manifest whose checksum is right, whatever its content."""
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({"schema": 1, "sha256": sha256, "content": content})


DATA = "data-0123456789abcdef"


@pytest.mark.parametrize(
    "content",
    [
        1,
        None,
        [],
        "x",
        {},
        {"data": 1, "files": {}, "facts": {}},
        {"data": DATA, "files": [], "facts": {}},
        {"data": DATA, "files": {"a": 1}, "facts": {}},
        {"data": DATA, "files": {}, "facts": []},
    ],
)
def test_manifests_of_another_shape_are_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(signed(content))
    with pytest.raises(UserError, match="damaged"):
        open_folder(tmp_path)


def test_manifests_that_need_never_end_or_go_too_deep_are_refused(tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text("[" * 100_000)
    with pytest.raises(UserError, match="holds none or a damaged one"):
        open_folder(tmp_path)
    for make in (lambda: manifest.symlink_to("/dev/zero"), lambda: os.mkfifo(manifest)):
        manifest.unlink()
        make()
        with pytest.raises(UserError, match="holds none or a damaged one"):
            open_folder(tmp_path)
        with pytest.raises(UserError, match=r"cannot be read \(not a regular file\): do better"):
            read_json(manifest, "do better")


def test_a_file_that_grows_is_read_to_its_end(tmp_path):
    assert read_bytes("/proc/self/status", 2**20).startswith(b"Name:")  # which says that it has no bytes
    (tmp_path / "x").write_bytes(b"x" * 100)
    assert read_bytes(tmp_path / "x", 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 bytes"):
        read_bytes(tmp_path / "x", 99)


def test_missing_and_empty_folders_are_told(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        open_folder(tmp_path / "none")
    with pytest.raises(UserError, match="holds none"):
        open_folder(tmp_path)


def test_another_schema_is_told(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(UserError, match=r"schema 2.*reads 1"):
        open_folder(folder)
