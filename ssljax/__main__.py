"""`python -m ssljax`: the command `ssljax`."""

from ssljax.cli import main

if __name__ == "__main__":
    main()
