"""Tests against other libraries, which the plain test environment does not have: `make peers-check` installs them."""

import importlib.util

from benchmarks.peers import import_torchvision

BROKEN = ""
if importlib.util.find_spec("torch"):
    try:
        import_torchvision()  # before anything else does: its wheel may not fit a torch for CPUs
    except ImportError as error:  # of a torch for GPUs, whose libraries are not here
        BROKEN = f"nothing is compared with other libraries, as torch cannot be imported ({error})"
        collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter):
    """Says why there were no tests."""
    if BROKEN:
        terminalreporter.write_line(BROKEN)
