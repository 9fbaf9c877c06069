"""`python -m ssljax.cli`: the command `ssljax`."""

import os
import sys
from pathlib import Path

# Python puts the working directory first: a `random.py` in it would take the place of Python's own.
if sys.path[0] == os.getcwd() != str(Path(__file__).resolve().parents[2]):
    del sys.path[0]

from ssljax.cli.main import main

if __name__ == "__main__":
    main()
