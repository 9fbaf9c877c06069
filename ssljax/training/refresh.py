"""Samplers that are refreshed by the embeddings during training, to make harder batches."""

import numpy as np

from ssljax.data.samplers.base import Batches, RefreshingSampler
from ssljax.evaluation.embed import Embedder
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.logging import console
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup, batches_of
from ssljax.types import TrainState, UserError


def batches_from(setup: Setup, run: Run, state: TrainState, checkpoints: Checkpoints, embedder: Embedder) -> Batches:
    """Returns the batches that follow `state`, after a refresh of the sampler if one is due.

    What the sampler writes stays in the run folder as long as a checkpoint needs it, so that a stopped run continues
    exactly. Raises UserError if that file is missing or damaged.
    """
    sampler, every, step = setup.experiment.sampler, setup.refresh_steps, int(state.step)
    if every is None or not isinstance(sampler, RefreshingSampler):
        return setup.batches
    items = setup.load("train")
    if step % every == 0:
        console.print(f"Step {step}: embedding the train split, by which the sampler makes harder batches")
        embedded = embedder.by(state)("train")
        embeddings = np.zeros((len(items), embedded.vectors.shape[1]), np.float32)
        there = set(embedded.ids)
        embeddings[[name in there for name in items.ids]] = embedded.vectors  # in the items' order
        needed = {run.refreshed(saved - saved % every) for saved in checkpoints.steps}

        def refresh() -> None:
            for file in run.refreshed(step).parent.glob("*"):
                if file not in needed:
                    file.unlink()
            sampler.refresh(items, embeddings, step // every, run.refreshed(step))

        run.by_first(refresh)
    path = run.refreshed(step - step % every)

    def read() -> Batches:
        try:
            return batches_of(sampler.reading(path), setup.experiment, items)
        except UserError as error:
            raise UserError(f"{path} does not serve ({error}): put it back, or --restart to train anew") from None

    return run.by_each(read)
