"""The loop: several steps in a dispatch are the same training as one at a time, also if it is killed and goes on."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import EXPERIMENT

from ssljax.cli.shared import Where
from ssljax.cli.train import train_run
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup

SHORT = dataclasses.replace(
    EXPERIMENT, cache="device", checkpoint_every=3, monitor=(), evaluate=(), baselines=False, accumulate=2
)  # 8 steps, 4 an epoch


@dataclasses.dataclass(frozen=True)
class PowerCut:
    """An evaluator that ends the training where it is first asked, after step 4."""

    split: str = "val"
    name: str = ""

    def check(self, embed):
        pass

    def __call__(self, embed):
        raise KeyboardInterrupt


def train(runs: Path, **changes):
    experiment = dataclasses.replace(SHORT, **changes)
    train_run(None, experiment, {"arguments": [], "position": None}, "again", Where(runs=runs), signals=False)


def trained(runs: Path):
    """The last state of the run, and its lines of metrics.jsonl but for what depends on the clock."""
    run, setup = Run(runs / SHORT.name), Setup.of(SHORT)
    with Checkpoints(run.checkpoints) as checkpoints:
        state = checkpoints.restore(setup.spec.shapes, setup.spec.shardings)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return jax.device_get(state), [{n: x for n, x in line.items() if n != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Trained with up to three steps in a dispatch."""
    runs = tmp_path_factory.mktemp("together")
    train(runs, steps_per_dispatch=3)
    return trained(runs)


def test_several_steps_in_a_dispatch_are_the_same_training(together, tmp_path):
    train(tmp_path)
    state, lines = trained(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 9))
    for line, theirs in zip(lines, together[1], strict=True):
        assert theirs == pytest.approx(line, rel=1e-3, abs=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), state, together[0])


def test_a_killed_run_goes_on_bit_for_bit(together, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, steps_per_dispatch=3, monitor=(PowerCut(),), monitor_every=1)
    train(tmp_path, steps_per_dispatch=3)
    state, lines = trained(tmp_path)
    assert lines == together[1]
    jax.tree.map(np.testing.assert_array_equal, state, together[0])


def test_a_dispatch_ends_where_something_follows_a_step():
    setup = Setup.of(dataclasses.replace(SHORT, steps_per_dispatch=3, checkpoint_every=5, monitor_every=1))
    assert list(setup.dispatches(0)) == [(3, 3), (4, 1), (5, 1), (8, 3)]
    assert list(setup.dispatches(6)) == [(8, 2)]
    one_by_one = dataclasses.replace(setup, experiment=SHORT)
    assert list(one_by_one.dispatches(5)) == [(6, 1), (7, 1), (8, 1)]
