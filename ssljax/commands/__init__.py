"""What each command of `ssljax` does, from its arguments on."""

from ssljax.commands.searching import embed, index, search
from ssljax.commands.serving import serve
from ssljax.commands.training import evaluate, report, robustness, sweep, train, views

COMMANDS = {
    command.__name__: command
    for command in (train, sweep, views, evaluate, report, robustness, embed, index, search, serve)
}

__all__ = ["COMMANDS"]
