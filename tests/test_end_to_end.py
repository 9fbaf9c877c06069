"""The quickstart, shrunk to seconds: trained, interrupted, killed, continued, searched; and users' mistakes."""

import contextlib
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest
from disturbances import Neighbour, Noise
from PIL import Image
from two_processes import together

from ssljax.cli import robustness as ssljax_robustness
from ssljax.cli import train as cli_train
from ssljax.cli.main import run as ssljax
from ssljax.cli.shared import experiment_of
from ssljax.config import Experiment
from ssljax.data.atomic_files import claimed
from ssljax.evaluation import KNN, Embeddings, Retrieval
from ssljax.training import export as finish
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.export import verdict
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import Progress

QUICKSTART = str(Path(__file__).parent.parent / "experiments" / "quickstart.py")
SMALL = [
    *("--data.listings", "48", "--epochs", "4", "--batch-size", "16", "--photo-size", "20", "--views.size", "16"),
    *("--views.jitter", "0.0"),  # colours take as long to compile as the network
    *("--method.encoder.width", "4", "--method.encoder.stem", "imagenet", "--method.projector.hidden", "16"),
    *("--method.projector.out", "8", "--method.queue-size", "48", "--optimizer.lr", "0.06"),
    *("--checkpoint-every", "3", "--log-every", "1"),
]
STEPS = 4 * (48 * 3 // 4 * 4 // 16)


def train(runs: Path, *options: str) -> int:
    """The exit code of `ssljax train` on the small quickstart."""
    return ssljax(["train", QUICKSTART, *SMALL, "--runs", str(runs), *options])


def started(runs: Path, *options: str, **environment: str) -> subprocess.Popen:
    """The same in a process of its own, so that it can be killed."""
    command = [sys.executable, "-m", "ssljax.cli.main", "train", QUICKSTART, *SMALL, "--runs", str(runs), *options]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, **pipes)


def final_state(run: Run):
    """The state in the last checkpoint."""
    setup = Setup.of(experiment_of(run))
    with Checkpoints(run.checkpoints) as checkpoints:
        return jax.device_get(checkpoints.restore(setup.spec.shapes, setup.spec.shardings))


def wait_for(condition, seconds: float = 600) -> None:
    """Returns once `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def logged(run: Run) -> list[dict]:
    """The lines of metrics.jsonl that are whole."""
    text = run.metrics.read_text() if run.metrics.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder in which the small quickstart has run from start to end."""
    runs = tmp_path_factory.mktemp("runs")
    assert train(runs) == 0
    return runs


@pytest.fixture(scope="module")
def run(runs) -> Run:
    """That run."""
    return Run(runs / "quickstart")


def test_run_folder_is_complete(run):
    results = json.loads(run.results.read_text())
    assert list(results["table"]) == ["trained", "teacher", "untrained", "raw pixels"]
    assert all("test/cmc@1" in row for row in results["table"].values())
    assert results["steps"] == STEPS
    lines = logged(run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {"loss", "gradient_norm", "embedding_std", "learning_rate", "queue_fill", "epoch"} <= set(lines[-1])
    names = {
        "config.json",
        "experiment.py",
        "environment.json",
        "weights",
        "checkpoints",
        "tensorboard",
        "index",
        "report.html",
    }
    assert names <= {path.name for path in run.path.iterdir()}
    assert run.source.read_text() == Path(QUICKSTART).read_text()
    assert json.loads((run.path / "config.json").read_text())["method"]["encoder"]["width"] == 4


@pytest.mark.slow
def test_quickstart_beats_raw_pixels_by_ten_points(tmp_path):
    quick = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}  # one device, and optimised, as a user has it
    command = [sys.executable, "-m", "ssljax.cli.main", "train", QUICKSTART, "--runs", str(tmp_path)]
    subprocess.run(command, env=quick, check=True, cwd=tmp_path)
    table = json.loads(Run(tmp_path / "quickstart").results.read_text())["table"]
    assert table["trained"]["test/cmc@1"] >= table["raw pixels"]["test/cmc@1"] + 0.10
    assert table["trained"]["test/cmc@1"] > table["untrained"]["test/cmc@1"]


def test_search_finds_the_photo_itself(run, capsys):
    sample = min((run.path / "samples").glob("*.png"))
    assert ssljax(["search", str(run.path), str(sample), "--k", "3"]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if "│ 1 " in line)
    assert sample.stem in first and "1.000" in first


STUDENT = """
from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.methods import SEED, FrozenTeacher
from ssljax.models import MLP, Pretrained, ResNet
from ssljax.optim import SGD
from ssljax.views import TwoCrops

teacher = ResNet(depth=10, stem="imagenet", width=4)
head = MLP(hidden=(16,), out=8)
config = Experiment(
    name="student", data=ToyCatalogue(listings=48), photo_size=20, epochs=1,
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    method=SEED(encoder=ResNet(depth=10, width=2), projector=head, queue_size=48,
                teacher=FrozenTeacher(encoder=Pretrained(teacher, "teacher.safetensors"),
                                      projector=Pretrained(head, "teacher.safetensors", part="projector"))),
    optimizer=SGD(lr=0.06), batch_size=16)
"""


