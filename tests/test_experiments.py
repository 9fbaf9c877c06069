"""Every experiment file loads, its experiments make a state for a batch of the right shapes, and take a step."""

import re
from pathlib import Path

import jax
import pytest

from ssljax.plan import target
from ssljax.plan.programs import Work
from ssljax.sharding import entering
from ssljax.training.experiment_file import load_experiments
from ssljax.types import UserError

ROOT = Path(__file__).parent.parent / "experiments"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))
WITH_A_MACHINE = [file for file in FILES if file.split("/")[0] in ("cifar10", "ecommerce", "imagenet", "landmarks")]


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


def machine_of(file):
    """The machine that an experiment names, and the photos there."""
    line, *_ = re.findall(r"^ssljax plan .*$", (ROOT / file).read_text(), re.MULTILINE)
    machine, photos = re.fullmatch(rf"ssljax plan experiments/{file} --on (\S+) --photos (\d+)", line).groups()
    return target(machine), int(photos)


@pytest.mark.parametrize("file", WITH_A_MACHINE)
def test_an_experiment_names_the_machine_that_it_is_meant_for(file):
    machine, photos = machine_of(file)
    config, _ = load_experiments(ROOT / file)
    assert config.batch_size % machine.chips == 0 and photos >= 50_000


@pytest.mark.slow
@pytest.mark.parametrize("file", WITH_A_MACHINE)
def test_an_experiment_takes_a_step(file):
    """On its machine where the compiler is installed, as after `make compilers`, else on a CPU; nothing compiles."""
    machine, photos = machine_of(file)
    try:
        devices = machine.devices()
    except UserError as error:
        assert "is not installed" in str(error)
        devices = jax.devices()[:1]
    work = Work.of(load_experiments(ROOT / file)[0], devices, photos)
    with entering(work.mesh):
        traced = work.spec.step().trace(work.spec.placed, work.batch)
        traced.lower()
    state, metrics = traced.out_info
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, work.spec.shapes)
    assert metrics["loss"].shape == ()
