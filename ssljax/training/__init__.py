"""Training runs: experiments on devices, the loop, checkpoints and run folders. The step itself is `ssljax.train`."""
