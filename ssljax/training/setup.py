"""An experiment on devices: its data and its state, checked before anything is compiled."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ssljax import models
from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import TrainBatches, batch_shapes
from ssljax.data.samplers.base import Batches
from ssljax.data.titles.tokenized import TokenizedTitles
from ssljax.evaluation.embed import Embedder
from ssljax.evaluation.restore import check_evaluation
from ssljax.models import Preprocessing, preprocessing_of, pretrained_in, says_preprocessing
from ssljax.sharding import check_batch_size, entering, make_mesh
from ssljax.training.logging import counting
from ssljax.training.run_folder import Run, checksum
from ssljax.training.state import StateSpec
from ssljax.types import CheckedMethod, Sampler, TitleMethod, UserError, settings
from ssljax.views import PhotoAndTitle


@dataclasses.dataclass(frozen=True)
class Setup:
    """An experiment on devices."""

    experiment: Experiment
    mesh: Mesh
    load: Callable[[str], Items]
    """a split of the data, read once"""
    batches: Batches
    """which photos make up which training batch, of this process"""
    spec: StateSpec
    """what the training state is"""
    titles: TokenizedTitles | None = None
    """what makes token ids of titles, if the experiment has any"""

    @classmethod
    def of(
        cls, experiment: Experiment, learnt: str | None = None, load: Callable[[str], Items] | None = None
    ) -> "Setup":
        """On all devices, with everything checked that can be before compilation; raises UserError.

        `learnt` is what the tokenizer of a run that goes on has learnt; None lets it learn from the train split. `load`
        gives the splits of the data, if something else has read them already.
        """
        mesh = make_mesh(experiment.shards)
        check_batch_size(mesh, experiment.batch_size, experiment.accumulate)
        load = load or functools.cache(experiment.data.load)
        items = load("train")
        batches = batches_of(experiment.sampler, experiment, items)
        if experiment.epochs:
            batches.check()
        check_evaluation((*experiment.evaluate, *experiment.monitor), experiment.gallery, load, experiment.method)
        titles = TokenizedTitles.of(experiment.titles, items, learnt)
        check_titles(experiment, titles)
        batch = batch_shapes(
            items,
            batch_size=experiment.batch_size,
            size=experiment.photo_size,
            photos=batches.photos,
            titles=titles,
        )
        if isinstance(experiment.method, CheckedMethod):
            with entering(mesh):
                views = jax.eval_shape(experiment.normalised_views, jax.random.PRNGKey(0), batch)["views"]
            experiment.method.check(items, batches, len(views))
        spec = StateSpec(experiment, mesh, batch, experiment.epochs * batches.batches_per_epoch)
        _ = spec.shapes  # the batch is checked against the data, and the method against the batch
        _check_preprocessing(experiment)
        return cls(experiment, mesh, load, batches, spec, titles)

    @property
    def data(self) -> dict[str, Any]:
        """What restoring a run needs to know of its data, as JSON."""
        batch = {name: [x.shape, x.dtype.name] for name, x in self.spec.batch.items()}
        tokenizer = {"tokenizer": checksum(self.learnt)} if self.learnt else {}
        return {"photos": len(self.load("train")), "steps_per_epoch": self.steps_per_epoch, "batch": batch} | tokenizer

    @property
    def learnt(self) -> str:
        """What the tokenizer of titles learnt; empty if there is nothing."""
        return self.titles.learnt if self.titles else ""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the train split."""
        return self.batches.batches_per_epoch

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.spec.total_steps

    @property
    def refresh_steps(self) -> int | None:
        """Steps between the sampler's looks at the embeddings; None if it does not look at them."""
        every = getattr(self.experiment.sampler, "refresh_every", None)
        return every and every * self.steps_per_epoch

    def dispatches(self, start: int) -> Iterator[tuple[int, int]]:
        """The last step, and the number of steps, of each dispatch from `start` on.

        None goes beyond a step that is followed by something else: a checkpoint, evaluators, a sampler's refresh.
        """
        e = self.experiment
        every = [e.checkpoint_every, e.monitor_every * self.steps_per_epoch, self.refresh_steps]
        while start < self.total_steps:
            ends = [start - start % steps + steps for steps in every if steps]
            last = min(start + e.steps_per_dispatch, self.total_steps, *ends)
            yield last, last - start
            start = last

    def embedder(self, run: Run) -> Embedder:
        """What embeds the data of the experiment; photos that cannot be read are listed in the run folder."""
        return Embedder(self.experiment, self.mesh, self.load, run.bad_inputs(), self.titles)

    def train_batches(self, run: Run, batches: Batches) -> TrainBatches:
        """The training batches on the devices, from the first one on; photos are decoded now if there is a cache."""
        e, items = self.experiment, self.load("train")
        with counting("decoding", len(items)) as progress:
            return TrainBatches(
                items,
                batches,
                size=e.photo_size,
                cache=e.cache,
                threads=e.threads,
                workers=e.workers,
                bad=BadInputs(run.bad_inputs(), total=len(items), limit=e.max_bad_share),
                mesh=self.mesh,
                progress=progress,
                titles=self.titles,
            )


