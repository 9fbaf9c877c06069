"""Text from strangers: valid and comparable once it is read, harmless where it is shown."""

import difflib
import functools
import logging
import re
import unicodedata
from collections.abc import Sequence

# Blanks that str.strip leaves: without width, and marks of direction, which are copied along with a path on Windows.
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\ufeff"
# What steers a terminal or turns the order of what is read: control characters but tab and line feed, marks of
# direction, ends of lines and paragraphs; and halves of characters, which cannot be written at all.
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Beginnings by which a spreadsheet takes a value for a formula, the full-width forms too; and the guard itself.
FORMULA = re.compile(r"[=@\uff1d\uff20\t\n']|[-+\uff0d\uff0b](?!\d+([.,]\d+)?\Z)")


def valid(value: str) -> str:
    """`value` as it can be written in UTF-8: pairs of surrogates are joined, and a lone one becomes U+FFFD."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def readable(value: str) -> str:
    """`value` as `valid` has it, composed (NFC): letters with accents have two forms that look and mean the same."""
    return value if value.isascii() else unicodedata.normalize("NFC", valid(value))


def stripped(value: str) -> str:
    """`value` without blanks around it, those included that have no width."""
    value = value.strip()
    while (inner := value.strip(INVISIBLE)) != value:
        value = inner.strip()
    return value


def comparable(value: str) -> str:
    """`value` as it is compared with others: `readable` and `stripped`."""
    return stripped(readable(value))


def shown(value: str) -> str:
    """`value` as a terminal may show it: what would steer it is written out, as \\x1b or \\u202e."""
    return STEERING.sub(
        lambda found: ("\\x{:02x}" if found[0] < "\u0100" else "\\u{:04x}").format(ord(found[0])), value
    )


def csv_cell(value: str) -> str:
    """`value` as it goes into a CSV file: as `shown`, and with ' before what a spreadsheet would run as a formula.

    A value that begins with ' gets another one: whoever reads the file takes one away, and has what was there.
    """
    value = shown(value)
    return f"'{value}" if FORMULA.match(value) else value


@functools.cache
def note(sentence: str) -> None:
    """Logs a warning about the data once in a process, however often the data is read."""
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
