"""Revisited Oxford and Paris: levels, junk, mP@k, and the evaluator against a loop that follows the protocol."""

import pickle

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Revisited
from ssljax.evaluation.evaluators.revisited import revisited_query
from ssljax.types import UserError


def test_by_hand():
    # without junk: wrong, right, right, wrong
    figures = revisited_query(np.array([2, 3]), 2, ks=(1, 2, 10))
    assert figures["trapezoid-map-over-r"] == pytest.approx(((0 + 1 / 2) + (1 / 2 + 2 / 3)) / 4)
    assert figures["p@1-over-min(last,1)"] == 0
    assert figures["p@2-over-min(last,2)"] == 1 / 2
    assert figures["p@10-over-min(last,10)"] == pytest.approx(2 / 3)  # the last is at rank 3


N, Q = 17, 6
NAMES = [f"b{i % 3}_{i:06d}" for i in range(N)]
QUERIES = [f"b{i % 2}_{100 + i:06d}" for i in range(Q)]


def made(tmp_path, seed):
    """A file with random lists, one query without easy ones, one with junk alone; and embeddings, with distractors."""
    rng = np.random.default_rng(seed)
    gnd = []
    for q in range(Q):
        kind = rng.integers(0, 5, N)
        if q == 1:
            kind[kind == 1] = 0
        if q == 2:
            kind[kind < 3] = 0
        kinds = {name: np.flatnonzero(kind == n) for n, name in enumerate(["easy", "hard", "junk"], start=1)}
        gnd.append({"bbx": [0, 0, 9, 9]} | kinds)
    path = tmp_path / "gnd.pkl"
    path.write_bytes(pickle.dumps({"imlist": NAMES, "qimlist": QUERIES, "gnd": gnd}, 2))
    names = np.array([f"jpg/{name}.jpg" for name in NAMES] + ["noise/1.jpg", "noise/2.jpg"], object)
    order = rng.permutation(len(names))
    splits = {
        "queries": Embeddings(text(f"q/{name}.jpg" for name in QUERIES), rng.standard_normal((Q, 4), np.float32)),
        "gallery": Embeddings(names[order], rng.standard_normal((len(names), 4), np.float32)),
    }
    return path, gnd, splits


def loop(gnd, splits, ks):
    """The protocol, one query after the other, with each right answer's rank looked up."""
    queries, gallery = splits["queries"].vectors, splits["gallery"].vectors
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    names = [i.split("/")[1].removesuffix(".jpg") for i in splits["gallery"].ids]
    figures = {}
    for level, ok, out in [
        ("easy", "easy", "junk hard"),
        ("medium", "easy hard", "junk"),
        ("hard", "hard", "junk easy"),
    ]:
        rows = []
        for query, answers in zip(queries, gnd, strict=True):
            right = {NAMES[j] for kind in ok.split() for j in answers[kind]}
            junk = {NAMES[j] for kind in out.split() for j in answers[kind]}
            if not right:
                continue
            ranking = [names[j] for j in np.argsort(-(gallery @ query)) if names[j] not in junk]
            places = sorted(ranking.index(name) for name in right)  # from 0
            ap = sum((j / p if p else 1) + (j + 1) / (p + 1) for j, p in enumerate(places)) / (2 * len(right))
            row = {"trapezoid-map-over-r": ap}
            for k in ks:
                depth = min(places[-1] + 1, k)
                row[f"p@{k}-over-min(last,{k})"] = sum(p < depth for p in places) / depth
            rows.append(row)
        figures |= {f"queries/{level}/{name}": np.mean([row[name] for row in rows]) for name in rows[0]}
        figures |= {f"queries/{level}/queries": len(rows), f"queries/{level}/queries_left_out": Q - len(rows)}
    return figures


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop_with_junk_distractors_and_queries_without_answers(tmp_path, seed, monkeypatch):
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 40)  # a few queries at a time
    path, gnd, splits = made(tmp_path, seed)
    evaluator = Revisited(str(path), ks=(1, 3, 10))
    evaluator.check(splits.get)
    figures = evaluator(splits.get)
    assert figures == pytest.approx(loop(gnd, splits, (1, 3, 10)))
    assert figures["queries/easy/queries_left_out"] >= 2 and figures["queries/medium/queries_left_out"] >= 1


def test_queries_of_one_building_are_a_group(tmp_path):
    path, _, splits = made(tmp_path, 0)
    found = Revisited(str(path)).per_query(splits.get)["medium"]
    assert [i[:4] for i in found.ids[found.groups == 0]] == ["q/b0"] * (found.groups == 0).sum()
    assert set(found.groups.tolist()) == {0, 1}


def test_bad_inputs(tmp_path):
    path, _, splits = made(tmp_path, 0)
    less = dict(splits, gallery=Embeddings(splits["gallery"].ids[:3], splits["gallery"].vectors[:3]))
    with pytest.raises(UserError, match=r"split 'gallery' lacks 1\d of the 17 photos"):
        Revisited(str(path)).check(less.get)
    with pytest.raises(UserError, match="cannot be read"):
        Revisited(str(tmp_path / "none.pkl")).check(splits.get)
    with pytest.raises(UserError, match=r"Revisited\.ks"):
        Revisited("x", ks=(0,))
