"""Student and teacher are embedded, monitored and compared, where a method has both."""

import dataclasses
import json

import numpy as np
import pytest
from tiny import EXPERIMENT, SIMCLR

from ssljax.training.checkpoint import Checkpoints
from ssljax.training.loop import train
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup


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
