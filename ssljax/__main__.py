"""`python -m ssljax`: the command `ssljax`."""

import os
import sys

# Python puts the working directory first: a `random.py` in it would take the place of Python's own.
if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    del sys.path[0]

from ssljax.cli import main

if __name__ == "__main__":
    main()
