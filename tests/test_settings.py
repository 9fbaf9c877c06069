"""Values that do not fit their annotations are refused by name; those that fit are left as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest

from ssljax.data import ToyCatalogue
from ssljax.models import MLP
from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    word: str | None = None
    choice: Literal["a", "b"] | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    widths: Sequence[int] = ()
    part: Any = Inner()
    parts: tuple[Any, ...] = ()


WRONG = {
    "text for a number": (dict(count="3"), "count='3' must be a whole number"),
    "fraction": (dict(count=2.5), "count=2.5 must be a whole number"),
    "bool for a number": (dict(count=True), "count=True must be a whole number"),
    "NaN": (dict(rate=float("nan")), "rate=nan must be a finite number"),
    "infinite": (dict(rate=float("inf")), "rate=inf must be a finite number"),
    "number for a bool": (dict(on=1), "on=1 must be True or False"),
    "number for a text": (dict(word=5), "word=5 must be a text or None"),
    "choice": (dict(choice="c"), "choice='c' must be 'a' or 'b' or None"),
    "three for two": (dict(pair=(1, 2, 3)), r"pair=(1, 2, 3) must be 2 finite numbers"),
    "NaN in a pair": (dict(pair=(1, float("nan"))), r"pair=(1, nan) must be 2 finite numbers"),
    "text for texts": (dict(names="test"), "names='test' must be a tuple of texts: try ('test',)"),
    "numbers for texts": (dict(names=[1]), "names=[1] must be a tuple of texts"),
    "number for numbers": (dict(widths=8), "widths=8 must be a tuple of whole numbers: try (8,)"),
    "inside": (dict(part=Inner(width="8")), "part.width='8' must be a whole number"),
    "inside a tuple": (dict(parts=(Inner(), Inner(width=None))), "parts.1.width=None must be a whole number"),
    "one for several": (dict(parts=Inner()), "parts=Inner(...) must be a tuple: try (Inner(...),)"),
    "inside a module": (dict(part=MLP(out="8")), "part.out='8' must be a whole number"),
    "class": (dict(part=Inner), "part=Inner is a class: write Inner()"),
}


@pytest.mark.parametrize("values, sentence", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named(values, sentence):
    with pytest.raises(UserError) as caught:
        check_fields(Settings(**values))
    assert str(caught.value) == sentence


def test_what_fits_is_left_as_it_is():
    values = Settings(count=3, rate=1, word="x", choice="a", names=("x",), part=ToyCatalogue(), parts=(1, "a"))
    before = dataclasses.asdict(values)
    check_fields(values)
    assert dataclasses.asdict(values) == before


def test_lists_become_tuples_and_numbers_of_numpy_plain_ones():
    values = Settings(count=np.int64(3), rate=np.float32(0.5), pair=[0, 1], names=["x"], part=MLP(hidden=[8]))
    check_fields(values)
    assert (type(values.count), type(values.rate)) == (int, float)
    assert (values.pair, values.names, values.part.hidden) == ((0, 1), ("x",), (8,))


def test_the_path_of_the_option_comes_first():
    with pytest.raises(UserError, match=r"^method\.part\.width="):
        check_fields(Settings(part=Inner(width="8")), "method")
