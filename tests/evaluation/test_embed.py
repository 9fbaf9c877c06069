"""Student and teacher are embedded, monitored and compared, where a method has both."""

import dataclasses
import json

import numpy as np
import pytest
from tiny import EXPERIMENT, SIMCLR
from two_processes import outputs_of_two

from ssljax.data import Items
from ssljax.data.items import text
from ssljax.evaluation.embed import Embedder
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.loop import train
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The results of a run of a few steps, and its folder."""
    run = Run(tmp_path_factory.mktemp("tiny"))
    run.environment.write_text("{}")
    return train(Setup.of(EXPERIMENT), run, command=""), run


def test_the_table_has_the_teacher_beside_the_student(trained):
    table = trained[0]["table"]
    assert list(table) == ["trained", "teacher", "untrained", "raw pixels"]
    assert table["teacher"].keys() == table["trained"].keys() >= {"test/linear/accuracy", "test/knn/accuracy"}
    assert table["teacher"] != table["trained"]


def test_monitors_see_both_at_every_epoch(trained):
    _, run = trained
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for name in ("val/knn/accuracy", "val/few_shot/1_shot"):
        for prefix in ("", "teacher/"):
            values = [line[prefix + name] for line in lines if prefix + name in line]
            assert len(values) == 2 and all(0 <= value <= 1 for value in values)


def test_the_teacher_embeds_with_its_own_parameters_and_statistics(trained):
    _, run = trained
    setup = Setup.of(EXPERIMENT)
    embedder = setup.embedder(run)
    assert embedder.networks == ("student", "teacher")
    start = setup.spec.initial()
    student, teacher = (embedder.by(start, network)("val").vectors for network in embedder.networks)
    np.testing.assert_allclose(student, teacher, atol=1e-5)  # the teacher begins as a copy
    with Checkpoints(run.checkpoints) as checkpoints:
        end = checkpoints.restore(setup.spec.shapes, setup.spec.shardings)
    student, teacher = (embedder.by(end, network)("val").vectors for network in embedder.networks)
    assert np.abs(student - teacher).max() > 1e-3
    as_student = dataclasses.replace(
        end, params=end.aux.teacher.params, aux=dataclasses.replace(end.aux, stats=end.aux.teacher.stats)
    )
    np.testing.assert_array_equal(embedder.by(as_student)("val").vectors, teacher)


def test_a_method_without_a_teacher_has_none_to_show(trained):
    setup = Setup.of(dataclasses.replace(EXPERIMENT, method=SIMCLR))
    assert setup.embedder(trained[1]).networks == ("student",)


class Photos:
    """Random photos that count how often they are read, the first also by others; every tenth is bad."""

    def __init__(self, n):
        self.reads = [0] * n

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, row):
        self.reads[row] += 1
        return b"bad" if row % 10 == 3 else np.random.default_rng(row).integers(0, 256, (24, 30, 3), np.uint8)


def embed_counted(bad_inputs, limit):
    """Rows of 37 photos by the untrained network and raw pixels, and how often this process read each photo."""
    photos = Photos(37)
    items = Items(text(map(str, range(37))), photos, {})
    experiment = dataclasses.replace(EXPERIMENT, max_bad_share=limit)
    setup = Setup.of(experiment)
    embedder = Embedder(experiment, setup.mesh, lambda split: items, bad_inputs)
    state = setup.spec.initial()
    rows = embedder.together({"a": (state, "student"), "b": (state, "teacher")}, baseline=True)
    return {name: embed("test") for name, embed in rows.items()}, photos.reads


def test_a_split_is_read_once_for_all_rows(tmp_path):
    rows, reads = embed_counted(tmp_path / "bad.csv", 0.2)
    assert reads[1:] == [1] * 36 and list(rows) == ["a", "b", "raw pixels"]
    setup = Setup.of(EXPERIMENT)
    alone = setup.embedder(Run(tmp_path)).by(setup.spec.initial())("val")
    both = setup.embedder(Run(tmp_path)).by_networks(setup.spec.initial())["student"]("val")
    np.testing.assert_array_equal(alone.vectors, both.vectors)
    with pytest.raises(UserError, match=r"of 37 photos cannot be read, more than max_bad_share=0\.05 allows"):
        embed_counted(None, 0.05)


SHARED = """
import sys
from pathlib import Path
import numpy as np
from ssljax.sharding import join_processes
join_processes("lost")
import jax
from test_embed import embed_counted
from ssljax.types import UserError
folder, me = Path(sys.argv[1]), jax.process_index()
rows, reads = embed_counted(folder / f"{me}.csv", 0.2)
np.savez(folder / f"{me}.npz", reads=reads, ids=rows["a"].ids.astype(str), **{n: r.vectors for n, r in rows.items()})
try:
    embed_counted(None, 0.08)  # three of 37 are more, and neither process has met more than two
except UserError as error:
    assert "3 of 37 photos cannot be read" in str(error), error
    print("refused")
jax.distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_decode_a_share_each_and_all_see_the_same(tmp_path):
    assert all(out.endswith("refused\n") for out in outputs_of_two(SHARED, tmp_path))
    first, second = (np.load(tmp_path / f"{i}.npz") for i in range(2))
    assert (first["reads"] + second["reads"] == 1)[1:].all() and 15 < first["reads"][1:].sum() < 22
    rows, _ = embed_counted(tmp_path / "alone.csv", 0.2)
    for name, alone in rows.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone.vectors, atol=1e-5)
    assert first["ids"].tolist() == second["ids"].tolist() == rows["a"].ids.tolist()
    lists = [set((tmp_path / f"{name}.csv").read_text().splitlines()[1:]) for name in ("0", "1", "alone")]
    assert lists[0] | lists[1] == lists[2] and not lists[0] & lists[1]
