"""An experiment: one frozen value that holds everything a training run needs, and that value as JSON.

Every field, also of the values inside, is an option of `ssljax train FILE`.
"""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssljax import data, evaluation, methods, models, optim, schedules, search, views
from ssljax.data import Photos, Titles, ToyCatalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import MoCo
from ssljax.models import Preprocessing, ResNet, preprocessing_of
from ssljax.optim import SGD
from ssljax.search import Builder, default_index
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
    one with FewLabels or NoisyTitles."""
    sampler: Sampler = Photos()
    """What batches are made of: Photos, Listings with two photos of each, for views with `natural`, Classes with some
    photos of each, or Triplets of attributes."""
    views: Views = TwoCrops(size=64)
    """How the method's views are made of a photo, on the accelerator."""
    titles: Titles | None = None
    """How titles become token ids, which `views=PhotoAndTitle(...)` puts beside the photos; None for photos alone."""
    method: Method = MoCo(encoder=ResNet(norm_groups=8), shuffle=True)
    """What is learnt from the views."""
    optimizer: Optimizer = SGD(lr=0.06, weight_decay=5e-4)
    """SGD, LARS, Adam or AdamW."""
    epochs: int = 200
    """Passes over the train split; 0 evaluates, embeds and indexes by the network as it starts, such as an imported
    one."""
    batch_size: int = 256
    """Photos (or listings, or triplets) a step, over all devices."""
    accumulate: int = 1
    """Parts of each device's photos that the networks see one after the other, with the memory of one part and one more
    forward pass. Losses are those of the whole batch; BatchNorm normalises each part by itself, and that of a
    module of one's own (flax's nn.BatchNorm) each part of a device."""
    steps_per_dispatch: int = 1
    """Steps that the devices take at a time, without waiting for Python: more is faster where a step takes a
    millisecond or two, as of small networks with cache="device". Figures and checkpoints stay those of single steps;
    Ctrl-C stops after the last of them."""
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
    """Evaluators run at the end, for the trained embedding, the teacher's if there is one, and the baselines."""
    baselines: bool = True
    """Evaluate the network as it starts, untrained or imported, and raw pixels too."""
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
        smallest = dict(
            epochs=0,
            batch_size=1,
            accumulate=1,
            steps_per_dispatch=1,
            photo_size=1,
            threads=1,
            workers=0,
            shards=1,
            seed=0,
            log_every=1,
        )
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
    def normalised_views(self) -> Views:
        """`views` with the mean and the standard deviation that suit the encoder, where they have none themselves."""
        suited = getattr(self.views, "suited_to", None)
        return suited(preprocessing_of(getattr(self.method, "encoder", None))) if suited else self.views

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How a photo that is embedded is prepared; None if `views` are of another's class, which does not say."""
        return getattr(self.normalised_views, "preprocessing", None)

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


def resolved(value: Any) -> Any:
    """`value` as plain JSON, of which `from_json` makes it again.

    A dataclass becomes its fields and, under "class", its name. A value of another kind, such as a function, becomes
    its name alone, and so cannot be made again.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [resolved(v) for v in value]
    if isinstance(value, Experiment):
        value = dataclasses.replace(value, views=value.normalised_views)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        own = kind.__name__ in public_classes() and public_classes()[kind.__name__] is not kind
        fields = {f.name: resolved(getattr(value, f.name)) for f in settings(value)}
        return {"class": f"own {kind.__name__}" if own else kind.__name__, **fields}
    if isinstance(value, dict):
        return {str(k): resolved(v) for k, v in value.items()}
    return {"class": getattr(value, "__qualname__", str(value))}


class NotPublic(UserError):
    """A class or function that ssljax does not export, such as one of the user's own."""


def from_json(value: Any) -> Any:
    """The inverse of `resolved`; lists become tuples.

    "class" names one of `public_classes`, and nothing else is ever looked up, imported or called: what a stranger wrote
    can do no more than make values.

    Raises:
        NotPublic: a class is not one of them.
        UserError: the fields of a class are others, or do not suit it.
    """
    if isinstance(value, list):
        return tuple(map(from_json, value))
    if not isinstance(value, dict):
        return value
    name = value.get("class")
    if not isinstance(name, str) or name not in public_classes():
        raise NotPublic(f"{short(name)}, which is not one of ssljax's own classes")
    kind, fields = public_classes()[name], {field: from_json(v) for field, v in value.items() if field != "class"}
    known = [field.name for field in settings(kind)]
    if unknown := [field for field in fields if field not in known]:
        raise UserError(f"{name} has no field {unknown[0]!r} in this version of ssljax")
    try:
        return kind(**fields)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise UserError(f"{name} cannot be made of these fields ({error})") from None


@functools.cache
def public_classes() -> dict[str, type]:
    """Name → class, of all dataclasses that the packages of ssljax export for experiments."""
    found: dict[str, type] = {"Experiment": Experiment}
    for module in (data, evaluation, methods, models, optim, schedules, search, views):
        own = [name for name, x in vars(module).items() if getattr(x, "__module__", None) == module.__name__]
        for name in getattr(module, "__all__", own):
            kind = getattr(module, name)
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and not name.startswith("_"):
                found[name] = kind
    return found


# What may change when a run goes on: how it is computed and looked at, not what is learnt.
FREE = ("steps_per_dispatch", "cache", "threads", "workers", "max_bad_share", "shards", "checkpoint_every", "log_every")
FREE += ("evaluation_precision", "monitor", "monitor_every", "evaluate", "baselines", "index", "gallery")


def training(experiment: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved experiment that decides what is learnt."""
    return {name: _learnt(value) for name, value in experiment.items() if name not in FREE}


def _learnt(value: Any) -> Any:
    """A resolved value without the fields of networks that only say how these are computed."""
    if isinstance(value, list):
        return [_learnt(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {name: _learnt(v) for name, v in value.items() if name not in ("remat", "scan")}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Sentences such as "optimizer.lr is 0.06 there and 0.1 here", of two resolved values."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("class") == new.get("class"):
        old = {name: value for name, value in _defaults(new).items() if name in new} | old
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else k)]
    return [] if _bare(old) == _bare(new) else [f"{path} is {_short(old)} there and {_short(new)} here"]


def _defaults(value: dict[str, Any]) -> dict[str, Any]:
    """The defaults of a resolved value's class, which fields had before there were these fields."""
    kind = public_classes().get(value.get("class", ""))
    fields = settings(kind) if kind else []
    return {f.name: resolved(f.default) for f in fields if f.default is not dataclasses.MISSING}


def _bare(value: Any) -> Any:
    """A function was its bare name in the runs of earlier versions."""
    return value["class"] if isinstance(value, dict) and list(value) == ["class"] else value


def _short(value: Any) -> str:
    return value["class"] if isinstance(value, dict) and "class" in value else repr(value)
