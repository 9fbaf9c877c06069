"""Text from strangers: made valid and comparable when it is read, and harmless where it is shown."""

import difflib
import functools
import logging
import re
import unicodedata
from collections.abc import Sequence

# Blanks that str.strip leaves: those without width, and marks of direction, which Windows copies along with a path.
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\ufeff"
# What steers a terminal or changes the reading order: control characters except tab and line feed, marks of direction,
# line and paragraph separators; and lone surrogates, which cannot be written at all.
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# How a value begins that a spreadsheet takes for a formula, full-width forms included; and the guard itself.
FORMULA = re.compile(r"[=@\uff1d\uff20\t\n']|[-+\uff0d\uff0b](?!\d+([.,]\d+)?\Z)")


def valid(value: str) -> str:
    """`value` in a form that UTF-8 can write: pairs of surrogates are joined, and a lone one becomes U+FFFD."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def readable(value: str) -> str:
    """`value`, valid and composed (NFC): letters with accents have two forms that look and mean the same."""
    return value if value.isascii() else unicodedata.normalize("NFC", valid(value))


def stripped(value: str) -> str:
    """`value` without the blanks around it, including zero-width ones."""
    value = value.strip()
    while (inner := value.strip(INVISIBLE)) != value:
        value = inner.strip()
    return value


def comparable(value: str) -> str:
    """`value` for comparison with others: `readable` and `stripped`."""
    return stripped(readable(value))


def shown(value: str) -> str:
    """`value` safe for a terminal: what would steer it is written out, as \\x1b or \\u202e."""
    return STEERING.sub(
        lambda found: ("\\x{:02x}" if found[0] < "\u0100" else "\\u{:04x}").format(ord(found[0])), value
    )


def csv_cell(value: str) -> str:
    """`value` for a cell of a CSV file: `shown`, with a ' in front if a spreadsheet would run it as a formula.

    A value that begins with ' gets another one, so that a reader can always remove one to recover the value.
    """
    value = shown(value)
    return f"'{value}" if FORMULA.match(value) else value


@functools.cache
def note(sentence: str) -> None:
    """Logs a warning about the data, once a process however often the data is read."""
    logging.getLogger("ssljax").warning(shown(sentence))


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """`: did you mean 'articleType'? There are id, articleType, ...`: the end of a sentence about a wrong name."""
    meant = nearest(name, names)
    return (f": did you mean {meant!r}? There" if meant else ": there") + f" are {', '.join(map(str, names))}"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `name` was probably meant to be; None if none is close."""
    lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return lower[close[0]] if close else None
