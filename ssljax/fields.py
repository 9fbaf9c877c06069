"""Settings checked against their own annotations: a value of a wrong type is refused under the name of its option."""

import dataclasses
import math
import numbers
import reprlib
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ssljax.types import UserError

WORDS = {int: "whole numbers", float: "finite numbers", str: "texts"}
WORD = {int: "a whole number", float: "a finite number", str: "a text", bool: "True or False", NoneType: "None"}


def settings(value: Any) -> list[dataclasses.Field]:
    """The fields of a dataclass that configure it: not the two, parent and name, that every linen module has."""
    module = {"parent", "name"} if hasattr(value, "scope") else set()
    return [f for f in dataclasses.fields(value) if f.init and f.name not in module]


def check_fields(value: Any, path: str = "") -> None:
    """Raises UserError if a field of a dataclass, or of those inside it, is not what its annotation says.

    Numbers must be finite. A list where a tuple is due is made one. `path` is the option that holds `value`, such as
    "method.encoder"; "" if its fields are options themselves.
    """
    for field in settings(value):
        name, given = f"{path}.{field.name}" if path else field.name, getattr(value, field.name)
        try:
            fitting = _fitting(given, field.type)
        except TypeError:
            raise UserError(f"{name}={short(given)} must be {_wanted(field.type)}{_hint(given, field.type)}") from None
        if isinstance(fitting, type) and field.type is Any:
            raise UserError(f"{name}={short(fitting)} is a class: write {short(fitting)}()")
        if fitting is not given:
            object.__setattr__(value, field.name, fitting)
        inside = {f"{name}.{k}": v for k, v in enumerate(fitting)} if isinstance(fitting, tuple) else {name: fitting}
        for inner, part in inside.items():
            if dataclasses.is_dataclass(part):
                check_fields(part, inner)


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
