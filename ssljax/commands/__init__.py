"""What each command of `ssljax` does, from its arguments on."""

from ssljax.commands.searching import embed, index, search
from ssljax.commands.serving import serve
from ssljax.commands.training import compare, evaluate, index_advice, report, robustness, sweep, train, unmark, views

_ALL = (train, sweep, views, evaluate, report, compare, index_advice, robustness, unmark, embed, index, search, serve)
COMMANDS = {command.__name__.replace("_", "-"): command for command in _ALL}

__all__ = ["COMMANDS"]
