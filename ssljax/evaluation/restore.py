"""A run folder, restored: its experiment, its trained state, and what embeds photos by it.

Whatever evaluates, embeds or searches by a run comes through here. It reads config.json and the newest checkpoint, and
never executes the run's copy of its experiment file.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from ssljax.config import Experiment, NotPublic, from_json
from ssljax.data import Items
from ssljax.data.atomic_files import read_json
from ssljax.data.titles.tokenized import TokenizedTitles
from ssljax.evaluation import Embeddings, Origin
from ssljax.evaluation.embed import TITLES, By, Embedder, Encoder
from ssljax.models import without_files
from ssljax.sharding import check_batch_size, make_mesh, one_device, replicated
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.run_folder import Run
from ssljax.training.state import StateSpec
from ssljax.types import Evaluator, Method, TitleMethod, TrainState, UserError

NETWORK_ALONE = ("data", "sampler", "monitor", "evaluate")
"""Parts of an experiment that embedding photos does without."""


@dataclasses.dataclass(frozen=True)
class Untrusted:
    """Stands for data or a sampler of the user's own class; raises UserError, which says why, when it is used."""

    reason: str

    def _refuse(self, *args: Any, **options: Any) -> NoReturn:
        raise UserError(self.reason)

    load = over = _refuse


def read_experiment(run: Run, without: Sequence[str] = ()) -> Experiment:
    """The experiment of a run folder, read from its config.json.

    Args:
        run: the folder.
        without: parts that are not needed. Those with classes of the user's own are replaced: "data" and "sampler" by
            `Untrusted`, "monitor" and "evaluate" by nothing.

    Raises:
        UserError: there is no such file, it is damaged or of another version, or another part has a class of the
            user's own.
    """
    if not os.path.isfile(run.config):
        raise UserError(
            f"{run.path} is not a run folder, as it has no {run.config.name}: name one that `ssljax train` made, or "
            "put the file back by the command that trained it"
        )
    remedy = "the `ssljax train` or `ssljax sweep` command of this run writes it anew"
    config, replaced = read_json(run.config, remedy, "class", "name", "data", "views", "method"), {}
    for name in without:
        try:
            from_json(config.get(name))
        except NotPublic as error:
            replaced[name] = () if name in ("monitor", "evaluate") else Untrusted(_untrusted(run, error))
        except (UserError, RecursionError):  # said below
            continue
    try:
        experiment = from_json({name: value for name, value in config.items() if name not in replaced})
    except NotPublic as error:
        raise UserError(_untrusted(run, error)) from None
    except (UserError, RecursionError) as error:
        raise UserError(
            f"{run.config} does not suit this version of ssljax ({error}): use the one that wrote it"
        ) from None
    if not isinstance(experiment, Experiment):
        raise UserError(f"{run.config} is damaged (it holds no Experiment): {remedy}")
    return dataclasses.replace(experiment, **replaced)


