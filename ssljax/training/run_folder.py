"""The run folder, runs/<name>/: what is in it, and when a run may go on in it.

config.json       the experiment, every field      checkpoints/    the last training states
experiment.py     the file it came from            embeddings/     one file a split
imported/         modules beside that file         index/          what `ssljax search` asks
options.json      the options given beside it      samples/        some photos of the gallery, to search with
environment.json  versions, commit, devices        results.json    the final figures
data.json         shapes of a training batch       report.html     the page to look at
metrics.jsonl     one line a logged step           weights/        the final parameters, for others to start from
tensorboard/      the same for TensorBoard         robustness.*    what `ssljax robustness` found: figures and a page
bad_inputs*.csv   photos that could not be read      evaluation-*.json  what `ssljax evaluate RUN DATA` found
card.md           the model card, and export/ what `ssljax export` wrote
tokenizer.json    what the tokenizer of titles learnt, if it learns
lock              held by who trains here              refreshed/        what the sampler goes by
checkpoints.json  where else the checkpoints lie, with a copy of config.json beside them

Of several processes the first writes all this; the others write their own metrics and bad inputs in process1/ and on.
They need not see the first one's folder if the checkpoints lie elsewhere.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
from etils import epath

from ssljax.config import Experiment, differences, resolved, training
from ssljax.data.atomic_files import CLAIM, claimed, read_json, read_text, write_json, write_text
from ssljax.sharding import any_says, is_first_process
from ssljax.training.experiment_file import IMPORTED, copy_file
from ssljax.training.logging import console
from ssljax.types import UserError

SEEN_WITHIN = 30  # seconds

T = TypeVar("T")


def _file(name: str) -> Any:
    """The path of that name in the run folder."""
    return property(lambda run: run.path / name)


def _own(name: str) -> Any:
    """The path of that name in the folder of this process."""
    return property(lambda run: run.own / name)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder by its path, and the paths of what lies in it, as the module describes them."""

    path: Path
    checkpoints_in: str | None = None
    """a folder, or gs://..., for the checkpoints of this and other runs; None if they are where they were before, by
    default in the run folder"""

    config = _file("config.json")
    source = _file("experiment.py")
    options = _file("options.json")
    environment = _file("environment.json")
    data = _file("data.json")
    tokenizer = _file("tokenizer.json")
    elsewhere = _file("checkpoints.json")
    index = _file("index")
    samples = _file("samples")
    results = _file("results.json")
    report = _file("report.html")
    card = _file("card.md")
    metrics = _own("metrics.jsonl")
    tensorboard = _own("tensorboard")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, which may be in a bucket."""
        folder = self.checkpoints_in
        if folder is None and self.elsewhere.exists():
            folder = str(read_json(self.elsewhere, "put it back, or name --checkpoints", "folder")["folder"])
        return self.path / "checkpoints" if folder is None else _folder_or_bucket(folder) / self.path.name

    @property
    def learnt(self) -> str | None:
        """What the tokenizer of titles learnt; None if it does not learn, or the run has not begun.

        Raises UserError if the file cannot be read, or is not the one that the run was trained with.
        """
        if not self.data.exists():
            return None
        remedy = "put the file back, or train the run anew"
        wanted = read_json(self.data, remedy).get("tokenizer")
        if wanted is None:
            return None
        try:
            learnt = read_text(self.tokenizer)
        except OSError as error:
            raise UserError(f"{self.tokenizer} cannot be read ({error.strerror}): {remedy}") from None
        if checksum(learnt) != wanted:
            raise UserError(f"{self.tokenizer} is not the one that the run was trained with: {remedy}")
        return learnt

    @property
    def own(self) -> Path:
        """Where this process writes what each writes for itself: the first one in the run folder."""
        index = jax.process_index()
        return self.path / f"process{index}" if index else self.path

    def bad_inputs(self, data: str = "") -> Path:
        """The list of photos that cannot be read, of the run's own data or of the data of that name."""
        return self.own / (f"bad_inputs-{data}.csv" if data else "bad_inputs.csv")

    def robustness(self, data: str = "") -> Path:
        """The figures of disturbed photos, of the same data; the page is the same as .html."""
        return self.path / (f"robustness-{data}.json" if data else "robustness.json")

    def evaluation(self, data: str) -> Path:
        """The figures on the data of that name."""
        return self.path / f"evaluation-{data}.json"

    def weights(self, network: str) -> Path:
        """The parameters of the student or of the teacher."""
        return self.path / "weights" / f"{network}.safetensors"

    def embeddings(self, split: str) -> Path:
        """The embeddings of a split."""
        return self.path / "embeddings" / f"{split}.npz"

    def refreshed(self, step: int) -> Path:
        """What the sampler uses from a step on, until the next refresh."""
        return self.path / "refreshed" / f"{step}.npy"

    def prepare(
        self,
        experiment: Experiment,
        source: Path | None,
        options: dict[str, Any],
        data: dict[str, Any],
        learnt: str = "",
        *,
        restart: bool,
    ) -> None:
        """Makes the folder, or checks that the one there is of the same experiment; `restart` empties it first.

        Args:
            experiment: what is trained.
            source: the file that it came from, to be copied; None if it came from none.
            options: the command line and the position in the sweep.
            data: what `Setup.data` has.
            learnt: what the tokenizer of titles learnt; empty if there is nothing.
            restart: whether to delete what is there.

        Raises:
            UserError: the folder is of another experiment, which differs as it says, or cannot be made or written.
        """
        self.by_first(lambda: self._prepare(experiment, source, options, data, learnt, restart))
        self.by_each(self._prepare_own)

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Locks the folder for this training; raises UserError if another one holds it."""
        with contextlib.ExitStack() as claims:
            self.by_first(lambda: claims.enter_context(claimed(self.path)))
            yield

    def by_first(self, act: Callable[[], object]) -> None:
        """Calls `act` in the first process while the others wait; all raise UserError if it fails."""
        self.by_each(act if is_first_process() else lambda: None)

    def by_each(self, act: Callable[[], T]) -> T:
        """Calls `act` in every process and returns its result; all raise UserError if it fails in one."""
        given, refused = None, None
        try:
            given = act()
        except UserError as error:
            refused = error
        except OSError as error:
            refused = UserError(
                f"the run folder {self.path} cannot be written ({error.strerror or error}): "
                f"choose another {'--runs, --checkpoints' if self.checkpoints_in else '--runs'} or --name"
            )
        said = any_says(None if refused is None else str(refused))
        if said is not None:
            raise refused or UserError(said)
        return given  # pyright: ignore[reportReturnType] `act` returned it, or some process refused

    def _prepare(
        self,
        experiment: Experiment,
        source: Path | None,
        options: dict[str, Any],
        data: dict[str, Any],
        learnt: str,
        restart: bool,
    ) -> None:
        if restart and self.path.exists() and not self.config.is_file():
            raise UserError(f"{self.path} is not a run folder, so --restart leaves it alone: choose another --name")
        checkpoints = self.checkpoints
        self.path.mkdir(parents=True, exist_ok=True)
        copy = checkpoints / self.config.name  # by which a run goes on if its folder was lost with the machine
        apart = checkpoints.parent != self.path
        with claimed(self.path), _reaching(checkpoints):  # not while another process trains in it
            if apart and not self.config.exists() and copy.exists():
                write_text(self.config, copy.read_text())
            if restart and self.config.is_file():
                self._empty(source)
                if apart and checkpoints.exists():
                    epath.Path(checkpoints).rmtree()
            self._fill(experiment, source, options, data, learnt)
            if apart:
                checkpoints.mkdir(parents=True, exist_ok=True)
                copy.write_text(self.config.read_text())

    def _prepare_own(self) -> None:
        """Makes the folder of this process; raises UserError if it does not see that of the first one but must."""
        if self.checkpoints_in is None and not is_first_process():
            for _ in range(SEEN_WITHIN):  # a network's disk may take a while to show it
                if self.config.exists():
                    break
                time.sleep(1)
            else:
                raise UserError(
                    f"distributed: the first process has made {self.path.absolute()}, which process "
                    f"{jax.process_index()} does not see: give --runs on a disk that all share, or --checkpoints there "
                    "or in a bucket (gs://...)"
                )
        self.own.mkdir(parents=True, exist_ok=True)

    def _empty(self, source: Path | None) -> None:
        """Deletes the run, except the lock, which is held, and `source` if it is the run's own copy."""
        kept = {self.path / CLAIM, self.elsewhere}
        if source is not None and self.source.exists() and self.source.samefile(source):
            kept |= {self.source, self.path / IMPORTED}
        # the results first, without which it is not complete, and last the configuration, without which it is no run
        for path in sorted(self.path.iterdir(), key=lambda path: (path == self.config, path != self.results)):
            if path in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _fill(
        self, experiment: Experiment, source: Path | None, options: dict[str, Any], data: dict[str, Any], learnt: str
    ) -> None:
        if self.config.exists():
            before_in = Run(self.path).checkpoints
            if before_in != self.checkpoints and before_in.exists():
                raise UserError(
                    f"{self.path} has its checkpoints in {before_in}, not in {self.checkpoints}: leave --checkpoints "
                    "as it was, or --restart to delete the run"
                )
            remedy = "put it back, choose another --name, or --restart to delete the run"
            missing = {"precision": experiment.precision}  # runs of before there was one do not say theirs
            before: dict[str, Any] = missing | read_json(self.config, remedy, "epochs")
            changed = differences(training(before), training(resolved(experiment)) | {"epochs": before["epochs"]})
            if changed:
                raise UserError(
                    f"{self.path} holds a run of another configuration ({'; '.join(changed[:3])}): "
                    "choose another --name, or --restart to delete it"
                )
            self._prolong(before["epochs"], experiment.epochs)
        elif self.checkpoints.exists() or self.results.exists():
            raise UserError(f"{self.config} is missing, so the run cannot go on: put it back, or choose another --name")
        if source is not None:
            copy_file(source, self.source)
        write_json(self.options, options)
        write_json(self.environment, environment())
        write_json(self.data, data)
        if learnt:
            write_text(self.tokenizer, learnt)
        if self.checkpoints_in is not None:
            write_json(self.elsewhere, {"folder": str(self.checkpoints.parent)})
        write_json(self.config, resolved(experiment))  # last: a folder with it is complete

    def _prolong(self, before: int, epochs: int) -> None:
        """Makes a run of `before` epochs, complete or not, one of `epochs`; raises UserError if those are fewer."""
        if epochs < before:
            raise UserError(
                f"{self.path} holds a run of {before} epochs, and epochs={epochs} is fewer: a run only goes on longer; "
                f"choose epochs={before} or more, another --name, or --restart to delete it"
            )
        if epochs > before:
            self.results.unlink(missing_ok=True)  # they are of the shorter run
            console.print(
                f"{self.path} goes on to {epochs} epochs instead of {before}: from here on the learning rate, and all "
                "else that follows a schedule, is that of the longer training."
            )