def test_student_learns_from_the_teacher_of_a_run_and_is_searched_without_its_file(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("student.py").write_text(STUDENT)
    assert ssljax(["train", "student.py"]) == 2
    assert "method.teacher.encoder.weights=teacher.safetensors does not exist" in capsys.readouterr().err
    shutil.copy(run.weights("teacher"), "teacher.safetensors")
    assert ssljax(["train", "student.py"]) == 0
    taught, taught_by = (json.loads(r.results.read_text())["table"] for r in (Run(Path("runs/student")), run))
    assert taught["teacher"] == pytest.approx(taught_by["teacher"], abs=1e-6)
    Path("teacher.safetensors").unlink()
    sample = str(min((run.path / "samples").glob("*.png")))
    assert ssljax(["search", "runs/student", sample, "--k", "1"]) == 0


SWEEP = """
import dataclasses
from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.methods import BYOL
from ssljax.models import MLP, ResNet
from ssljax.views import TwoCrops

head = MLP(hidden=(16,), out=8, batch_norm=True)
method = BYOL(encoder=ResNet(depth=10, width=2), projector=head, predictor=head)
first = Experiment(
    name="first", data=ToyCatalogue(listings=24), photo_size=20, epochs=1,
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0), batch_size=16, method=method)
sweep = [first, dataclasses.replace(first, name="second", epochs=2)]
"""


@pytest.mark.slow
def test_a_sweep_goes_on_and_ends_in_one_table_and_records(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sweep.py").write_text(SWEEP)
    assert ssljax(["sweep", "sweep.py", "--only", "1"]) == 0
    assert [path.name for path in Path("results").iterdir()] == ["second.json"]
    before = Run(Path("runs/second")).results.stat().st_mtime_ns
    capsys.readouterr()
    assert ssljax(["sweep", "sweep.py"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("first", "second", "second, teacher", "raw pixels", "test/cmc@1"))
    assert Run(Path("runs/second")).results.stat().st_mtime_ns == before
    for name in ("first", "second"):
        recorded = json.loads(Path(f"results/{name}.json").read_text())
        assert recorded == json.loads(Run(Path(f"runs/{name}")).results.read_text())


def test_a_complete_run_is_shown_and_not_trained_again(runs, run, capsys):
    before = run.results.stat().st_mtime_ns
    assert train(runs) == 0
    assert "test/cmc@1" in capsys.readouterr().out
    assert run.results.stat().st_mtime_ns == before


TABLE = {"trained": 0.5, "teacher": 0.6, "untrained": 0.4, "raw pixels": 0.3}
VERDICTS = [
    ({}, ["The student (test/cmc@1 0.500) is worse than the teacher (0.600).", "`ssljax embed --network teacher`"]),
    ({"teacher": 0.5}, ["The student (test/cmc@1 0.500) is as good as the teacher (0.500)."]),
    ({"teacher": None}, []),
    (
        {"teacher": None, "raw pixels": 0.7},
        ["The student finds less than raw pixels (0.700): its test/cmc@1 is 0.500.", "Train longer, or look at"],
    ),
    (
        {"trained": 0.2, "teacher": 0.35, "raw pixels": 0.3},
        [
            "The student finds less than raw pixels (0.300) and the untrained network (0.400): its test/cmc@1 is",
            "Train longer",
            "The teacher finds less than the untrained network (0.400): its test/cmc@1 is 0.350.",
            "The student (test/cmc@1 0.200) is worse than the teacher (0.350).",
            "`ssljax embed --network teacher`",
        ],
    ),
    ({"teacher": None, "untrained": None, "trained": 0.3}, []),  # as good as raw pixels
]


@pytest.mark.parametrize("changes, sentences", VERDICTS)
def test_a_table_is_put_into_words(changes, sentences):
    figures = {row: value for row, value in (TABLE | changes).items() if value is not None}
    table = {row: {"test/knn": 1 - value, "test/cmc@1": value} for row, value in figures.items()}
    said = verdict(Experiment(name="x", evaluate=(KNN(), Retrieval())), table)
    assert len(said) == len(sentences) and all(map(str.startswith, said, sentences))
    assert verdict(Experiment(name="x", evaluate=()), {row: {} for row in table}) == []


def test_the_words_are_on_the_terminal_and_in_the_report(runs, run, capsys):
    said = json.loads(run.results.read_text())["verdict"]
    assert any(" the teacher (" in sentence for sentence in said)
    assert train(runs) == 0
    printed = capsys.readouterr().err.splitlines()
    assert set(said) <= set(printed)
    page = run.report.read_text()
    assert all(html.escape(sentence) in page for sentence in said)


def test_the_teacher_embeds_and_its_index_is_searched_by_it_alone(run, tmp_path, capsys):
    student, teacher, index = (str(tmp_path / name) for name in ("student.npz", "teacher.npz", "index"))
    photo = str(min(run.samples.glob("*.png")))
    assert ssljax(["embed", str(run.path), str(run.samples), "-o", student]) == 0
    assert ssljax(["embed", str(run.path), str(run.samples), "--network", "teacher", "-o", teacher]) == 0
    by_student, by_teacher = Embeddings.load(student), Embeddings.load(teacher)
    assert not np.allclose(by_student.vectors, by_teacher.vectors, atol=0.01)
    assert (by_student.origin.network, by_teacher.origin.network) == ("student", "teacher")
    assert ssljax(["index", student, teacher, "-o", index]) == 2
    assert ssljax(["index", teacher, "-o", index, "--kind", "exact"]) == 0
    capsys.readouterr()
    assert ssljax(["search", index, photo, "--k", "1"]) == 0
    assert "1.000" in capsys.readouterr().out
    assert ssljax(["search", index, photo, "--network", "student"]) == 2
    assert f"network=student: {index} was embedded by the teacher; leave --network out" in capsys.readouterr().err
    assert ssljax(["search", str(run.path), photo, "--network", "teacher"]) == 2
    assert "was embedded by the student" in capsys.readouterr().err


def test_report_and_evaluation_again(run, capsys):
    before = json.loads(run.results.read_text())
    (run.path / "report.html").unlink()
    assert ssljax(["report", str(run.path)]) == 0
    assert "<html" in (run.path / "report.html").read_text()
    assert ssljax(["evaluate", str(run.path)]) == 0
    assert json.loads(run.results.read_text())["table"] == before["table"]


def test_another_configuration_is_refused_in_the_same_folder(runs, capsys):
    assert train(runs, "--optimizer.lr", "0.5") == 2
    assert "optimizer.lr is 0.06 there and 0.5 here" in capsys.readouterr().err


def test_a_run_is_left_alone_while_another_process_trains_it(runs, run, capsys):
    with claimed(run.path):
        assert train(runs) == train(runs, "--restart") == 2
    assert capsys.readouterr().err.count("is being changed by another process: end that one first") == 2
    assert run.results.exists()


def test_a_complete_run_goes_on_longer_and_not_shorter_but_by_restart(tmp_path, capsys):
    longer = Run(tmp_path / "quickstart")
    assert train(tmp_path, "--epochs", "1") == 0
    first = json.loads(longer.results.read_text())
    longer.report.write_text("of the shorter run")
    assert train(tmp_path, "--epochs", "2", "--optimizer.lr", "0.07") == 2
    assert "holds a run of another configuration (optimizer.lr is" in capsys.readouterr().err
    assert json.loads(longer.results.read_text()) == first
    assert train(tmp_path, "--epochs", "2") == 0
    assert "goes on to 2 epochs instead of 1: from here on the learning rate" in capsys.readouterr().err
    results, lines = json.loads(longer.results.read_text()), logged(longer)
    assert (first["steps"], results["steps"], results["config"]["epochs"]) == (STEPS // 4, STEPS // 2, 2)
    assert results["table"]["untrained"] == first["table"]["untrained"]
    assert results["table"]["trained"] != first["table"]["trained"]
    assert [line["step"] for line in lines] == list(range(1, STEPS // 2 + 1))
    rate = experiment_of(longer).optimizer.learning_rate(Progress(STEPS // 2 - 1, STEPS // 2))
    assert lines[-1]["learning_rate"] == pytest.approx(float(rate), rel=1e-4)
    assert lines[STEPS // 4 - 1]["learning_rate"] < lines[STEPS // 4]["learning_rate"]  # down, and up again
    assert "<html" in longer.report.read_text()
    assert train(tmp_path, "--epochs", "1") == 2
    assert "holds a run of 2 epochs, and epochs=1 is fewer" in capsys.readouterr().err
    assert json.loads(longer.results.read_text()) == results
    assert train(tmp_path, "--epochs", "1", "--restart") == 0
    assert json.loads(longer.results.read_text())["table"] == first["table"]


@pytest.mark.slow
def test_killed_at_any_step_and_continued_is_the_same_run(run, tmp_path):
    killed = Run(tmp_path / "quickstart")
    rng = np.random.default_rng(time.time_ns())  # another step at every run of the tests; the run must not depend on it
    for earliest in sorted(rng.choice(np.arange(3, STEPS - 1), 2, replace=False)):
        process = started(tmp_path)
        wait_for(lambda p=process, e=earliest: p.poll() is not None or any(x["step"] >= e for x in logged(killed)))
        process.kill()
        process.communicate()
    (killed.checkpoints / f"{STEPS - 1}.orbax-checkpoint-tmp").mkdir()  # half-written: never restored
    assert train(tmp_path) == 0
    whole, continued = final_state(run), final_state(killed)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(continued), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [line["step"] for line in logged(killed)] == list(range(1, STEPS + 1))


def damage(rng: np.random.Generator, checkpoint: Path) -> str:
    """Flips a bit of a file, cuts it, or deletes it; tells what was done."""
    path = rng.choice(sorted(path for path in checkpoint.rglob("*") if path.is_file()))
    kind, content = rng.choice(["flipped", "cut", "deleted"]), bytearray(path.read_bytes())
    if kind == "deleted":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(content[: rng.integers(len(content))])
    else:
        bit = int(rng.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
    return f"{path.relative_to(checkpoint.parent)} {kind}"


@pytest.mark.slow
def test_killed_and_damaged_twenty_times_it_is_the_same_run(tmp_path):
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")
    rng, alone = np.random.default_rng(seed), os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    options = ("--epochs", "40")
    whole, chaos = Run(tmp_path / "whole" / "quickstart"), Run(tmp_path / "chaos" / "quickstart")
    process = started(tmp_path / "whole", *options, XLA_FLAGS=alone)
    assert process.communicate(timeout=600) and process.returncode == 0
    damaged: set[tuple[str, int]] = set()
    for kill in range(20):
        before = logged(chaos)[-1:]
        process = started(tmp_path / "chaos", *options, XLA_FLAGS=alone)
        if rng.random() < 0.2:  # while it starts
            time.sleep(rng.uniform(0, 8))
        else:  # some steps after it has begun: the lines after its checkpoint are dropped then
            wait_for(lambda p=process, last=before: p.poll() is not None or logged(chaos)[-1:] != last)
            reached = len(logged(chaos)) + rng.integers(1, 26)
            wait_for(lambda p=process, r=reached: p.poll() is not None or len(logged(chaos)) >= r)
        process.kill()
        _, error = process.communicate()
        assert process.returncode == -signal.SIGKILL and "Traceback" not in error, error
        # the newest checkpoint, if one is left then
        found = sorted((p for p in chaos.checkpoints.glob("[0-9]*") if p.name.isdecimal()), key=lambda p: int(p.name))
        if any((p.name, p.stat().st_ino) not in damaged for p in found[:-1]):
            damaged.add((found[-1].name, found[-1].stat().st_ino))
            print(f"kill {kill}: {damage(rng, found[-1])}")
    assert len(damaged) >= 5
    process = started(tmp_path / "chaos", *options, XLA_FLAGS=alone)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    for a, b in zip(*(jax.tree.leaves(final_state(r)) for r in (whole, chaos)), strict=True):
        np.testing.assert_array_equal(a, b)
    for network in ("student", "teacher"):
        assert whole.weights(network).read_bytes() == chaos.weights(network).read_bytes()
    losses = [[(line["step"], line.get("loss")) for line in logged(r)] for r in (whole, chaos)]
    assert losses[0] == losses[1] and len(losses[0]) == 10 * STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_saves_and_says_how_to_continue(number, tmp_path):
    run = Run(tmp_path / "quickstart")
    process = started(tmp_path, "--epochs", "4000")
    wait_for(lambda: process.poll() is not None or len(logged(run)) >= 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Continue with:" in errors and f"ssljax train {QUICKSTART}" in errors.replace("\n", " ").replace("  ", " ")
    with Checkpoints(run.checkpoints) as checkpoints:
        assert checkpoints.latest >= 2


def two_processes(runs: Path, *options: str, second: Path | None = None) -> list[subprocess.Popen]:
    """The small quickstart in two processes of four devices, perhaps with a folder of runs each."""
    folders = (runs, second or runs)
    return [started(f, "--distributed", *options, **e) for f, e in zip(folders, together(), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_of_two_processes_is_killed_the_other_ends_and_says_how_to_go_on(killed, tmp_path):
    run = Run(tmp_path / "quickstart")
    processes = two_processes(tmp_path, "--epochs", "4000")
    wait_for(lambda: any(process.poll() is not None for process in processes) or len(logged(run)) >= 5)
    processes[killed].kill()
    _, error = processes[1 - killed].communicate(timeout=60)  # JAX alone would take 67 s, and abort with 134
    processes[killed].communicate()
    assert processes[1 - killed].returncode == 1, error
    assert "another process of this training has ended, or is out of reach: start all of them again with" in error
    assert f"\n  ssljax train {QUICKSTART}" in error
    assert "Traceback" not in error and "stack trace" not in error


@pytest.mark.slow
def test_two_processes_are_one_run_and_one_process_continues_it(run, tmp_path):
    both = Run(tmp_path / "quickstart")
    first, second = two_processes(tmp_path)
    wait_for(lambda: first.poll() is not None or second.poll() is not None or len(logged(both)) >= 2)
    second.send_signal(signal.SIGTERM)  # one is asked, both stop
    errors = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert "Continue with:" in errors[0] and "Continue with:" not in errors[1]
    assert (both.path / "process1" / "metrics.jsonl").exists()
    assert train(tmp_path) == 0
    for alone, here in zip(logged(run), logged(both), strict=True):
        assert here["loss"] == pytest.approx(alone["loss"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_need_only_share_the_checkpoints_and_a_lost_run_folder_is_made_anew(run, tmp_path, capsys):
    checkpoints = ("--checkpoints", str(tmp_path / "shared"))
    both = Run(tmp_path / "a" / "quickstart")
    first, second = two_processes(tmp_path / "a", *checkpoints, second=tmp_path / "b")
    wait_for(lambda: first.poll() is not None or second.poll() is not None or len(logged(both)) >= 2)
    first.send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert not (tmp_path / "a" / "quickstart" / "checkpoints").exists()
    steps = len(logged(both))
    shutil.rmtree(tmp_path / "a")
    assert train(tmp_path / "a", *checkpoints, "--optimizer.lr", "0.5") == 2
    assert "holds a run of another configuration (optimizer.lr is 0.06 there" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "a")
    for process in two_processes(tmp_path / "a", *checkpoints, second=tmp_path / "b"):
        assert process.communicate(timeout=300) and process.returncode == 0
    alone = logged(run)[steps:]
    assert [line["step"] for line in logged(both)] == [line["step"] for line in alone]
    assert logged(both)[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=1e-3)
    assert ssljax(["evaluate", str(both.path)]) == 0  # it knows where they are
    assert train(tmp_path / "a", "--checkpoints", str(tmp_path / "other")) == 2
    assert f"has its checkpoints in {tmp_path}/shared/quickstart, not in" in capsys.readouterr().err
    for process in two_processes(tmp_path / "a", *checkpoints, second=tmp_path / "b"):  # complete
        assert process.communicate(timeout=300) and process.returncode == 0


@pytest.mark.slow
def test_two_processes_that_share_nothing_are_refused(tmp_path):
    for process in two_processes(tmp_path / "a", second=tmp_path / "b"):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 2
        assert "which process 1 does not see: give --runs on a disk that all share" in error
        assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 1])
def test_a_process_that_never_comes_is_one_sentence(late, tmp_path):
    environment = together()[1 - late]
    process = started(tmp_path, "--distributed", "--initialization-timeout", "2", **environment)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    address = environment["JAX_COORDINATOR_ADDRESS"]
    sentence = f"ssljax train: distributed: not all of the 2 processes met at {address} within 2 seconds: start all"
    assert error.startswith(sentence) and error.count("\n") == 1, error


@contextlib.contextmanager
def files_of_at_most(size: int):
    """Within it the system refuses to write more than `size` bytes into a file, as it does when a disk is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(run, tmp_path, capsys):
    stopped = Run(tmp_path / "quickstart")
    for size, place in ((100, "quickstart"), (20_000, "checkpoints"), (300_000, "report.html")):
        with files_of_at_most(size):
            code = train(tmp_path)
        said = capsys.readouterr().err
        assert code == (2 if place == "quickstart" else 1), said  # the run folder cannot be made: choose another
        assert place in said and "(File too large)" in said and "Traceback" not in said and "ERROR" not in said
        assert not stopped.results.exists()
    assert train(tmp_path) == 0
    for a, b in zip(*(jax.tree.leaves(final_state(r)) for r in (run, stopped)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [line["step"] for line in logged(stopped)] == list(range(1, STEPS + 1))


def test_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    assert train(tmp_path, "--optimizer.lr", "1e30", "--optimizer.warmup", "0.0", "--checkpoint-every", "1") == 1
    error = capsys.readouterr().err
    assert "is nan at step" in error or "is inf at step" in error
    step = int(error.split("at step ")[1].split()[0])
    run = Run(tmp_path / "quickstart")
    with Checkpoints(run.checkpoints) as checkpoints:
        assert checkpoints.latest == step - 1
    assert not run.results.exists()


MISTAKES = {
    "missing file": (["train", "nowhere.py"], "there is no experiment file nowhere.py"),
    "no file": (["train"], "an experiment file comes first"),
    "unknown command": (["trian"], "there is no command 'trian': did you mean 'train'? There are"),
    "no such command": (["frobnicate"], "there is no command 'frobnicate': there are train, import, sweep,"),
    "option first": (["--restart", "train"], "there is no command '--restart': there are"),
    "not a run": (["search", "nowhere", "photo.jpg"], "is not a run folder"),
    "queue": (["train", QUICKSTART, "--method.queue-size", "1000"], "try 896 or 1024"),
    "batch": (["train", QUICKSTART, "--batch-size", "100000"], "is larger than the train split's 3000 photos"),
    "epochs": (["train", QUICKSTART, "--epochs", "-1"], "epochs=-1 is too small"),
    "share": (["train", QUICKSTART, "--max-bad-share", "3"], "max_bad_share=3.0 is not a share"),
    "depth": (["train", QUICKSTART, "--method.encoder.depth", "17"], "encoder.depth=17"),
    "relevant": (["train", QUICKSTART, "--evaluate.0.relevant", "brand"], "is not a column of the data"),
    "never repeats": (["train", QUICKSTART, "--data.photos", "1"], "its values never repeat"),
    "gallery": (["train", QUICKSTART, "--gallery", "holdout"], "holdout"),
    "name": (["train", QUICKSTART, "--name", "../up"], "name='../up' cannot name a folder"),
    "long name": (["train", QUICKSTART, "--name", "x" * 300], "xxx' cannot name a folder: use letters"),
    "runs": (
        ["train", QUICKSTART, "--runs", "/dev/null"],
        "cannot be written (Not a directory): choose another --runs",
    ),
    "bucket": (["train", QUICKSTART, "--checkpoints", "s3://ours/x"], "checkpoints=s3://ours/x is no place for them"),
    "timeout": (["train", QUICKSTART, "--initialization-timeout", "0"], "initialization_timeout=0 is too small"),
    "no queue": (["train", QUICKSTART, "--method.queue-size", "0"], "method.queue_size=0 holds nothing: try 2048"),
    "width": (["train", QUICKSTART, "--method.encoder.width", "0"], "method.encoder.width=0 is too small"),
    "out": (["train", QUICKSTART, "--method.projector.out", "0"], "method.projector.out=0 is too small"),
    "groups": (["train", QUICKSTART, "--method.encoder.norm-groups", "3"], "method.encoder.norm_groups=3 does not"),
    "temperature": (["train", QUICKSTART, "--method.temperature", "0"], "method.temperature=0.0 must be above 0"),
    "momentum": (
        ["train", QUICKSTART, "--method.teacher.momentum", "2"],
        "method.teacher.momentum=2.0 must be at least 0 and at most 1",
    ),
    "lr": (["train", QUICKSTART, "--optimizer.lr", "nan"], "optimizer.lr=nan must be a finite number"),
    "sgd": (["train", QUICKSTART, "--optimizer.momentum", "2"], "optimizer.momentum=2.0 must be in [0, 1)"),
    "seed": (["train", QUICKSTART, "--data.seed", "-1"], "data.seed=-1 is too small"),
    "shares": (["train", QUICKSTART, "--data.shares", "nan", "0.5", "0.5"], "data.shares=(nan, 0.5, 0.5) must be"),
    "scale": (["train", QUICKSTART, "--views.scale", "3", "1"], "views.scale=(3.0, 1.0): choose two positive numbers"),
    "a table": (["train", str(Path(__file__).parent / "conftest.py")], "conftest.py must define `config`"),
}


@pytest.mark.parametrize("arguments, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ssljax(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_the_version(capsys):
    assert ssljax(["--version"]) == 0
    assert capsys.readouterr().out == f"ssljax {version('ssljax')}\n"


def test_an_unknown_option_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as exit_:
        ssljax(["train", QUICKSTART, "--method.temprature", "1"])
    assert exit_.value.code == 2
    assert "--method.temperature" in capsys.readouterr().err


def test_every_field_of_an_experiments_parts_is_an_option(capsys):
    with pytest.raises(SystemExit):
        ssljax(["train", QUICKSTART, "--help"])
    help_ = capsys.readouterr().out
    for part in ("data.listings", "views.size", "method.temperature", "method.encoder.depth", "optimizer.lr"):
        assert f"--{part} " in help_
    for part in ("evaluate.0.split", "evaluate.0.relevant", "index.metric"):
        assert f"--{part} " in help_
    assert "{fixed}" not in help_


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_help_without_a_file(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        ssljax([command, "--help"])
    assert exit_.value.code == 0
    assert f"usage: ssljax {command} FILE" in (help_ := capsys.readouterr().out)
    assert "--restart" in help_ and "experiments/" in help_


def cut(path: Path) -> None:
    """Leaves half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_keys(path: Path) -> None:
    """Leaves an empty object."""
    path.write_text("{}")


@pytest.fixture
def copy(run, tmp_path) -> Run:
    """A copy of the run, to be damaged."""
    shutil.copytree(run.path, tmp_path / "quickstart")
    return Run(tmp_path / "quickstart")


def junk(path: Path) -> None:
    """Replaces all figures."""
    path.write_text(json.dumps({"table": {"trained": {"test/cmc@1": "high"}, "raw pixels": {}}}))


CODE = "evaluate --trust-code"
DAMAGES = [
    ("train", "results.json", junk, "results.json is damaged (a figure of its table is not a number): delete it"),
    ("train", "results.json", cut, "delete it, and the same command writes it anew"),
    ("train", "results.json", without_keys, "results.json is damaged (it has no table)"),
    ("train", "config.json", cut, "config.json is damaged"),
    ("train", "config.json", Path.unlink, "config.json is missing, so the run cannot go on: put it back"),
    ("evaluate", "config.json", cut, "config.json is damaged"),
    ("evaluate", "config.json", without_keys, "config.json is damaged (it has no class and no name and no data"),
    ("evaluate", "config.json", Path.unlink, "is not a run folder, as it has no config.json"),
    (CODE, "options.json", cut, "options.json is damaged"),
    (CODE, "options.json", without_keys, "options.json is damaged (it has no arguments and no position)"),
    (CODE, "options.json", Path.unlink, "is not a run folder, as it has no options.json"),
    (CODE, "experiment.py", Path.unlink, "is not a run folder, as it has no experiment.py"),
    (CODE, "experiment.py", cut, "experiment.py cannot be run"),
    ("evaluate", "environment.json", Path.unlink, "the same `ssljax train` command writes it anew"),
    ("report", "results.json", cut, "`ssljax evaluate {run}` writes it anew"),
    ("report", "environment.json", cut, "the same `ssljax train` command writes it anew"),
    ("report", "embeddings/test.npz", Path.unlink, "write them with `ssljax evaluate RUN`"),
    ("search", "config.json", cut, "config.json is damaged"),
    ("search", "index/manifest.json", cut, "build the index anew with `ssljax evaluate {run}`"),
]


@pytest.mark.parametrize(
    "command, file, damage, sentence", DAMAGES, ids=[" ".join((*d[:2], d[2].__name__)) for d in DAMAGES]
)
def test_a_damaged_run_folder_is_one_sentence(command, file, damage, sentence, copy, capsys):
    damage(copy.path / file)
    sample = [str(min((copy.path / "samples").glob("*.png")))] if command == "search" else []
    code = train(copy.path.parent) if command == "train" else ssljax([*command.split(), str(copy.path), *sample])
    assert code == 2
    assert sentence.format(run=copy.path) in capsys.readouterr().err


def test_complete_is_said_last_and_what_is_missing_is_made(copy, capsys, monkeypatch):
    before = json.loads(copy.results.read_text())["table"]
    copy.results.unlink()
    copy.report.unlink()

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # while the report was written
        patch.setattr(cli_train, "EXPORTS", (killed,))
        with pytest.raises(KeyboardInterrupt):
            train(copy.path.parent)
    assert not copy.results.exists()
    assert train(copy.path.parent) == 0
    assert copy.report.exists() and json.loads(copy.results.read_text())["table"] == before
    assert '<th scope="col">raw pixels' in copy.report.read_text()  # the table of results
    for path in (copy.report, copy.embeddings("test"), copy.weights("student")):
        path.unlink()
    shutil.rmtree(copy.index)
    shutil.rmtree(copy.samples)
    capsys.readouterr()
    assert train(copy.path.parent) == 0
    assert f"{copy.report} is missing: what follows training is made anew" in capsys.readouterr().err
    assert not finish.missing(copy, experiment_of(copy))
    copy.report.unlink()
    shutil.rmtree(copy.checkpoints)
    assert train(copy.path.parent) == 0
    assert f"{copy.report} is missing, and there is no checkpoint to make it by" in capsys.readouterr().err


def test_results_that_were_deleted_are_written_anew_from_a_checkpoint_before_a_damaged_one(copy, capsys):
    before = json.loads(copy.results.read_text())
    copy.metrics.write_bytes(b"\xff{}\n[]\n{}\n" + copy.metrics.read_bytes())
    for path in (copy.checkpoints / str(STEPS)).rglob("*"):
        if path.is_file():
            cut(path)
    assert ssljax(["evaluate", str(copy.path)]) == 2
    assert f"of {STEPS}: delete {copy.results} and train it again" in capsys.readouterr().err
    copy.results.unlink()
    assert train(copy.path.parent) == 0
    assert f"{copy.checkpoints / str(STEPS)} cannot be read" in capsys.readouterr().err
    assert json.loads(copy.results.read_text())["table"] == before["table"]
    assert [line["step"] for line in logged(copy)] == list(range(1, STEPS + 1))


def test_search_for_what_is_no_photo(run, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("not a photo")
    assert ssljax(["search", str(run.path), str(tmp_path / "text.jpg")]) == 2
    assert "text.jpg cannot be read" in capsys.readouterr().err


CATALOGUE = """\
from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.evaluation import Retrieval
from ssljax.views import TwoCrops

config = Experiment(
    name="shop", data=Catalogue("{folder}/shop.csv", images="{{id}}.jpg", listing="listing"), photo_size=20,
    method=SimCLR(encoder=ResNet(depth=10, width=4), projector=MLP(hidden=(16,), out=8)),
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    epochs=2, batch_size=8, evaluate=(Retrieval(),))
"""


def shop(folder: Path, *, bad: int) -> list[str]:
    """A catalogue of 60 small JPEGs, `bad` of them truncated; gives the command that trains on it."""
    rng, rows = np.random.default_rng(0), ["id,listing,split"]
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (24, 18, 3), np.uint8)).save(folder / f"{i}.jpg")
        rows.append(f"{i},{i // 3},{'train' if i < 48 else 'test'}")
    for i in range(bad):
        data = (folder / f"{3 * i}.jpg").read_bytes()
        (folder / f"{3 * i}.jpg").write_bytes(data[: len(data) // 2])
    (folder / "shop.csv").write_text("\n".join(rows))
    (folder / "shop.py").write_text(CATALOGUE.format(folder=folder))
    return ["train", str(folder / "shop.py"), "--runs", str(folder / "runs")]


def test_a_catalogue_with_a_few_bad_photos(tmp_path):
    assert ssljax([*shop(tmp_path, bad=2), "--max-bad-share", "0.1"]) == 0
    listed = (tmp_path / "runs" / "shop" / "bad_inputs.csv").read_text().splitlines()
    assert len(listed) == 3 and all("truncated" in line for line in listed[1:])


def test_too_many_bad_photos_stop_the_run(tmp_path, capsys):
    assert ssljax(shop(tmp_path, bad=3)) == 2
    error = capsys.readouterr().err
    assert "of 48 photos cannot be read" in error and "bad_inputs.csv" in error


ROBUSTNESS = ["--strengths", "0.5", "1", "--items", "8"]
IN_ANOTHER_PROCESS = """
import sys
import ssljax.cli.robustness
from disturbances import Neighbour, Noise
from ssljax.cli.main import run

ssljax.cli.robustness.DISTURBANCES = (Noise(), Neighbour())
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def two_disturbances(monkeypatch):
    """Quick ones in place of those that shops know."""
    monkeypatch.setattr(ssljax_robustness, "DISTURBANCES", (Noise(), Neighbour()))


def test_robustness_is_the_same_to_the_last_digit_on_another_number_of_devices(copy, capsys, two_disturbances):
    command = ["robustness", str(copy.path), *ROBUSTNESS]
    assert ssljax(command) == 0
    printed = capsys.readouterr()
    assert all(name in printed.out for name in ("Noise", "Neighbour", "mean of these", "query", "gallery", "both"))
    assert "8 of 24 queries in 24 photos" in printed.err
    first, page = json.loads(copy.robustness().read_text()), copy.robustness().with_suffix(".html").read_text()
    assert {curve["way"] for curve in first["curves"]} == {"student", "teacher", "raw pixels"}
    assert len(first["curves"]) == 2 * 3 * 3 * 2  # disturbances, ways, sides, figures
    assert "by the student's embedding" in page and "CMC@1: the student's area" in printed.out
    assert all(0 <= value <= 1 for curve in first["curves"] for value in (curve["clean"], *curve["values"]))

    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, *command], check=True, env=environment)
    again = json.loads(copy.robustness().read_text())
    assert (first.pop("environment")["devices"], again.pop("environment")["devices"]) == (8, 1)
    assert again == first
    assert copy.robustness().with_suffix(".html").read_text() == page


def test_robustness_on_the_data_of_another_experiment(copy, tmp_path, two_disturbances, capsys):
    other = tmp_path / "other.py"
    other.write_text(
        "from ssljax.config import Experiment\n"
        "from ssljax.data import ToyCatalogue\n"
        "from ssljax.evaluation import Retrieval\n"
        "config = Experiment(name='shapes', data=ToyCatalogue(listings=96, photos=2, size=32),\n"
        "                    evaluate=(Retrieval(relevant='shape', gallery='val'),))\n"
    )
    options = [*ROBUSTNESS, "--sides", "query", "--network", "teacher", "--alone", "--kinds", "Noise"]
    assert ssljax(["robustness", str(copy.path), str(other), *options]) == 0
    assert "CMC@1: the teacher's area" in capsys.readouterr().out
    found = json.loads(copy.robustness("shapes").read_text())
    assert (found["data"], found["split"], found["gallery"], found["queries"]) == ("shapes", "test", "val", 8)
    measured = {(curve["way"], curve["side"], curve["disturbance"]) for curve in found["curves"]}
    assert measured == {(way, "query", "Noise") for way in ("teacher", "raw pixels")} and not copy.robustness().exists()


def test_robustness_tells_what_is_wrong(copy, tmp_path, capsys):
    def told(*arguments: str) -> str:
        assert ssljax(["robustness", *arguments]) == 2
        return capsys.readouterr().err

    run = str(copy.path)
    assert "strengths=(0.5, 2.0) must grow from above 0 to at most 1" in told(run, "--strengths", "0.5", "2")
    assert "items=1 is too small: it must be at least 2" in told(run, "--items", "1")
    assert "kinds=Watermarks is no disturbance: did you mean 'Watermark'?" in told(run, "--kinds", "Watermarks")
    assert "there is no experiment file" in told(run, str(tmp_path / "none.py"))
    assert "is not a run folder" in told(str(tmp_path / "nowhere"))
    (tmp_path / "classes.py").write_text(
        "from ssljax.config import Experiment\nfrom ssljax.evaluation import KNN\n"
        "config = Experiment(name='classes', evaluate=(KNN(),))\n"
    )
    assert "evaluate has no Retrieval" in told(run, str(tmp_path / "classes.py"))
    shutil.rmtree(copy.checkpoints / str(STEPS))
    assert f" of {STEPS}: delete" in told(run)
    shutil.rmtree(copy.checkpoints)
    assert "has no checkpoint yet: train it first" in told(run)