def _untrusted(run: Run, error: NotPublic) -> str:
    return (
        f"{run.config} names {error}: if you trust who made the run, --trust-code runs its copy of the experiment file"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Restored:
    """A trained state, and what embeds by it."""

    run: Run
    spec: StateSpec
    state: TrainState
    embedder: Embedder
    load: Callable[[str], Items]
    """a split of the experiment's data, read once"""
    seconds: float
    """that the training took, over all processes and with compilation"""
    titles: TokenizedTitles | None = None
    """what makes token ids of titles, if the network reads them"""

    @classmethod
    def of(
        cls,
        run: Run,
        experiment: Experiment | None = None,
        *,
        bad_inputs: Path | None = None,
        evaluate: bool = False,
        complete: bool = True,
    ) -> "Restored":
        """The newest checkpoint of a run.

        It is on one device, as how a batch is split over several decides the last digits. To `evaluate` it anew it is
        on all of them, and what the experiment starts from must be there.

        Args:
            run: the folder.
            experiment: that of the run, perhaps with other data; by default what `read_experiment` finds, which does
                without data of the user's own class.
            bad_inputs: the file that lists photos which cannot be read; by default that of the run.
            evaluate: whether what follows training is to be made anew, which is checked to be possible.
            complete: whether the training must be complete.

        Raises:
            UserError: there is no such checkpoint, it cannot be read, or the experiment cannot be evaluated.
        """
        if experiment is None:
            experiment = read_experiment(run, () if evaluate else NETWORK_ALONE)
        load = functools.cache(experiment.data.load)
        if evaluate:
            mesh = make_mesh(experiment.shards)
            check_batch_size(mesh, experiment.batch_size)
        else:
            experiment, mesh = dataclasses.replace(experiment, method=without_files(experiment.method)), one_device()
        remedy = "the same `ssljax train` command writes it anew"
        data = read_json(run.data, remedy, "photos", "steps_per_epoch", "batch")
        if evaluate:
            check_evaluation(experiment.evaluate, experiment.gallery, load, experiment.method)
        batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in data["batch"].items()}
        spec = StateSpec(experiment, mesh, batch, experiment.epochs * data["steps_per_epoch"])
        untrained = UserError(f"{run.path} has no checkpoint yet: train it first")
        if not run.checkpoints.exists():
            raise untrained
        with Checkpoints(run.checkpoints) as checkpoints:
            if checkpoints.latest is None:
                raise untrained
            state = checkpoints.restore(spec.shapes, spec.shardings)
        if complete and int(state.step) < spec.total_steps:
            remedy = f"delete {run.results} and train it again" if run.results.exists() else "train it to the end first"
            raise UserError(f"{run.path} is at step {int(state.step)} of {spec.total_steps}: {remedy}")
        titles = TokenizedTitles.of(experiment.titles, None, run.learnt or "")
        embedder = Embedder(experiment, mesh, load, run.bad_inputs() if bad_inputs is None else bad_inputs, titles)
        return cls(run, spec, state, embedder, load, checkpoints.position["seconds"], titles)

    @property
    def experiment(self) -> Experiment:
        """That of the run; without the files that a `Pretrained` starts from, unless it is to be evaluated."""
        return self.spec.experiment

    def origin(self, network: str = "student") -> Origin:
        """What the embeddings of a network come from, with the checksum of its weights.

        The student is the parameters; a teacher is in the rest of the state, wherever the method has it.
        """
        mesh = self.spec.mesh
        whole, weights = jax.jit(lambda x: x, out_shardings=replicated(mesh)), hashlib.sha256()
        for leaf in jax.tree.leaves(self.state.params if network == "student" else self.state.aux):
            if not (leaf.is_fully_addressable or leaf.is_fully_replicated):  # else it is put together on the host
                with jax.set_mesh(mesh):
                    leaf = whole(leaf)
            weights.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
        return Origin(str(self.run.path.absolute()), weights.hexdigest(), network)

    def check_network(self, network: str) -> None:
        """Raises UserError if the method has no such network."""
        if network not in self.embedder.networks:
            raise UserError(
                f"network={network}: the method of {self.run.path} has no {network} to embed with, only a student"
            )

    def encoder(self, network: str = "student") -> Encoder:
        """What embeds single photos, and titles if the network reads them; raises UserError as `check_network`."""
        self.check_network(network)
        size = self.experiment.photo_size

        def vectors(batch: dict[str, np.ndarray], which: str) -> np.ndarray:
            count = len(batch["image"])
            rows = np.arange(1 << (count - 1).bit_length()).clip(max=count - 1)  # compiled for powers of two alone
            return self.embedder.batch(self.state, {key: value[rows] for key, value in batch.items()}, which)[:count]

        def embed(image: np.ndarray, aspect: np.ndarray, titles: Sequence[str] | None = None) -> np.ndarray:
            batch = {"image": image[:, None], "aspect": aspect[:, None]}
            if titles is not None and self.titles is not None:
                batch["title"] = self.titles.ids(list(titles))[:, None]
            return vectors(batch, network)

        def embed_titles(titles: Sequence[str]) -> np.ndarray:
            assert self.titles is not None
            batch = {
                "image": np.zeros((len(titles), 1, size, size, 3), np.uint8),
                "aspect": np.ones((len(titles), 1), np.float32),
                "title": self.titles.ids(list(titles))[:, None],
                "has_photo": np.zeros((len(titles), 1), bool),
            }
            return vectors(batch, TITLES if self.embedder.embeds_titles else network)

        return Encoder(embed, size, self.origin(network), embed_titles if self.titles else None)

    def embed(self, splits: Sequence[str], network: str = "student", by: By = "both") -> Embeddings:
        """Splits of the experiment's data, one after the other; photos that cannot be read are left out.

        by: what the network sees of an item. Where it embeds photos and titles apart, "both" gives `title_vectors`
            beside the photos' `vectors`, and "title" the titles' as `vectors`.

        Raises UserError if the method has no such network, or does not read titles.
        """
        self.check_network(network)
        if by != "both" and self.titles is None:
            raise UserError(f"by={by}: the network of {self.run.path} reads no titles, only photos: leave it out")
        apart = self.embedder.embeds_titles
        embedder = self.embedder if by == "both" or apart else self.embedder.only(by)
        embed = embedder.by(self.state, network)
        embeddings = Embeddings.joined([embed(split) for split in splits])
        if apart and by == "title":
            embeddings = embeddings.of_titles
        elif by == "photo":
            embeddings = dataclasses.replace(embeddings, title_vectors=None)
        return dataclasses.replace(embeddings, origin=self.origin(network))


def check_evaluation(
    evaluators: Sequence[Evaluator], gallery: Sequence[str], load: Callable[[str], Items], method: Method
) -> None:
    """Raises UserError if the evaluation would fail: a split or a column that is not there, and the like."""

    @functools.cache
    def unseen(split: str) -> Embeddings:
        return Embeddings.unseen(load(split), isinstance(method, TitleMethod))

    for evaluator in evaluators:
        evaluator.check(unseen)
    for split in gallery:
        unseen(split)
