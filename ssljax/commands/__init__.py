"""What each command of `ssljax` does, from its arguments on."""

from ssljax.commands.data import unmark, views
from ssljax.commands.evaluating import compare, evaluate, report, robustness
from ssljax.commands.indexing import embed, index, index_advice
from ssljax.commands.searching import search
from ssljax.commands.serving import serve
from ssljax.commands.training import sweep, train

_ALL = (train, sweep, views, evaluate, report, compare, index_advice, robustness, unmark, embed, index, search, serve)
COMMANDS = {command.__name__.replace("_", "-"): command for command in _ALL}

__all__ = ["COMMANDS"]
