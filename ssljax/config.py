"""An experiment: one frozen value that holds everything a training run needs, read from a Python file.

The file is executed, and so is what it imports from beside it: run only files that you trust. It defines `config`, an
`Experiment`, and may define `sweep`, a list of them. Every field, also of the values inside, is an option of `ssljax
train FILE`.
"""

import dataclasses
import os
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any, Literal

from ssljax.data import Photos, ToyCatalogue
from ssljax.data.text import did_you_mean, nearest
from ssljax.evaluation import Retrieval
from ssljax.methods import MoCo
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.search import Builder, default_index
from ssljax.training.experiment_file import place, plain_names, run_file
from ssljax.types import (
    Evaluator,
    Method,
    Optimizer,
    Precision,
    Sampler,
    Source,
    UserError,
    Views,
    check_fields,
    settings,
    short,
)
from ssljax.views import TwoCrops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is trained, on what, how long, and how it is judged."""

    name: str
    """Name of the run folder, runs/<name>."""
    data: Source = ToyCatalogue()
    """Where photos come from: Catalogue, Folder, TFDS, Arrays, ToyCatalogue, Grocery, several of them in a Concat, or
    one with FewLabels."""
    sampler: Sampler = Photos()
    """What batches are made of: Photos, Listings with two photos of each, for views with `natural`, Classes with some
    photos of each, or Triplets of attributes."""
    views: Views = TwoCrops(size=64)
    """How the method's views are made of a photo, on the accelerator."""
    method: Method = MoCo(encoder=ResNet(norm_groups=8), shuffle=True)
    """What is learnt from the views."""
    optimizer: Optimizer = SGD(lr=0.06, weight_decay=5e-4)
    """SGD, LARS, Adam or AdamW."""
    epochs: int = 200
    """Passes over the train split."""
    batch_size: int = 256
    """Photos (or listings, or triplets) a step, over all devices."""
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
    precision: Precision = "float32"
    """Of the networks in training, where their `dtype` is float32: float32 is that on every machine; tensorfloat32 and
    bfloat16 are faster on GPUs and TPUs, and coarser. Views and losses are float32 in any case."""
    evaluation_precision: Precision = "float32"
    """The same where photos are embedded to be evaluated, indexed or searched; what follows is float32 in any case."""
    shards: int = 1
    """Devices that hold the parts of one copy of the parameters (FSDP); 1 copies them to every device."""
    seed: int = 0
    """Decides the initial parameters, the order of the photos and every random view."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always has one."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    monitor: tuple[Evaluator, ...] = ()
    """Evaluators run during training: choose on a validation split, `Retrieval(split="val")`. A teacher's figures are
    logged under `teacher/`."""
    monitor_every: int = 10
    """Epochs between them."""
    evaluate: tuple[Evaluator, ...] = (Retrieval(),)
    """Evaluators run at the end, for the trained embedding, the teacher's if there is one, the untrained one, and raw
    pixels."""
    index: Builder = default_index()
    """The index that `ssljax search` asks: ScaNN (on Linux) or Exact."""
    gallery: tuple[str, ...] = ("test",)
    """The splits that the index holds."""

    def __post_init__(self):
        check_fields(self)
        for field, (what, needed) in PARTS.items():
            _check_part(field, getattr(self, field), what, needed)
        for field in ("evaluate", "monitor"):
            for k, evaluator in enumerate(getattr(self, field)):
                _check_part(f"{field}.{k}", evaluator, *EVALUATOR)
        smallest = dict(epochs=1, batch_size=1, photo_size=1, threads=1, workers=0, shards=1, seed=0, log_every=1)
        for field, least in (smallest | {"checkpoint_every": 1, "monitor_every": 1}).items():
            if getattr(self, field) < least:
                raise UserError(f"{field}={getattr(self, field)} is too small: it must be at least {least}")
        if not 0 <= self.max_bad_share <= 1:
            raise UserError(f"max_bad_share={self.max_bad_share} is not a share: it must be between 0 and 1")
        if self.seed >= 2**32:
            raise UserError(f"seed={self.seed} is too large: it must be below {2**32}")
        if not self.gallery:
            raise UserError("gallery=() leaves the index empty: name at least one split")
        if len(set(self.gallery)) < len(self.gallery):
            raise UserError(f"gallery={self.gallery} names a split twice: name each once")
        for field in ("evaluate", "monitor"):
            keys = [(type(e), e.split, e.name) for e in getattr(self, field)]
            if len(set(keys)) < len(keys):
                raise UserError(f"{field}: two evaluators of one split have the same name: give each its own `name`")
        plain = self.name == Path(self.name).name and self.name.isprintable() and self.name[:1] not in ("", ".")
        if not plain or len(self.name.encode()) > 255:
            raise UserError(f"name={short(self.name)} cannot name a folder: use letters, digits, '_', '-' and '.'")

    @property
    def retrieval(self) -> Retrieval | None:
        """The first Retrieval of `evaluate`, which the pages show; None if there is none."""
        return next((e for e in self.evaluate if isinstance(e, Retrieval)), None)


# What the parts of an experiment must have, and what is one.
PARTS = {
    "data": ("a source of photos, such as ToyCatalogue()", ("load",)),
    "sampler": ("a sampler, such as Photos()", ("over",)),
    "views": ("views, such as TwoCrops(size=64)", ("__call__", "evaluation")),
    "method": ("a method, such as MoCo()", ("init", "loss", "after_update", "embed")),
    "optimizer": ("an optimizer, such as SGD(lr=0.06)", ("build", "learning_rate")),
    "index": ("an index, such as Exact()", ("build",)),
}
EVALUATOR = ("an evaluator, such as Retrieval()", ("__call__", "check", "split", "name"))


def _check_part(field: str, value: Any, what: str, needed: tuple[str, ...]) -> None:
    if missing := [name for name in needed if not hasattr(value, name)]:
        raise UserError(f"{field}={short(value)} must be {what}, but has no {' and no '.join(missing)}")


def load_experiments(path: Path) -> tuple[Experiment, list[Experiment]]:
    """`config` and `sweep` of an experiment file; an absent sweep is empty, and an absent config its first.

    Raises UserError if there is no such file, it cannot be run, or it defines neither.
    """
    if not os.path.isfile(path):
        raise UserError(f"there is no experiment file {path}")
    if path.suffix != ".py":
        raise UserError(f"{path} is not an experiment: it must be a Python file, such as {path.stem}.py")
    try:
        module = run_file(path)
    except UserError as error:
        raise UserError(f"{path}{_line(error, path, ', line {}')}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever the file does wrong
        if said := _wrong_field(error):
            raise UserError(f"{path}{_line(error, path, ', line {}')}: {said}") from error
        message = error.msg if isinstance(error, SyntaxError) else plain_names(str(error))
        line = _line(error, path, " (line {})")
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {message}{_meant(error)}{line}") from error
    names = vars(module)
    sweep = names.get("sweep", [])
    if not isinstance(sweep, list | tuple):
        raise UserError(f"{path}: sweep={short(sweep)} must be a list of experiments")
    config: Any = names.get("config", sweep[0] if sweep else None)
    for name, value in {"config": config, **{f"sweep[{k}]": e for k, e in enumerate(sweep)}}.items():
        if not isinstance(value, Experiment):
            there = f"{name}={short(value)} is none" if value is not None else "it has neither"
            raise UserError(f"{path} must define `config`, an Experiment, or `sweep`, a list of them: {there}")
    return config, list(sweep)


def _line(error: BaseException, path: Path, form: str) -> str:
    """The last line that was reached of the file, or of a file that it imports, in `form`; nothing if none was."""
    if (there := place(error)) is None:
        return ""
    file, line = there
    return form.format(line if file == str(path.absolute()) else f"{line} of {file}")


def _wrong_field(error: BaseException) -> str | None:
    """What to say of a field that a class of ours, or of the user's, does not have; None for any other error."""
    found = re.match(r"([\w.]+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not isinstance(error, TypeError) or not found:
        return None
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("ssljax")]
    for kind in (getattr(module, found[1], None) for module in modules):
        if dataclasses.is_dataclass(kind):
            return f"{found[1]} has no field {found[2]!r}{did_you_mean(found[2], [f.name for f in settings(kind)])}"
    return None


def _meant(error: BaseException) -> str:
    """The end of a sentence about a name that a module of ours does not have: the one that was meant, perhaps."""
    found = re.match(
        r"cannot import name '(\w+)' from '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'", str(error)
    )
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("ssljax."):
        module, name = "ssljax", str(error.name).split(".")[1]
        names = [m.name for m in pkgutil.iter_modules(sys.modules[module].__path__)]
    elif isinstance(error, ImportError | AttributeError) and found:
        module, name = found[2] or found[3], found[1] or found[4]
        names = getattr(sys.modules.get(module), "__all__", [])
    else:
        return ""
    meant = nearest(name, names)
    return f": did you mean {meant!r}?" if meant else ""


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


# What may change when a run goes on: how it is computed and looked at, not what is learnt.
FREE = ("cache", "threads", "workers", "max_bad_share", "shards", "checkpoint_every", "log_every")
FREE += ("evaluation_precision", "monitor", "monitor_every", "evaluate", "index", "gallery")


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
