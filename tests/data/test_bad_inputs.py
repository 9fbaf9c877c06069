"""Bad photos are listed once each, and too many of them stop the run."""

import csv

import pytest

from ssljax.data.bad_inputs import BadInputs
from ssljax.types import UserError


def listed(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_each_photo_is_listed_once(tmp_path):
    path = tmp_path / "bad_inputs.csv"
    bad = BadInputs(path, total=100)
    assert not path.exists()
    for _ in range(3):
        bad.record(7, "a/7.jpg", "truncated")
        bad.record("8,\n9", "", 'says "no"')
    assert bad.count == 2
    assert listed(path) == [["id", "photo", "reason"], ["7", "a/7.jpg", "truncated"], ["8,\n9", "", 'says "no"']]


def test_resumed_runs_and_other_splits_share_the_file(tmp_path):
    path = tmp_path / "bad_inputs.csv"
    train, test = BadInputs(path, total=100), BadInputs(path, total=10)
    train.record(1, "1.jpg", "truncated")
    test.record(2, "2.jpg", "truncated")
    train.record(2, "2.jpg", "truncated")
    resumed = BadInputs(path, total=100)
    assert resumed.count == 0
    resumed.record(1, "1.jpg", "truncated")
    assert resumed.count == 1
    assert [line[0] for line in listed(path)] == ["id", "1", "2"]


def test_the_limit_is_a_share_of_the_split(tmp_path):
    bad = BadInputs(tmp_path / "bad.csv", total=200, limit=0.01)
    for i in range(2):
        bad.record(i, f"{i}.jpg", "missing file")
    bad.check()
    bad.record(2, "2.jpg", "truncated")
    with pytest.raises(UserError) as caught:
        bad.check()
    for part in ("3 of 200 photos", "max_bad_share=0.01", "0.jpg: missing file", "2.jpg: truncated", "bad.csv"):
        assert part in str(caught.value)


def test_no_file_is_needed():
    bad = BadInputs(None, total=1, limit=1.0)
    bad.record("x", "", "truncated")
    bad.check()
    assert bad.count == 1


def test_no_bad_photo_is_allowed_by_a_limit_of_none():
    bad = BadInputs(None, total=10**6, limit=0.0)
    bad.check()
    bad.record("x", "", "truncated")
    with pytest.raises(UserError, match="x: truncated"):
        bad.check()


FORMULAS = ["=1+1", "@SUM(1)", "+1+cmd", "-1+cmd", "\t=1", "\r=1", "\uff1d1", "-", "'=1"]


def test_no_cell_is_a_formula_or_steers_a_terminal(tmp_path):
    path = tmp_path / "bad_inputs.csv"
    bad = BadInputs(path, total=100, limit=1.0)
    for value in (*FORMULAS, "\x1b[31m", "\u202ex", "caf\udce9", "-5", "+3.2", "a=b"):
        bad.record(value, f"{value}.jpg", "missing file")
    again = BadInputs(path, total=100, limit=1.0)
    again.record("=1+1", "=1+1.jpg", "missing file")  # it is known as what it was
    cells = [line[0] for line in listed(path)[1:]]
    assert cells == [
        "'=1+1", "'@SUM(1)", "'+1+cmd", "'-1+cmd", "'\t=1", "\\x0d=1", "'\uff1d1", "'-", "''=1",
        "\\x1b[31m", "\\u202ex", "caf\\udce9", "-5", "+3.2", "a=b",
    ]  # fmt: skip
    assert again.count == 1 and bad.count == 15


def test_a_list_that_holds_something_else_is_gone_on_with(tmp_path):
    path = tmp_path / "new" / "bad_inputs.csv"
    BadInputs(path, total=1).record("1", "1.jpg", "truncated")
    path.write_bytes(b'\xff junk\n"open ' + b"x" * 200_000)
    bad = BadInputs(path, total=1, limit=1.0)
    bad.record("2", "2.jpg", "truncated")
    assert b"2,2.jpg,truncated" in path.read_bytes()


def test_a_count_up_to_where_it_stopped_says_so(tmp_path):
    bad = BadInputs(None, total=400, limit=0.0)
    bad.record("x", "", "truncated")
    with pytest.raises(UserError, match=r"1 of 400 photos cannot be read.* There may be others, as it stopped here"):
        bad.check()
