"""Runs commands of ssljax, for the scripts that make results/*.json."""

import subprocess
import sys

from markdown_table import HERE

ROOT = HERE.parent


def ssljax(*arguments: str) -> None:
    """Runs a command in the root of the repository; exits if it fails."""
    if subprocess.run([sys.executable, "-m", "ssljax.cli", *arguments], cwd=ROOT).returncode:
        sys.exit(f"ssljax {' '.join(arguments)} failed")
