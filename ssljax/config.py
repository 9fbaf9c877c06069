"""An experiment: one frozen value that holds everything a training run needs, read from a Python file.

The file is executed: run only files that you trust. It defines `config`, an `Experiment`, and may define `sweep`, a
list of them. Every field, also of the values inside, is an option of `ssljax train FILE`.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

from ssljax.data import ToyCatalogue
from ssljax.methods import MoCo
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.retrieval import Retrieval, default_index
from ssljax.types import UserError
from ssljax.views import TwoCrops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is trained, on what, how long, and how it is judged."""

    name: str
    """Name of the run folder, runs/<name>."""
    data: Any = ToyCatalogue()
    """Where photos come from: Catalogue, Folder, TFDS, Arrays or ToyCatalogue."""
    views: Any = TwoCrops(size=64)
    """How the method's views are made of a photo, on the accelerator."""
    method: Any = MoCo(encoder=ResNet(norm_groups=8), shuffle=True)
    """What is learnt from the views."""
    optimizer: Any = SGD(lr=0.06, weight_decay=5e-4)
    """SGD, LARS, Adam or AdamW."""
    epochs: int = 200
    """Passes over the train split."""
    batch_size: int = 256
    """Photos a step, over all devices."""
    photo_size: int = 64
    """Side, in pixels, of the square to which photos are decoded (the aspect ratio is kept beside it)."""
    cache: Literal["device", "host"] | None = None
    """Keep all photos decoded on the device or on the host; None decodes them at every epoch."""
    threads: int = 8
    """Threads that read and decode."""
    workers: int = 0
    """Processes that read and decode; none by default: the decoders leave Python's lock, so threads go far."""
    max_bad_share: float = 0.01
    """Share of unreadable photos above which the run stops; below it they are skipped and listed."""
    shards: int = 1
    """Devices that hold the parts of one copy of the parameters (FSDP); 1 copies them to every device."""
    seed: int = 0
    """Decides the initial parameters, the order of the photos and every random view."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always has one."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    monitor: tuple[Any, ...] = ()
    """Evaluators run during training: choose on a validation split, `Retrieval(split="val")`."""
    monitor_every: int = 10
    """Epochs between them."""
    evaluate: tuple[Any, ...] = (Retrieval(),)
    """Evaluators run at the end, for the trained embedding, the untrained one, and raw pixels."""
    index: Any = default_index()
    """The index that `ssljax search` asks: ScaNN (on Linux) or Exact."""
    gallery: tuple[str, ...] = ("test",)
    """The splits that the index holds."""

    def __post_init__(self):
        smallest = dict(epochs=1, batch_size=1, photo_size=1, threads=1, workers=0, shards=1, log_every=1)
        for field, least in (smallest | {"checkpoint_every": 1, "monitor_every": 1}).items():
            if getattr(self, field) < least:
                raise UserError(f"{field}={getattr(self, field)} is too small: it must be at least {least}")
        if not 0 <= self.max_bad_share <= 1:
            raise UserError(f"max_bad_share={self.max_bad_share} is not a share: it must be between 0 and 1")
        if not self.gallery:
            raise UserError("gallery=() leaves the index empty: name at least one split")
        for field in ("evaluate", "monitor"):
            keys = [(type(e), e.split, e.name) for e in getattr(self, field)]
            if len(set(keys)) < len(keys):
                raise UserError(f"{field}: two evaluators of one split have the same name: give each its own `name`")
        if not self.name or self.name != Path(self.name).name or self.name.startswith("."):
            raise UserError(f"name={self.name!r} cannot name a folder: use letters, digits, '_', '-' and '.'")


def load_experiments(path: Path) -> tuple[Experiment, list[Experiment]]:
    """`config` and `sweep` of an experiment file; an absent sweep is empty, and an absent config its first.

    Raises UserError if there is no such file, or it defines neither.
    """
    if not path.is_file():
        raise UserError(f"there is no experiment file {path}")
    spec = importlib.util.spec_from_file_location("ssljax_experiment", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a class defined in the file must be found by its module's name
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    names = vars(module)
    sweep = list(names.get("sweep", []))
    config = names.get("config", sweep[0] if sweep else None)
    for experiment in [config, *sweep]:
        if not isinstance(experiment, Experiment):
            raise UserError(f"{path} must define `config`, an Experiment, or `sweep`, a list of them, not {experiment}")
    return config, sweep


def resolved(value: Any) -> Any:
    """`value` as plain JSON: a dataclass becomes its fields and, under "class", its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: resolved(getattr(value, f.name)) for f in settings(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, list | tuple):
        return [resolved(v) for v in value]
    if isinstance(value, dict):
        return {str(k): resolved(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", str(value))


def settings(value: Any) -> list[dataclasses.Field]:
    """The fields of a dataclass that configure it: not the two, parent and name, that every linen module has."""
    module = {"parent", "name"} if hasattr(value, "scope") else set()
    return [f for f in dataclasses.fields(value) if f.init and f.name not in module]


# What may change when a run goes on: how it is computed and looked at, not what is learnt.
FREE = ("cache", "threads", "workers", "max_bad_share", "shards", "checkpoint_every", "log_every")
FREE += ("monitor", "monitor_every", "evaluate", "index", "gallery")


def training(experiment: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved experiment that decides what is learnt."""
    return {name: value for name, value in experiment.items() if name not in FREE}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Sentences such as "optimizer.lr is 0.06 there and 0.1 here", of two resolved values."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("class") == new.get("class"):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else k)]
    return [] if old == new else [f"{path} is {_short(old)} there and {_short(new)} here"]


def _short(value: Any) -> str:
    return value["class"] if isinstance(value, dict) and "class" in value else repr(value)
