"""What each command of `ssljax` does, from its arguments on."""

from ssljax.cli.data import unmark, views
from ssljax.cli.evaluating import compare, evaluate, report, robustness
from ssljax.cli.indexing import embed, index, index_advice
from ssljax.cli.searching import search
from ssljax.cli.serving import serve
from ssljax.cli.training import sweep, train

_ALL = (train, sweep, views, evaluate, report, compare, index_advice, robustness, unmark, embed, index, search, serve)
COMMANDS = {command.__name__.replace("_", "-"): command for command in _ALL}

__all__ = ["COMMANDS"]