def check_titles(experiment: Experiment, titles: TokenizedTitles | None) -> None:
    """Raises UserError if views need titles that are not there, or the network cannot read them or all of their ids."""
    if titles is None:
        if isinstance(experiment.views, PhotoAndTitle):
            raise UserError("views=PhotoAndTitle(...) needs titles: set titles=Titles()")
        return
    if not isinstance(experiment.views, PhotoAndTitle):
        raise UserError("titles=Titles(...), and no view reads titles: set views=PhotoAndTitle(...), or titles=None")
    encoder: Any = getattr(experiment.method, "encoder", None)
    while hasattr(encoder, "module"):  # of Pretrained or Frozen
        encoder = encoder.module
    # a module of the user's own may read both
    ours = not isinstance(encoder, models.Fusion) and type(encoder).__module__.startswith(f"{models.__name__}.")
    if ours and not isinstance(experiment.method, TitleMethod):
        name = type(encoder).__name__
        raise UserError(
            f"method.encoder={name}(...) does not read photos with their titles: choose "
            f"Fusion({'title' if hasattr(encoder, 'vocabulary') else 'photo'}={name}(...), ...), or CLIP or SigLIP"
        )
    for name, vocabulary in _vocabularies(experiment.method):
        if vocabulary < titles.reader.vocabulary:
            raise UserError(
                f"method.{name}.vocabulary={vocabulary} is smaller than the tokenizer's {titles.reader.vocabulary}: "
                "use the tokenizer that belongs to the weights, or set it to that number"
            )


def _vocabularies(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Path and size of the vocabulary of every text encoder in a value."""
    if hasattr(value, "vocabulary"):
        yield path, value.vocabulary
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in settings(value):
            yield from _vocabularies(getattr(value, field.name), f"{path}.{field.name}" if path else field.name)


def _check_preprocessing(experiment: Experiment) -> None:
    """Raises UserError if the views are not normalised as an encoder's weights, also a teacher's, want them."""
    used = experiment.preprocessing
    for start in pretrained_in(experiment.method):
        if start.part not in ("encoder", "student", "teacher") or not says_preprocessing(start):
            continue
        wanted = preprocessing_of(start)
        said = f"weights={start.weights} were trained with mean={wanted.mean} and std={wanted.std}"
        if used is None:
            if (wanted.mean, wanted.std) != (Preprocessing().mean, Preprocessing().std):
                kind = type(experiment.views).__name__
                raise UserError(f"{said}, but views={kind} do not say theirs: give {kind} a property `preprocessing`")
        elif not np.allclose([wanted.mean, wanted.std], [used.mean, used.std], atol=1e-3):
            raise UserError(
                f"{said}, but the views have mean={used.mean} and std={used.std}: write the weights' "
                "in `views`, and choose a student and a teacher that were trained with the same"
            )


def batches_of(sampler: Sampler, experiment: Experiment, items: Items) -> Batches:
    """This process's batches of a split."""
    shard = jax.process_index(), jax.process_count()
    return sampler.over(items, batch_size=experiment.batch_size, seed=experiment.seed, shard=shard)
