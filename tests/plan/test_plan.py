"""Plans of tiny experiments for TPUs that are not here."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
import tiny
import tyro

from ssljax.cli.plan import main, table_of
from ssljax.data import Catalogue, Classes, Listings
from ssljax.plan import largest_batch, plan, remedies, target
from ssljax.plan.programs import Compiled, Work, compiled_or_refused
from ssljax.plan.targets import compilers
from ssljax.types import UserError

pytest.importorskip("libtpu", reason="libtpu, which compiles for TPUs, has no wheel here or is not installed")
ELSEWHERE = dataclasses.replace(tiny.EXPERIMENT, data=Catalogue("nowhere.csv"), precision="bfloat16")
FILE = "import dataclasses\nimport tiny\nconfig = dataclasses.replace(tiny.EXPERIMENT, precision='bfloat16')\n"


@pytest.fixture(scope="module")
def made():
    return plan(ELSEWHERE, target("v5e:2x4"), photos=1600)


def test_a_plan_needs_neither_the_data_nor_the_devices(made):
    assert made.fits and made.chips == 8 and made.steps_per_epoch == 100
    assert made.time.hours == pytest.approx(made.time.step * 200 / 3600)
    assert made.time.chip_hours == pytest.approx(8 * made.time.hours)
    assert (
        set(made.programs)
        == set(made.compile_seconds)
        == set(made.compile_cpu_seconds)
        == {"initialisation", "step", "evaluation"}
    )
    assert made.needed == max(made.programs.values()) < made.available
    json.dumps(dataclasses.asdict(made))


def test_without_the_data_or_a_number_of_photos_the_hours_are_left_out(caplog):
    work = Work.of(ELSEWHERE, target("v5e:2x4").devices(), None)
    assert "nowhere.csv" in caplog.text and "give --photos N" in caplog.text
    assert (work.photos, work.steps_per_epoch) == (None, None)
    here = Work.of(dataclasses.replace(ELSEWHERE, data=tiny.EXPERIMENT.data), target("v5e:2x4").devices(), None)
    assert here.photos and here.steps_per_epoch == here.photos // 16


def test_the_environment_stays_as_it_was(monkeypatch):
    monkeypatch.setenv("TPU_WORKER_ID", "3")
    before = dict(os.environ)
    assert len(target("v5e:2x2").devices()) == 4
    assert dict(os.environ) == before


def test_memory_is_told_by_what_it_is(made):
    spec = Work.of(ELSEWHERE, target("v5e:2x4").devices(), 1600).spec
    teacher = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(spec.shapes.aux.teacher))
    assert made.memory["teacher"] == teacher
    assert made.memory["batch"] == sum(x.size * x.dtype.itemsize for x in spec.batch.values()) / 8
    queue = spec.shapes.aux.queue
    assert made.memory["queue, memory and center"] == queue.keys.size * 4 / 8 + 4, (
        "split over the devices, and its count"
    )


def test_the_compiled_step_computes_what_its_arithmetic_needs(made):
    for name in ("views", "student", "teacher", "loss"):
        assert made.parts[name].compiled == pytest.approx(made.parts[name].needed, rel=0.03), name
    assert made.parts["student"].needed > 2 * made.parts["teacher"].needed, "it has a backward pass"
    assert made.parts["optimizer"].needed == 0 < made.parts["optimizer"].elementwise
    assert made.time.source == "compiler" and all(part.cycles > 0 for part in made.parts.values())


def test_collectives_name_the_lines_that_cause_them(made):
    lines = {t.line for t in made.collectives}
    assert any(line.startswith("losses/") for line in lines), lines
    gradients = max(made.collectives, key=lambda t: t.bytes)
    parameters = made.memory["parameters"]
    assert gradients.kind == "all-reduce" and gradients.bytes == pytest.approx(parameters, rel=0.5)


def cells(table) -> list[list[str]]:
    return [list(column.cells) for column in table.columns]


def test_what_is_an_estimate_says_so(made):
    attention = dataclasses.replace(made, time=dataclasses.replace(made.time, fitted=0.002))
    names = cells(table_of(attention))[0]
    for said in (
        "activations (estimate: the rest)",
        "views (estimate: unpadded)",
        "estimates, by the compiler and a fit of ours",
        "ms of these in attention kernels, by a fit",
        "ms data travels, over all links",
    ):
        assert said in names
    assert made.time.fitted == 0 and "estimates, by the compiler" in cells(table_of(made))[0]
    assert made.time.compute <= made.time.step <= made.time.compute + made.time.links


def test_what_does_not_fit_is_told_with_the_bytes_that_it_needs():
    huge = dataclasses.replace(ELSEWHERE, method=tiny.SIMCLR, batch_size=2**22)
    made = plan(huge, target("v5e:2x4"), photos=2**23, step_only=True)
    assert not any(re.fullmatch(r"[\d.]+", cell) for cell in cells(table_of(made))[4]), "no time is known"
    assert not made.fits and made.time is None and made.available < made.needed < 10 * made.available
    assert made.memory["activations"] > made.available and made.parts["student"].needed > 0


def test_a_kernel_that_does_not_fit_is_no_matter_of_the_batch():
    def lowered(said):
        def refuse():
            raise jax.errors.JaxRuntimeError(said)

        return SimpleNamespace(compile=refuse)

    said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space {}. Used 17.5G of 15.75G."
    assert compiled_or_refused(lowered(said.format("hbm")), (0.0, 0.0), ()).needed == 17.5 * 2**30
    with pytest.raises(jax.errors.JaxRuntimeError, match="vmem"):
        compiled_or_refused(lowered(said.format("vmem")), (0.0, 0.0), ())
    scoped = "RESOURCE_EXHAUSTED: CompileTimeScopedVmemOom: Ran out of memory in memory space vmem"
    with pytest.raises(jax.errors.JaxRuntimeError, match="ScopedVmem"):
        compiled_or_refused(lowered(scoped), (0.0, 0.0), ())


def test_parameters_that_are_split_take_less_of_each_device():
    wide = dataclasses.replace(
        ELSEWHERE, method=dataclasses.replace(tiny.MOCO, projector=tiny.MLP(hidden=(4096,), out=8))
    )
    machine = target("v5e:2x4").devices()
    sizes = {}
    for shards in (1, 8):
        state = Work.of(dataclasses.replace(wide, shards=shards), machine, 1600).spec.placed
        leaves = jax.tree.leaves(state.params["projector"])
        sizes[shards] = sum(math.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
    assert sizes[8] < sizes[1]


def test_what_does_not_suit_the_devices_is_refused():
    with pytest.raises(UserError, match="batch_size=20 is not a multiple of the number of devices, 8"):
        plan(dataclasses.replace(ELSEWHERE, batch_size=20), target("v5e:2x4"))
    with pytest.raises(UserError, match="shards=3 does not divide the number of devices, 8"):
        plan(dataclasses.replace(ELSEWHERE, shards=3), target("v5e:2x4"))


TEXT = (Path(__file__).parent / "tpu.hlo").read_text()


@pytest.fixture
def compiling(monkeypatch):
    """Stands in for the compiler: what each program of an experiment needs, by a function; returns the sizes tried."""
    sizes = []

    def by(step, evaluation=lambda e: 0.0):
        def needs(of):
            return lambda work: Compiled(0.0, 0.0, needed=of(work.spec.experiment), text=TEXT)

        def stepped(work):
            sizes.append(work.spec.experiment.batch_size)
            return needs(step)(work), {"student": 1e9}

        monkeypatch.setattr(Work, "step", stepped)
        monkeypatch.setattr(Work, "initialisation", needs(lambda e: 0.0))
        monkeypatch.setattr(Work, "evaluation", needs(evaluation))
        return sizes

    return by


MACHINE = target("v5e:2x4")
SIMCLR = dataclasses.replace(ELSEWHERE, method=tiny.SIMCLR)


def line(experiment):
    """Bytes of a step that grow with the batch, and fall with the shards."""
    return (experiment.batch_size * 2.0**24 + 2**30) / experiment.shards**0.5


def largest(experiment, photos=10**6, **options):
    return largest_batch(experiment, MACHINE, photos, lambda said: None, **options)


def test_the_largest_batch_is_found_in_a_few_tries(compiling):
    sizes = compiling(line)
    right = (MACHINE.chip.memory - 2**30) / 2**24
    found = largest(SIMCLR)
    assert right - max(8, found // 16) <= found <= right and found % 8 == 0
    assert len(sizes) <= 8, "a few tries"
    assert largest(SIMCLR, photos=300) == 296, "no larger than the data set"
    parts = dataclasses.replace(SIMCLR, batch_size=64, accumulate=4)
    by_class = dataclasses.replace(SIMCLR, sampler=Classes(per_class=16))
    for experiment, multiple in ((parts, 32), (by_class, 16)):
        found = largest(experiment)
        assert found % multiple == 0 and right - 64 < found <= right


@pytest.mark.parametrize("accumulate", [1, 4])
def test_sizes_that_the_experiment_refuses_are_stepped_over(compiling, accumulate):
    moco = dataclasses.replace(tiny.MOCO, queue_size=65_536)
    experiment = dataclasses.replace(ELSEWHERE, method=moco, batch_size=256, accumulate=accumulate)
    compiling(line)
    assert largest(experiment) == 512, "of 944 that would fit, it divides the queue"
    compiling(lambda e: line(e) / 4)
    assert largest(experiment) == 2048
    compiling(lambda e: 4 * line(e))
    assert largest(experiment) == 128
    compiling(lambda e: 2**50)
    assert largest(experiment) is None


def test_a_batch_fits_as_a_plan_says(compiling):
    compiling(line, evaluation=lambda e: 2 * line(e))
    evaluated, step = largest(SIMCLR), largest(SIMCLR, step_only=True)
    assert evaluated < 0.6 * step
    for size, fits in ((evaluated, True), (step, False)):
        assert plan(dataclasses.replace(SIMCLR, batch_size=size), MACHINE, photos=10**6).fits is fits
    cached = dataclasses.replace(SIMCLR, cache="device", photo_size=64)
    assert largest(cached, step_only=True) < step - 600


def test_what_takes_less_memory_is_named_as_the_command_line_has_it(compiling):
    compiling(line)
    wide = dataclasses.replace(SIMCLR, batch_size=1024)
    found = {r.options: r.fits for r in remedies(wide, MACHINE, 10**6, lambda said: None)}
    assert found["--shards 8"] and not found["--method.encoder.remat dots"]
    assert "--method.encoder.remat block" in found and "--accumulate 16" in found
    assert "--method.encoder.dtype bfloat16 --method.projector.dtype bfloat16" in found
    for options in found:
        tyro.cli(type(wide), default=wide, args=options.split())


def test_photos_of_listings_are_cached_all():
    listings = dataclasses.replace(ELSEWHERE, sampler=Listings(photos=3), cache="device")
    work = Work.of(listings, MACHINE.devices(), 1600)
    assert (work.photos, work.all_photos) == (1600, 4800)


def test_a_dispatch_of_several_steps_holds_their_batches_and_its_figures_are_those_of_one(made):
    several = plan(dataclasses.replace(ELSEWHERE, steps_per_dispatch=4), target("v5e:2x4"), 1600, step_only=True)
    assert several.memory["batch"] == several.memory["next batch"] == 4 * made.memory["batch"]
    for name, part in several.parts.items():
        assert part.needed == made.parts[name].needed
        assert part.compiled == pytest.approx(made.parts[name].compiled, rel=0.03), name


def command(tmp_path, *arguments, path=()):
    (tmp_path / "experiment.py").write_text(FILE)
    places = [*path, os.path.dirname(tiny.__file__), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "COLUMNS": "120"}
    environment.pop("TPU_LIBRARY_PATH", None)  # which libtpu sets where it is loaded
    line = [sys.executable, "-m", "ssljax.cli", "plan", str(tmp_path / "experiment.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    done = command(tmp_path, "--on", "v5e:1x1", "--json", "plan.json")
    assert done.returncode == 0, done.stderr
    for word in ("parameters", "student", "MFU", "chip-hours", "evaluation"):
        assert word in done.stdout
    record = json.loads((tmp_path / "plan.json").read_text())
    assert record["fits"] and record["target"] == "v5e:1x1" and not record["collectives"]


def test_a_file_that_cannot_be_written_is_told_before_anything_compiles(tmp_path, monkeypatch):
    monkeypatch.setattr("ssljax.cli.plan.plan", lambda *asked, **options: pytest.fail("it compiles"))
    (tmp_path / "experiment.py").write_text(FILE)
    (tmp_path / "file").touch()
    for place, why in ((tmp_path, "Is a directory"), (tmp_path / "file" / "plan.json", "File exists")):
        with pytest.raises(UserError) as refused:
            main([str(tmp_path / "experiment.py"), "--on", "v5e:1x1", "--json", str(place)])
        assert str(refused.value) == f"{place} cannot be written ({why}): choose another --json"


def test_fewer_photos_than_a_batch_are_refused(tmp_path):
    done = command(tmp_path, "--on", "v5e:1x1", "--photos", "15")
    assert (done.returncode, done.stderr) == (
        2,
        "ssljax plan: photos=15 are fewer than a batch takes, batch_size=16\n",
    )


def test_a_missing_compiler_is_said_in_one_sentence(tmp_path):
    (tmp_path / "none" / "libtpu").mkdir(parents=True)
    (tmp_path / "none" / "libtpu" / "__init__.py").write_text("raise ImportError")
    done = command(tmp_path, "--on", "v5e:2x4", path=[str(tmp_path / "none")])
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "ssljax plan: on='v5e:2x4' needs libtpu, which is not installed: pip install --no-deps --target compilers "
        f"'{compilers()[0]}', and run with PYTHONPATH=compilers"
    )
