"""A saved folder is the old content or the new, and is read only if it is exactly as it was saved."""

import json

import pytest

from ssljax import files
from ssljax.files import open_folder, save_folder
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
