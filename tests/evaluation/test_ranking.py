"""First finds against a loop, and against CMC@1; and two runs' items put side by side."""

import dataclasses

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Retrieval
from ssljax.evaluation.aligned_runs import Paired
from ssljax.evaluation.ranking import Ranking
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError

rng = np.random.default_rng(0)
GROUPS = rng.integers(-1, 12, 60).astype(np.int32)
VECTORS = rng.normal(size=(60, 4)).astype(np.float32)


def split(vectors, groups, ids=None):
    ids = range(len(vectors)) if ids is None else ids
    return Embeddings(text(f"i{i}" for i in ids), vectors, listing=np.asarray(groups, np.int32))


@pytest.mark.parametrize("own", [True, False])
def test_first_finds_and_the_first_right_one_equal_a_loop(own):
    queries, asked = (VECTORS, GROUPS) if own else (VECTORS[:20] + 0.1, GROUPS[:20])
    ranking = Ranking(queries, asked, VECTORS, GROUPS, np.arange(60) if own else None)
    finds, units, unit_queries = ranking.first(), normalise(VECTORS), normalise(queries)
    expected = []
    for q in range(len(queries)):
        others = [row for row in range(60) if not (own and row == q)]
        order = sorted(others, key=lambda row, q=q: -float(units[row] @ unit_queries[q]))
        right = [rank for rank, row in enumerate(order, 1) if GROUPS[row] == asked[q] and asked[q] >= 0]
        if right:
            expected.append((q, order[0], right[0] == 1))
            assert ranking.right(q) == (order[right[0] - 1], right[0])
    assert list(zip(finds.queries.tolist(), finds.first.tolist(), finds.hit.tolist(), strict=True)) == expected
    assert 0 < finds.hit.mean() < 1


def test_the_share_of_hits_is_cmc_at_1():
    finds = Ranking(VECTORS, GROUPS, VECTORS, GROUPS, np.arange(60)).first()
    figures = Retrieval()(lambda name: split(VECTORS, GROUPS))
    assert finds.per_query.means()["cmc@1"] == figures["test/cmc@1"] and len(finds) == figures["test/queries"]


def test_of_equal_photos_the_lower_row_comes_first():
    same = np.ones((4, 2), np.float32)
    ranking = Ranking(same, np.array([0, 1, 0, 1], np.int32), same, np.array([0, 1, 0, 1], np.int32), np.arange(4))
    assert ranking.first().first.tolist() == [1, 0, 0, 0]
    assert [ranking.right(row) for row in range(4)] == [(2, 2), (3, 3), (0, 1), (1, 2)]


def test_nobody_to_find_is_told():
    with pytest.raises(UserError, match="none of the 3 queries has a relevant item"):
        Ranking(VECTORS[:3], np.arange(3), VECTORS[:3], np.arange(3), np.arange(3)).first()


def test_items_that_one_run_has_alone_are_left_out_of_both():
    """A lacks items 3 and 4, B lacks 7; B's rows are in another order, and its listings have other numbers."""
    a_rows, b_rows = np.delete(np.arange(60), [3, 4]), np.delete(np.arange(60)[::-1], 52)
    renumbered = np.where(GROUPS < 0, -1, 30 - GROUPS)
    a, b = split(VECTORS[a_rows], GROUPS[a_rows], a_rows), split(-VECTORS[b_rows], renumbered[b_rows], b_rows)
    paired = Paired.of(Retrieval(), lambda name: a, lambda name: b)
    assert paired.left_out == {"test": (1, 2)} and 7 not in b_rows
    assert paired.a["test"].ids.tolist() == paired.b["test"].ids.tolist() and len(paired.a["test"]) == 57
    first, second = (ranking.first() for ranking in paired.rankings())
    assert (first.queries == second.queries).all() and (
        first.first == second.first
    ).all()  # cosines of -x are those of x


def test_runs_on_other_data_are_refused():
    a = split(VECTORS, GROUPS)
    others = split(VECTORS, GROUPS, range(100, 160))
    with pytest.raises(UserError, match=r"no item of split 'test' is in both runs .*'i0'.*'i100'"):
        Paired.of(Retrieval(), lambda name: a, lambda name: others)
    moved = GROUPS.copy()
    moved[np.flatnonzero(GROUPS == 3)[0]] = 5
    for groups in (moved, np.where(GROUPS == 3, 5, GROUPS), np.where(GROUPS == 3, -1, GROUPS)):
        with pytest.raises(UserError, match="differ in listing"):
            Paired.of(Retrieval(), lambda name: a, lambda name, groups=groups: split(VECTORS, groups))


def test_a_gallery_of_another_split_is_paired_too():
    parts = {"test": split(VECTORS[:20], GROUPS[:20]), "train": split(VECTORS[20:], GROUPS[20:], range(20, 60))}
    retrieval = Retrieval(gallery="train")
    less = parts | {"train": parts["train"].select(np.arange(1, 40))}
    paired = Paired.of(retrieval, parts.get, less.get)
    assert paired.left_out == {"test": (0, 0), "train": (1, 0)}
    a, b = paired.rankings()
    assert a.own is None and a.gallery.shape == (39, 4)
    assert a.first().per_query.means() == b.first().per_query.means()
    cmc = retrieval(paired.a.get)["test/cmc@1"]
    assert a.first().hit.mean() == cmc


def test_selected_rows_stay_aligned():
    whole = dataclasses.replace(split(VECTORS, GROUPS), columns={"kind": text(f"k{i}" for i in range(60))})
    some = whole.select(np.array([5, 2]))
    assert some.ids.tolist() == ["i5", "i2"] and some.columns["kind"].tolist() == ["k5", "k2"]
    assert (some.vectors == VECTORS[[5, 2]]).all() and (some.listing == GROUPS[[5, 2]]).all()
    assert some.label is None and some.photos is None
