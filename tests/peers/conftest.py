"""Tests against other libraries, which the plain test environment does not have: `make peers-check` installs them."""

import importlib.util

from benchmarks.peers import import_torchvision

if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
    import_torchvision()  # before anything else imports it: its wheel may not fit a torch for CPUs
