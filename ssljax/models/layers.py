"""How deep in its encoder a parameter lies, told by the names that all encoders here give to their parts."""

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"(?:stage(\d+)_)?block(\d+)")
_BETWEEN = re.compile(r"stage(\d+)_(?!block)\w+")  # Swin's, before a stage
_AFTER = ("norm", "last_conv", "last_norm")


def layers(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Part of an encoder, such as stage1_block0, → its layer; and the number N of blocks.

    0 is all before the blocks, 1 to N are the blocks, and N + 1 is what follows them. What stands between two stages is
    of the layer of the next block. N is 0 if no part has the name of a block.
    """
    names = list(names)
    places = {name: _place(match) for name in names if (match := _BLOCK.fullmatch(name))}
    order = sorted(places.values())

    def layer(name: str) -> int:
        if name in places:
            return 1 + order.index(places[name])
        if match := _BETWEEN.fullmatch(name):
            return 1 + sum(stage < int(match[1]) for stage, _ in order)
        return len(order) + 1 if name in _AFTER else 0

    return {name: layer(name) for name in names}, len(order)


def _place(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1] or 0), int(match[2])
