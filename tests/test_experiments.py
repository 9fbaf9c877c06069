"""Every experiment file loads, its experiments make a state for a batch of the right shapes, and take a step."""

import re
from pathlib import Path

import jax
import pytest

from ssljax.plan import target
from ssljax.plan.programs import Work
from ssljax.sharding import entering
from ssljax.training.experiment_file import load_experiments

ROOT = Path(__file__).parent.parent / "experiments"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))
WITH_A_MACHINE = [file for file in FILES if file.split("/")[0] in ("cifar10", "ecommerce", "imagenet")]


@pytest.mark.parametrize("file", FILES)
def test_experiments_fit_together_and_can_be_planned_without_their_data(file):
    config, sweep = load_experiments(ROOT / file)
    plan = r"^ssljax plan (\S+) --on (\S+)(?:.* --batch-size (\d+))?"
    for named, machine, batch in re.findall(plan, (ROOT / file).read_text(), re.MULTILINE):
        assert named == f"experiments/{file}" and int(batch or config.batch_size) % target(machine).chips == 0
    names = [e.name for e in sweep]
    assert len(set(names)) == len(names)
    for e in {id(e): e for e in (config, *sweep[:1], *sweep[-1:])}.values():
        assert jax.tree.leaves(Work.of(e, jax.devices()[:1], photos=10**6).spec.shapes.params)


@pytest.mark.parametrize("file", WITH_A_MACHINE)
def test_an_experiment_names_the_machine_that_it_is_meant_for(file):
    line, *_ = re.findall(r"^ssljax plan .*$", (ROOT / file).read_text(), re.MULTILINE)
    machine, photos = re.fullmatch(rf"ssljax plan experiments/{file} --on (\S+) --photos (\d+)", line).groups()
    config, _ = load_experiments(ROOT / file)
    assert config.batch_size % target(machine).chips == 0 and int(photos) >= 50_000


@pytest.mark.slow
@pytest.mark.parametrize("file", WITH_A_MACHINE)
def test_an_experiment_takes_a_step(file):
    work = Work.of(load_experiments(ROOT / file)[0], jax.devices()[:1], photos=10**6)
    with entering(work.mesh):
        state, metrics = jax.eval_shape(work.spec.step(), work.spec.shapes, work.spec.batch)
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, work.spec.shapes)
    assert metrics["loss"].shape == ()
