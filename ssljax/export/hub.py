"""Runs on the Hugging Face hub: `ssljax push RUN hf://user/name` puts one there, `ssljax.load` gets it.

What is pushed embeds photos, and others can start from it: the configuration, the newest checkpoint, the weights and
the figures. Photos, embeddings, logs and the experiment's Python stay here, and so do paths of this machine.
`ssljax.json` has the checksums of all files: a download is checked by it before it is read, and nothing is executed.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from ssljax.config import NotPublic, from_json
from ssljax.data.atomic_files import checksum, checksums, first_damaged, read_json, write_json, write_text
from ssljax.evaluation import Embeddings
from ssljax.evaluation.restore import NETWORK_ALONE, read_experiment
from ssljax.models.weights.location import HUB, Address, huggingface_hub
from ssljax.search import save_collection
from ssljax.training.checkpoint import CHECKSUMS
from ssljax.training.run_folder import Run
from ssljax.types import UserError

MANIFEST = "ssljax.json"
CARD = "README.md"
GENERATED = "<!-- `ssljax push` replaces this page: delete this line to keep your own words. -->"
COMMITTED = "commit_success.txt"  # Orbax's notes, which only Cloud Storage needs, and which name the folder
PUSHED = re.compile(
    r"(config|data|results)\.json|README\.md|(weights|checkpoints/\d+|index)(/(?!\.)[\w.-]+)+", re.ASCII
)
"""The files of a pushed run: nothing that would be executed, and no name that leads out of the folder."""


def local(run: str) -> Path:
    """The path of a run folder; one on the hub is downloaded. Raises UserError as `download` does."""
    return download(Address.parse(run)) if run.startswith(HUB) else Path(run)


def download(address: Address) -> Path:
    """Downloads a run into huggingface_hub's cache, checks its files, and returns the run folder.

    Raises:
        UserError: there is no such run, you may not read it, the hub cannot be reached and the cache has no copy, or a
            file is not the one that was pushed.
    """
    hub = huggingface_hub()
    with _explained(address, "read"):
        folder = Path(hub.hf_hub_download(address.repo, MANIFEST, revision=address.revision)).parent
    foreign = UserError(f"{address} is not a run that this version of ssljax can load: push it again by `ssljax push`")
    files = read_json(folder / MANIFEST, "push the run again", "files")["files"]
    if not isinstance(files, dict) or not all(PUSHED.fullmatch(name) for name in files):
        raise foreign
    with _explained(address, "read"):  # the name of the folder is the commit
        hub.snapshot_download(address.repo, revision=folder.name, allow_patterns=list(files))
    if (damaged := first_damaged(folder, files)) is not None:
        raise UserError(
            f"{address}: {damaged.relative_to(folder)} is missing, or is not the file that was pushed: delete "
            f"{folder.parent.parent} and load it again, and if that fails, push it again"
        )
    if Run(folder).elsewhere.exists():  # it names another place for the checkpoints, which nobody checked
        raise foreign
    return folder


def contents(run: Run, address: Address, folder: Path, *, index: bool = False) -> dict[str, Path]:
    """The files to push of a run, name → path. What differs from the run's own files is written into a folder.

    Args:
        run: a complete run.
        address: where it goes.
        folder: an empty folder.
        index: whether to push an index of the gallery: vectors, with the ids and columns of the catalogue.

    Raises:
        UserError: the run is not complete, its checkpoint is damaged or in a bucket, or it needs classes of the user's
            own, which others do not have.
    """
    if not run.results.exists():
        raise UserError(f"{run.path} is not a complete run: train it to the end first")
    remedy = "train the run again"
    try:
        from_json({n: part for n, part in read_json(run.config, remedy).items() if n not in NETWORK_ALONE})
    except NotPublic as error:
        raise UserError(
            f"{run.config} names {error}, which others do not have: only a run of ssljax's own classes can be pushed"
        ) from None
    for file in (run.config, run.data, run.results):
        write_json(folder / file.name, _without_places(read_json(file, remedy)))
    step = _newest(run.checkpoints)
    if (step / CHECKSUMS).exists():
        known = read_json(step / CHECKSUMS, remedy, "files")
        if (damaged := first_damaged(step, known["files"])) is not None:
            raise UserError(f"{damaged} is missing or damaged: put back a copy of it, or {remedy}")
        kept = {name: expected for name, expected in known["files"].items() if Path(name).name != COMMITTED}
        write_json(folder / "checkpoints" / step.name / CHECKSUMS, known | {"files": kept})
    if index:
        experiment = read_experiment(run, NETWORK_ALONE)
        gallery = Embeddings.joined([Embeddings.load(run.embeddings(split)) for split in experiment.gallery])
        origin = gallery.origin and dataclasses.replace(gallery.origin, run=str(address))
        gallery = dataclasses.replace(gallery, photos=None, origin=origin)
        save_collection(folder / "index", experiment.index, gallery)
    if run.card.exists() and not (run.path / CARD).exists():
        card = re.sub(r'ssljax\.load\(".*"', f'ssljax.load("{address}"', _card_without_places(run.card.read_text()))
        write_text(folder / CARD, f"{card}\n{GENERATED}\n")
    own = [run.path / CARD, *(run.path / "weights").glob("*.safetensors")]
    files = {path.relative_to(run.path).as_posix(): path for path in own if path.exists()}
    files |= {
        f"checkpoints/{step.name}/{name}": step / name for name in checksums(step) if Path(name).name != COMMITTED
    }
    files |= {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files.pop("index/lock", None)
    checked = {name: checksum(path) for name, path in files.items() if name != CARD}  # the card is edited on the hub
    write_json(folder / MANIFEST, {"schema": 1, "files": checked})
    return files | {MANIFEST: folder / MANIFEST}


def push(files: dict[str, Path], address: Address, *, private: bool = False) -> str:
    """Pushes `contents` as one commit, which replaces the run that was there, and returns the commit's URL.

    Raises UserError if you may not write there or the hub cannot be reached; the repository then stays as it was.
    """
    hub = huggingface_hub()
    with _explained(address, "written"):
        api = hub.HfApi()
        api.create_repo(address.repo, private=private or None, exist_ok=True)
        before = [name for name in api.list_repo_files(address.repo) if PUSHED.fullmatch(name)]
        generated = CARD in files and GENERATED in files[CARD].read_text()
        if generated and CARD in before and GENERATED not in Path(hub.hf_hub_download(address.repo, CARD)).read_text():
            files = {name: path for name, path in files.items() if name != CARD}  # somebody's own words stay
        operations = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        operations += [hub.CommitOperationDelete(name) for name in before if name not in files and name != CARD]
        commit = api.create_commit(address.repo, operations, commit_message="A run of ssljax")
    return str(commit.commit_url)


def _newest(checkpoints: Path) -> Path:
    """The folder of the newest checkpoint."""
    if "://" in str(checkpoints):
        raise UserError(f"{checkpoints} is in a bucket: copy it to checkpoints in the run folder first")
    steps = [path for path in checkpoints.glob("*") if path.name.isdecimal()]
    if not steps:
        raise UserError(f"{checkpoints} holds no checkpoint: train the run again")
    return max(steps, key=lambda path: int(path.name))


def _without_places(value: Any) -> Any:
    """JSON with paths of this machine, and URLs of files and buckets, cut to their last part."""
    if isinstance(value, dict):
        return {name: _without_places(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_places(part) for part in value]
    if not isinstance(value, str):
        return value
    path, url = PureWindowsPath(value), re.match(r"\w+://", value)
    elsewhere = path.is_absolute() or ".." in path.parts or (url and url[0] not in (HUB, "http://", "https://"))
    return path.name or value if value.startswith(("/", "~")) or elsewhere else value


def _card_without_places(card: str) -> str:
    """A model card, with the quoted paths cut in the same way."""
    return re.sub(r"""(["'`])([^"'`\n]*[/\\].*?)\1""", lambda m: f"{m[1]}{_without_places(m[2])}{m[1]}", card)


@contextlib.contextmanager
def _explained(address: Address, done: str) -> Iterator[None]:
    """Turns errors of huggingface_hub, and of the HTTP libraries below it, into a UserError."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise UserError(f"{address} does not exist: {address.repo} has no revision {address.revision}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{address} cannot be {done}: there is no such repository, or it is private: `hf auth login` gives access"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(
            f"{address} is not a run of ssljax, as it has no {MANIFEST}: `ssljax push` writes one"
        ) from None
    except Exception as error:
        cause = error.__cause__ or error  # huggingface_hub says that its cache has no copy, because of the cause
        if getattr(getattr(cause, "response", None), "status_code", None) in (401, 403):
            raise UserError(f"{address} may not be {done} with your token: `hf auth login` sets another") from None
        why = next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
        raise UserError(f"{address} cannot be {done} ({why}): check the network, and try again") from None
