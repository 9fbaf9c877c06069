"""The core types: what a training step reads and writes, what a method is, and the check of settings."""

import dataclasses
import math
import numbers
import reprlib
import typing
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, runtime_checkable

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:  # names for signatures alone
    from ssljax.data.items import Items
    from ssljax.data.samplers.base import Batches
    from ssljax.evaluation.embeddings import Embeddings

Array = jax.Array
Scalar = Array | float
PyTree = Any
Params = PyTree
Aux = PyTree
Batch = dict[str, Any]
Metrics = dict[str, Array]
LossAndState = tuple[Array, tuple[Aux, Metrics]]

T = TypeVar("T")

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
"""Of float32 matrix products and convolutions, as `jax.default_matmul_precision` takes it. tensorfloat32 is TF32
on a GPU and three bfloat16 passes on a TPU, bfloat16 is TF32 and one pass; a CPU computes all in float32."""


class UserError(Exception):
    """A mistake of the user's: one sentence that names the field, its value and what would be right."""


class RunStopped(RuntimeError):
    """A training that cannot go on, through no mistake of the command's: one sentence that says why and where."""


@typing.dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass whose fields are children of a JAX pytree."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@pytree
class TrainState:
    """All that a step reads and writes; a checkpoint is exactly this."""

    step: Array  # i32[]
    params: Params  # what the optimizer updates, and nothing else
    aux: Aux  # what it must not: teacher, batch statistics, queue, center
    opt_state: PyTree
    rng: Array  # u32[2], folded with step, never carried split: a resumed run is the same run


