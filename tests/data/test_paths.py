"""Paths: looked up here and then under the folder of data sets."""

import pytest

from ssljax.data.paths import find
from ssljax.types import UserError


def test_a_path_that_cannot_be_is_not_there():
    for path in ("x" * 300, "a\0b"):
        with pytest.raises(UserError, match="is not there"):
            find(path)


def test_find_looks_here_and_then_under_the_data_root(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SSLJAX_DATA", str(tmp_path / "root"))
    with pytest.raises(UserError, match=r"looked for .*here/x and .*root/x .*SSLJAX_DATA"):
        find("x")
    (tmp_path / "root" / "x").touch()
    assert find("x") == tmp_path / "root" / "x"
    (tmp_path / "here" / "x").touch()
    assert find("x").absolute() == tmp_path / "here" / "x"
