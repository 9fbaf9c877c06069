"""The command `ssljax`: reads the command's name, runs it, and decides the exit code."""

import importlib
import io
import keyword
import os
import select
import sys
import traceback
from importlib import metadata

from ssljax.training.signals import end_at_signals

HELP = """\
ssljax: embeddings that find the same item again.

  ssljax train FILE [OPTIONS]     train an experiment; the same command again continues it
                                  (FILE --help lists its options, --restart starts anew)
  ssljax import FILE              read an encoder's weights from another library's file (-o OUT.safetensors)
  ssljax sweep FILE [--only N]    train all experiments of a file's `sweep`, and print one table
  ssljax plan FILE --on v5e:2x4   what it needs of a TPU or GPU machine that is not here: memory, FLOPs, traffic, hours
  ssljax views FILE [-o PNG]      draw what an experiment's views make of its photos
  ssljax evaluate RUN [DATA]      evaluate a run again, and write its index and report anew (DATA: another experiment's)
  ssljax report RUN               write RUN/report.html anew
  ssljax compare RUN_A RUN_B      what one run finds and the other misses, and whether they differ (-o PAGE)
  ssljax index-advice EMBEDDINGS  measure all kinds of index on your own vectors, and recommend one
  ssljax robustness RUN [DATA]    measure what is still found when photos are disturbed (DATA: another experiment's)
  ssljax embed RUN DATA -o FILE   embed a catalogue file, a folder of photos, or another experiment's data
  ssljax export RUN --to FORMAT   write the network for others: safetensors, timm, onnx or stablehlo
  ssljax index FILE... -o INDEX   build an index of embeddings
  ssljax search WHERE PHOTO...    the nearest items to photos, in an index or in a run's own
  ssljax match RUN DATA           which items of a catalogue are the same product (-o matches.csv; also of an index)
  ssljax duplicates WHERE         the same photo more than once, and other photos of the same product
  ssljax serve WHERE              the same over HTTP, with a page to drop photos on
  ssljax push RUN hf://USER/NAME  put a run on the Hugging Face hub, for others to load (--dry-run lists what)
  ssljax unmark FILE -o FOLDER    copy a catalogue without the watermarks of its sellers

Begin with:   ssljax train experiments/quickstart.py
              ssljax search runs/quickstart runs/quickstart/samples/...
An experiment file is Python and is executed: run only files that you trust.
`ssljax COMMAND --help` tells more of each, `ssljax --version` which one this is.
"""
COMMANDS = (
    "train",
    "import",
    "sweep",
    "plan",
    "views",
    "evaluate",
    "report",
    "compare",
    "index-advice",
    "robustness",
    "embed",
    "export",
)
COMMANDS += (
    "index",
    "search",
    "match",
    "duplicates",
    "serve",
    "push",
    "unmark",
)  # each is a module beside this one, with a function `main`


def main() -> None:
    """Runs the command; exits 0, or 2 after a user's mistake, or 1 if it could not go on: the disk is full, say.

    Ctrl-C exits with 130, SIGTERM with 143; a training that has begun saves and exits 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal or a file in ASCII takes any title
    # XLA's C++ calls a long compilation an error, and asks for a report of it; what is one is raised all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    again = sys.argv[1:2] in (["train"], ["sweep"])
    end_at_signals("Interrupted." + " The same command goes on from the last checkpoint, if there is one." * again)
    try:
        code = run(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        code = 1
    if "jax" in sys.modules:
        from ssljax.sharding import leave_processes

        leave_processes(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs one command line (without the program's name) and returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        print(f"ssljax {metadata.version('ssljax')}")
        return 0
    # What follows imports jax, and the help does without.
    from ssljax.data.text import did_you_mean, shown
    from ssljax.training.compilation_cache import keep_compiled
    from ssljax.training.logging import print_warnings
    from ssljax.types import RunStopped, UserError

    print_warnings()
    keep_compiled()
    command = arguments[0]

    def complain(message: object) -> None:
        print(shown(f"ssljax {command}: {message}"), file=sys.stderr)

    if command not in COMMANDS:
        print(f"ssljax: there is no command {command!r}{did_you_mean(command, list(COMMANDS))}", file=sys.stderr)
        return 2
    try:
        module = command.replace("-", "_") + "_" * keyword.iskeyword(command)
        importlib.import_module(f"ssljax.cli.{module}").main(arguments[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:  # the disk is full, or went away
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 1
        place, reason = error.filename or "a file", error.strerror or error
        again = " from the last checkpoint" * (command in ("train", "sweep"))
        complain(f"{place} cannot be read or written ({reason}): put that right, and the same command goes on{again}")
        return 1
    except UserError as error:
        complain(error)
        return 2
    except RunStopped as error:
        complain(error)
        return 1
    return 0


def _nobody_reads() -> bool:
    """Whether the reader of standard output has gone, as with `| head -1`; if so, the rest is discarded."""
    try:
        poll = select.poll()  # not on Windows
        poll.register(sys.stdout, 0)
        gone = any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, TypeError, ValueError):  # there is no standard output
        return False
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


if __name__ == "__main__":
    main()
