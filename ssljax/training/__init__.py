"""Training runs: experiments on devices, the loop, checkpoints and run folders.

The step itself is in `ssljax.train`; evaluation, the index and the report are elsewhere.
"""