def checksum(text: str) -> str:
    """Of a text, by which data.json knows the tokenizer."""
    return hashlib.sha256(text.encode()).hexdigest()


def _folder_or_bucket(name: str) -> Path:
    """A folder by its name; raises UserError if it is neither on a disk nor a bucket that can be reached from here."""
    if "://" not in name:
        return Path(name).absolute()
    if not name.startswith("gs://"):
        raise UserError(f"checkpoints={name} is no place for them: choose a folder, or a bucket as gs://BUCKET/FOLDER")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"checkpoints={name} is on Cloud Storage: install its clients by pip install 'ssljax[gcs]'")
    return cast(Path, epath.Path(name))  # pathlib would make one slash of two


def by_bucket(error: Exception) -> bool:
    """Whether the clients of Cloud Storage raised this error."""
    return type(error).__module__.partition(".")[0] in ("aiohttp", "gcsfs", "google")


@contextlib.contextmanager
def _reaching(folder: Path) -> Iterator[None]:
    """Turns what the clients of Cloud Storage raise into a UserError."""
    try:
        yield
    except Exception as error:
        if not by_bucket(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{folder} cannot be read or written ({reason}): check the bucket's name, and that this machine may use it"
        ) from error


def environment() -> dict[str, Any]:
    """Versions, git commit, host and devices, for the record."""
    packages = ("ssljax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scann")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": versions,
        "commit": git_commit(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def git_commit() -> str | None:
    """The commit of the project's checkout, with "+changes" if files differ from it; None outside a checkout.

    Records of runs are no change: a sweep writes one after each run.
    """
    here = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here:
            return None  # installed inside somebody else's repository
        changes = git("status", "--porcelain", "-uno", "--", ".", ":!results/*.json")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