def whole_steps(share: float, total: int) -> int:
    """How many steps a share of `total` steps is: to the nearest, a half up."""
    return math.floor(round(share * total, 6) + 0.5)  # .7 x 15 is 10.5, but a little less in binary


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come, for what changes in its course.

    What switches at some point asks `reached`, which compares whole steps: at the same one on every machine. What
    changes smoothly reads `share`.
    """

    step: Array
    """i32[], steps that are done"""
    total: int = dataclasses.field(metadata={"static": True})
    """steps of the whole training"""
    begin: float = dataclasses.field(default=0.0, metadata={"static": True})
    """the share of the training at which `share` is 0"""

    @property
    def share(self) -> Array:
        """f32[], from 0 to 1; by 2^-22 of it more than it is, so that it is not below a share that it has reached."""
        scale = (1 + 2**-22) / max((1 - self.begin) * self.total, 1e-9)
        return jnp.minimum((jnp.asarray(self.step, jnp.float32) - self.begin * self.total) * scale, 1.0)

    def reached(self, share: float) -> Array:
        """bool[], whether that share of the steps is done, in `whole_steps`."""
        return self.step >= whole_steps(self.begin + (1 - self.begin) * share, self.total)

    def after(self, share: float) -> "Progress":
        """The progress of what is left once `share` is reached; its own share is below 0 until then."""
        return Progress(self.step, self.total, self.begin + (1 - self.begin) * share)


@runtime_checkable
class Schedule(Protocol):
    """A value that changes over training: one of `ssljax.schedules`, or your function (see `schedules.value_at`)."""

    def __call__(self, progress: Any, /) -> Array:
        """f32[], the value at `progress`."""
        ...


if TYPE_CHECKING:
    Scheduled = float | Schedule
else:  # tyro would make each union a subcommand; it makes an option of what the default is
    Scheduled = Any
"""A constant or a schedule."""


@runtime_checkable
class Source(Protocol):
    """Where photos come from. Sources are frozen dataclasses: their fields become options of the command line."""

    def load(self, split: str, /) -> "Items":
        """The items of a split ("train", "val", "test"); raises UserError if there is no such split or it is empty."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Decides which photos make up a batch. Samplers are frozen dataclasses: their fields become options."""

    def over(self, items: "Items", *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "Batches":
        """The batches of a split; raises UserError if it does not suit.

        Args:
            items: the split.
            batch_size: B, over all processes.
            seed: decides the orders, and what is drawn.
            shard: (index, count) of this process.
        """
        ...


@runtime_checkable
class Views(Protocol):
    """Makes a method's views of a batch, on the accelerator."""

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with random `views`: a tuple of f32[B, h, w, 3]."""
        ...

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with one deterministic view, for embedding."""
        ...

    def pixels(self, view: Array) -> Array:
        """f32[B, h, w, 3] in [0, 1], a view as people see it."""
        ...


@runtime_checkable
class Method(Protocol):
    """A training method: four pure functions over explicit state, and no state of its own.

    `batch["views"]` is a tuple of f32[B, h, w, 3], one array a view, made and normalised by the views of the
    experiment; two global crops come first, local ones after them. With titles, each is a `Listing`.
    `batch["masks"]`, where the views are `Masked`, is bool[B, N] for each global crop, True for a patch that is hidden
    from the student.
    """

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """The initial parameters and the rest of the state; raises UserError if the method does not fit the batch."""
        ...

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """The scalar loss f32[], the state after the forward pass, and the figures to log (f32[] each)."""
        ...

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """The state after the optimizer's step: the teacher's moving average and the like."""
        ...

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """f32[B, D], what retrieval sees, of `batch["views"][0]`."""
        ...


@runtime_checkable
class TeacherMethod(Method, Protocol):
    """A method whose teacher is evaluated beside the student: what defines `embed_teacher` is one."""

    def embed_teacher(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """f32[B, D], the teacher's embeddings of `batch["views"][0]`."""
        ...


@runtime_checkable
class TitleMethod(Method, Protocol):
    """A method that embeds titles apart from photos, in the same space: what defines `embed_title` is one."""

    def embed_title(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """f32[B, D], the embeddings of the titles of `batch["views"][0]`, a `Listing`."""
        ...


@runtime_checkable
class CheckedMethod(Method, Protocol):
    """A method that needs to know something of the train split: what defines `check` is one."""

    def check(self, items: "Items", batches: "Batches", views: int) -> None:
        """Raises UserError if the train split does not suit: without labels, say.

        items: its `Items`; batches: its `Batches`; views: how many there are of an item.
        """
        ...


class FreezingMethod(Method, Protocol):
    """A method that leaves some of its parameters as they are at first: what defines `frozen_until` is one."""

    @property
    def frozen_until(self) -> dict[str, float]:
        """Path in the parameters, such as projector/prototypes → the share of training from which they learn."""
        ...


@runtime_checkable
class WeightsMethod(Method, Protocol):
    """A method whose networks are saved at the end, for others to start from: what defines `weights` is one."""

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """ "student", and "teacher" if there is one → module → its linen variables."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """The rule that updates parameters."""

    def build(self, total_steps: int, method: Method, /) -> optax.GradientTransformation:
        """The rule for a training of so many steps, which leaves alone what the method freezes."""
        ...

    def learning_rate(self, progress: Progress, /) -> Array:
        """f32[], to be logged."""
        ...


Embed = Callable[[str], "Embeddings"]
"""Split name → its embeddings, computed once."""


@runtime_checkable
class Evaluator(Protocol):
    """Turns embeddings into named figures."""

    if TYPE_CHECKING:  # tyro narrows a protocol to the class of the default only if it has nothing but methods

        @property
        def split(self) -> str:
            """The split that is judged."""
            ...

        @property
        def name(self) -> str:
            """Part of the figures' names, to tell apart several of a kind in one experiment; may be empty."""
            ...

    def check(self, embed: Embed, /) -> None:
        """Raises UserError before training if what follows it would fail: a column that is missing, and the like.

        The embeddings that `embed` gives have ids, labels and columns, but no vectors.
        """
        ...

    def __call__(self, embed: Embed, /) -> dict[str, float]:
        """The figures, by their names."""
        ...


WORDS = {int: "whole numbers", float: "finite numbers", str: "texts"}
WORD = {int: "a whole number", float: "a finite number", str: "a text", bool: "True or False", NoneType: "None"}


def settings(value: Any) -> list[dataclasses.Field]:
    """The fields of a dataclass that configure it: not the two, parent and name, that every linen module has."""
    module = {"parent", "name"} if hasattr(value, "scope") else set()
    return [f for f in dataclasses.fields(value) if f.init and f.name not in module]


def check_fields(value: Any, path: str = "", /, **least: int) -> None:
    """Raises UserError if a field of a dataclass, or of those inside it, is not what its annotation says.

    Numbers must be finite. A list where a tuple is due is made one. `path` is the option that holds `value`, such as
    "method.encoder"; "" if its fields are options themselves. `least` gives fields, or the numbers
    in them, their least values; None passes.
    """
    for field in settings(value):
        name, given = f"{path}.{field.name}" if path else field.name, getattr(value, field.name)
        try:
            fitting = _fitting(given, field.type)
        except TypeError:
            raise UserError(f"{name}={short(given)} must be {_wanted(field.type)}{_hint(given, field.type)}") from None
        if isinstance(fitting, type) and (field.type is Any or getattr(field.type, "_is_protocol", False)):
            raise UserError(f"{name}={short(fitting)} is a class: write {short(fitting)}()")
        if fitting is not given:
            object.__setattr__(value, field.name, fitting)
        inside = {f"{name}.{k}": v for k, v in enumerate(fitting)} if isinstance(fitting, tuple) else {name: fitting}
        for inner, part in inside.items():
            if dataclasses.is_dataclass(part):
                check_fields(part, inner)
        numbers_in: tuple[Any, ...] = fitting if isinstance(fitting, tuple) else (fitting,)
        if field.name in least and any(n is not None and n < least[field.name] for n in numbers_in):
            raise UserError(f"{name}={fitting} is too small: it must be at least {least[field.name]}")


def short(value: Any) -> str:
    """A value as an error shows it, on one line: a dataclass by its class."""
    if isinstance(value, type):
        return value.__name__
    return f"{type(value).__name__}(...)" if dataclasses.is_dataclass(value) else reprlib.repr(value)


def _fitting(value: Any, kind: Any) -> Any:
    """`value` as the annotation `kind` wants it; raises TypeError if it does not fit."""
    if get_origin(kind) in (Union, UnionType):
        return _first_fitting(value, get_args(kind))
    if get_origin(kind) in (tuple, Sequence):
        if not isinstance(value, list | tuple):
            raise TypeError
        kinds = get_args(kind)[:1] * len(value) if _any_length(kind) else get_args(kind)
        if len(kinds) != len(value):
            raise TypeError
        fitting = tuple(map(_fitting, value, kinds))
        unchanged = isinstance(value, tuple) and all(a is b for a, b in zip(value, fitting, strict=True))
        return value if unchanged else fitting
    if get_origin(kind) is Literal:
        return _require(value, value in get_args(kind))
    if kind is int:
        return int(_require(value, isinstance(value, numbers.Integral) and not isinstance(value, bool)))
    if kind is float:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        _require(value, number and math.isfinite(value))
        return value if isinstance(value, int | float) else float(value)
    return _require(value, isinstance(value, kind)) if kind in (str, bool, NoneType) else value


def _require(value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError
    return value


def _first_fitting(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _fitting(value, kind)
        except TypeError:
            continue
    raise TypeError


def _any_length(kind: Any) -> bool:
    return get_origin(kind) is Sequence or get_args(kind)[-1] is ...


def _wanted(kind: Any) -> str:
    """The end of a sentence that begins with "it must be"."""
    arguments = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_wanted, arguments))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, arguments))
    if get_origin(kind) in (tuple, Sequence):
        what = WORDS.get(arguments[0])
        if _any_length(kind):
            return f"a tuple of {what}" if what else "a tuple"
        return f"{len(arguments)} {what or 'values'}"
    return WORD.get(kind, str(kind))


def _hint(value: Any, kind: Any) -> str:
    """How to write one value as the tuple that is wanted."""
    try:
        _fitting((value,), kind)
    except TypeError:
        return ""
    return f": try ({short(value)},)"
