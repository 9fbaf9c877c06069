"""The reader of published ground truth: what it reads, in each protocol, and that it runs nothing that a file names."""

import contextlib
import os
import pickle

import numpy as np
import pytest

from ssljax.evaluation import read_ground_truth
from ssljax.types import UserError


def content(make=np.array):
    """As published: with lists of numbers or with arrays, one of them empty."""
    return {
        "imlist": ["all_souls_000001", "all_souls_000002", "radcliffe_000003"],
        "qimlist": ["all_souls_000013", "radcliffe_000005"],
        "gnd": [
            {"bbx": make([136.5, 34.1, 648.5, 955.7]), "easy": make([0]), "hard": make([1]), "junk": make([2])},
            {"bbx": make([0.5, 1.5, 2.5, 3.5]), "easy": make([]), "hard": make([2, 0]), "junk": make([])},
        ],
    }


def written(tmp_path, value, protocol=2):
    path = tmp_path / "gnd_roxford5k.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def other_orders(x):
    """Boxes as numbers with the large byte first, and rows as short ones."""
    return np.array(x, ">f8" if len(x) == 4 else "<i4")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("make", [list, np.array, other_orders])
def test_reads_what_is_published(tmp_path, protocol, make):
    truth = read_ground_truth(written(tmp_path, content(make), protocol))
    assert truth.gallery[1] == "all_souls_000002" and truth.queries[1] == "radcliffe_000005"
    assert [rows.tolist() for rows in truth.easy] == [[0], []]
    assert [rows.tolist() for rows in truth.hard] == [[1], [2, 0]]
    assert [rows.tolist() for rows in truth.junk] == [[2], []]
    assert truth.boxes.shape == (2, 4) and all(rows.dtype == np.int64 for rows in truth.easy)


def test_reads_numbers_of_numpy_and_text_of_python_2(tmp_path):
    truth = read_ground_truth(
        written(tmp_path, content(lambda x: [np.float32(v) if v % 1 else np.int16(v) for v in x]))
    )
    assert truth.boxes[0].tolist() == pytest.approx([136.5, 34.1, 648.5, 955.7], rel=1e-6)
    python2 = pickle.dumps(content(list), 0).replace(b"Vall_souls_000013\n", b"S'all_souls_000013'\n")
    (tmp_path / "two.pkl").write_bytes(python2)
    assert b"S'all" in python2 and read_ground_truth(tmp_path / "two.pkl").queries[0] == "all_souls_000013"


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(os.mkdir,), (eval,), (getattr,), (np.load,), (np.array,), (np.dtype,)])
@pytest.mark.parametrize("place", ["top", "inside"])
def test_nothing_that_a_file_names_is_run(tmp_path, call, place):
    target = tmp_path / "made"
    arguments = {os.mkdir: (str(target),), eval: (f"__import__('os').mkdir({str(target)!r})",), getattr: ([], "append")}
    hostile = Runs(call[0], arguments.get(call[0], (str(target),)))
    value = hostile if place == "top" else content() | {"extra": hostile}
    with pytest.raises(UserError, match="is not a ground truth"):
        read_ground_truth(written(tmp_path, value))
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("qimlist"),
        lambda value: value["gnd"].pop(),
        lambda value: value["gnd"][0].pop("junk"),  # the format of Oxford 5k before it was revisited
        lambda value: value["gnd"][0].update(easy=np.array([3])),
        lambda value: value["gnd"][0].update(easy=np.array([-1])),
        lambda value: value["gnd"][0].update(easy=np.array([0.5])),
        lambda value: value["gnd"][0].update(easy=np.array([[0]])),
        lambda value: value["gnd"][0].update(easy=np.array(["0"])),
        lambda value: value["gnd"][0].update(easy=np.array([None])),
        lambda value: value["gnd"][0].update(bbx=np.zeros(3)),
        lambda value: value["imlist"].append(7),
    ],
)
def test_another_content_is_refused(tmp_path, change):
    value = content()
    change(value)
    with pytest.raises(UserError, match=r"gnd_roxford5k\.pkl is not a ground truth.*as published"):
        read_ground_truth(written(tmp_path, value))


def test_a_damaged_or_missing_file_is_refused(tmp_path):
    whole = pickle.dumps(content(), 2)
    path = tmp_path / "cut.pkl"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is not a ground truth"):
            read_ground_truth(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_ground_truth(tmp_path / "none.pkl")
    with pytest.raises(UserError, match="cannot be read"):
        read_ground_truth(tmp_path)


def test_flipped_bytes_raise_one_kind_of_error_only(tmp_path):
    whole, rng = pickle.dumps(content(), 2), np.random.default_rng(0)
    path = tmp_path / "flipped.pkl"
    for place in rng.integers(0, len(whole), 300):
        path.write_bytes(whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :])
        with contextlib.suppress(UserError):
            read_ground_truth(path)
