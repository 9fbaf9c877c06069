"""The command `ssljax`, a file a command: the only code that reads command-line arguments.

What a command does, it calls.
"""
