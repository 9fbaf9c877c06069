"""An experiment imports from beside itself, whatever else has the same names, and its run keeps what it imported."""

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from ssljax.cli.main import run as ssljax
from ssljax.cli.shared import experiment_of
from ssljax.training.experiment_file import load_experiments
from ssljax.training.run_folder import Run

EXPERIMENT = """
import random
import colours
import shapes.round as r
from colours import *
from shapes import square
from shapes.round import CIRCLE
from .colours import RED as red
from ssljax.config import Experiment
from ssljax.data import ToyCatalogue

assert random.random() < 1 and r.CIRCLE == CIRCLE == square.CIRCLE and RED == red == colours.RED
config = Experiment(name="x", data=ToyCatalogue(seed=RED), epochs=CIRCLE)

class Shade:
    def depth(self):
        import later
        return later.DEPTH
"""
BESIDE = {
    "colours.py": "from numpy import int64\nRED = int(int64({red}))",
    "later.py": "from deeper import DEPTH",
    "deeper.py": "DEPTH = 7",
    "unused.py": "",
    "shapes/__init__.py": "from .square import SIDE",
    "shapes/round.py": "from ..colours import RED\nCIRCLE = RED + 1",
    "shapes/square.py": "SIDE = 4\nfrom shapes.round import CIRCLE",
    "shapes/never/imported.py": "",
    "random.py": "raise RuntimeError",
    "types.py": "raise RuntimeError",
    "numpy.py": "raise RuntimeError",
    "jax/__init__.py": "raise RuntimeError",
}
KEPT = {"colours.py", "later.py", "deeper.py", "shapes/__init__.py", "shapes/round.py", "shapes/square.py"}
KEPT |= {"shapes/never/imported.py"}


def experiment(folder: Path, red: int) -> Path:
    """The experiment, in a folder that is made, with a seed of `red`."""
    for name, text in BESIDE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(red=red))
    (folder / "my-experiment.v2.py").write_text(EXPERIMENT)
    return folder / "my-experiment.v2.py"


def modules() -> set[str]:
    """Names of what is imported, but for the modules of experiments."""
    return {name for name in sys.modules if not name.startswith("ssljax_experiment_")}


def read(path: Path):
    """The experiment of a file, and the module that it is."""
    config, _ = load_experiments(path)
    last = [name for name in sys.modules if name.startswith("ssljax_experiment_") and name.endswith(".__main__")][-1]
    return config, sys.modules[last]


def test_modules_and_packages_beside_the_file_and_none_that_others_own(tmp_path):
    before, path = modules(), list(sys.path)
    config, module = read(experiment(tmp_path, 3))
    assert (config.data.seed, config.epochs) == (3, 4)
    assert module.Shade().depth() == 7
    assert modules() == before and sys.path == path
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_experiments_have_each_their_own_modules(tmp_path):
    paths = [experiment(tmp_path / str(red), red) for red in (3, 5)]
    (tmp_path / "5" / "deeper.py").write_text("DEPTH = 8")
    (one, first), (other, second) = map(read, paths)
    assert (one.data.seed, other.data.seed) == (3, 5)
    assert (first.Shade().depth(), second.Shade().depth()) == (7, 8)


def test_a_module_that_changed_is_read_anew(tmp_path):
    assert read(experiment(tmp_path, 3))[0].data.seed == 3
    assert read(experiment(tmp_path, 5))[0].data.seed == 5


def test_a_link_to_the_file_finds_what_is_beside_either(tmp_path):
    original = experiment(tmp_path / "a", 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "deeper.py").rename(tmp_path / "b" / "deeper.py")
    (tmp_path / "b" / "link.py").symlink_to(original)
    config, module = read(tmp_path / "b" / "link.py")
    assert config.data.seed == 3 and module.Shade().depth() == 7


def test_a_run_keeps_what_its_experiment_imported_and_needs_the_original_no_more(tmp_path):
    source, run = experiment(tmp_path / "here", 3), Run(tmp_path / "runs" / "x")
    config, _ = load_experiments(source)
    options = {"arguments": [], "position": None}
    run.prepare(config, source, options, {}, restart=False)
    kept = run.path / "imported"
    assert {str(file.relative_to(kept)) for file in kept.rglob("*.py")} == KEPT
    (tmp_path / "here").rename(tmp_path / "gone")
    assert experiment_of(run, trust_code=True).data.seed == 3
    assert read(run.source)[1].Shade().depth() == 7
    # from the copy another run may begin, or the same go on; and the first command brings a new copy
    again, other = load_experiments(run.source)[0], Run(tmp_path / "runs" / "y")
    run.prepare(again, run.source, options, {}, restart=False)
    other.prepare(again, run.source, options, {}, restart=False)
    assert experiment_of(run, trust_code=True).data.seed == experiment_of(other, trust_code=True).data.seed == 3
    source = experiment(tmp_path / "here", 3)
    source.write_text(EXPERIMENT.replace("import later\n        return later.DEPTH", "return 7"))
    run.prepare(config, source, options, {}, restart=False)
    assert {str(file.relative_to(kept)) for file in kept.rglob("*.py")} == KEPT - {"later.py", "deeper.py"}


def test_worker_processes_read_what_is_defined_beside_the_file(tmp_path):
    _, module = read(experiment(tmp_path, 3))
    pickled = cloudpickle.dumps((module.Shade(), module.colours))
    program = "import sys, cloudpickle; s, c = cloudpickle.load(sys.stdin.buffer); print(type(s).__name__, c.RED)"
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, cwd="/", check=True)
    assert done.stdout.decode().split() == ["Shade", "3"]


def test_modules_of_the_working_directory_are_not_taken_for_pythons(tmp_path):
    (tmp_path / "random.py").write_text("raise RuntimeError")
    command = [sys.executable, "-m", "ssljax.cli", "report", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "nowhere is not a run folder" in done.stderr


MISTAKES = {
    "syntax": ("\nx = = 2", "e.py cannot be run: SyntaxError: invalid syntax (line 2 of {beside})"),
    "exception": ("1 / 0", "e.py cannot be run: ZeroDivisionError: division by zero (line 1 of {beside})"),
    "ours": ("from ssljax.optim import SGD\nSGD(lr=-1.0)", "e.py, line 2 of {beside}: optimizer.lr=-1.0 must be"),
    "nothing": ("", "e.py cannot be run: ImportError: cannot import name 'x' from 'beside' ({beside}) (line 1)"),
    "no module": ("import beside.y", "No module named 'beside.y'; 'beside' is not a package (line 1 of {beside})"),
}


@pytest.mark.parametrize("text, sentence", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_what_is_imported_are_said_with_file_and_line(text, sentence, tmp_path, capsys):
    (tmp_path / "e.py").write_text("from beside import x")
    (tmp_path / "beside.py").write_text(text)
    assert ssljax(["train", str(tmp_path / "e.py")]) == 2
    assert sentence.format(beside=tmp_path / "beside.py") in capsys.readouterr().err
