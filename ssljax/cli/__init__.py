"""The command `ssljax`: the only code that reads command-line arguments."""
