"""Every experiment file loads, and each of its experiments makes a state for a batch of the right shapes."""

from pathlib import Path

import jax
import pytest

from ssljax.plan.programs import Work
from ssljax.training.experiment_file import load_experiments

ROOT = Path(__file__).parent.parent / "experiments"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_experiments_fit_together_and_can_be_planned_without_their_data(file):
    config, sweep = load_experiments(ROOT / file)
    names = [e.name for e in sweep]
    assert len(set(names)) == len(names)
    for e in {id(e): e for e in (config, *sweep[:1], *sweep[-1:])}.values():
        assert jax.tree.leaves(Work.of(e, jax.devices()[:1], photos=10**6).spec.shapes.params)
