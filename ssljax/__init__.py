"""Embeddings that find the same item again: contrastive, distillation and metric learning in JAX.

    model = ssljax.train(ssljax.Experiment(name="shop", data=Folder("shop_photos")))
    model = ssljax.load("runs/shop")  # or of the Hugging Face hub: "hf://user/name"
    vectors = model.embed("new_photos").vectors
    matches = model.index().search("a_photo.jpg")

Nothing is imported before it is used: `import ssljax` is quick, and leaves JAX to be configured.
"""

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssljax.config import Experiment
    from ssljax.search.model import Model

__all__ = ["Experiment", "load", "train"]


def load(run: str | os.PathLike, *, network: str = "student", experiment: "Experiment | None" = None) -> "Model":
    """Loads a trained run, to embed photos and search.

    It reads config.json and the newest checkpoint, and executes nothing that came with the run.

    Args:
        run: the run folder, such as "runs/shop"; or a run that `ssljax push` put on the Hugging Face hub, such as
            "hf://user/name" or "hf://user/name@revision".
        network: "student", or "teacher" if the method has one.
        experiment: what was trained; only needed if its method or views are of your own classes.

    Raises:
        UserError: it is no run folder, is not trained to the end, or needs classes that are not ssljax's; or it is not
            on the hub, or not as it was pushed.
    """
    from ssljax.config import Experiment
    from ssljax.data.paths import as_path
    from ssljax.evaluation.restore import Restored
    from ssljax.export.hub import local
    from ssljax.search.model import Model
    from ssljax.training.run_folder import Run
    from ssljax.types import UserError, short

    if not isinstance(experiment, Experiment | None):
        raise UserError(f"experiment={short(experiment)} must be the Experiment that was trained, or be left out")
    path = local(run) if isinstance(run, str) else as_path(run, "run")
    return Model(Restored.of(Run(path), experiment), network)


def _train(experiment: "Experiment", runs: str | os.PathLike = "runs", *, restart: bool = False) -> "Model":
    """Trains an experiment as `ssljax train` does, and loads what came out.

    If the run folder holds a part of this training, it goes on from there; if it holds all of it, the run is loaded.

    Args:
        experiment: what to train.
        runs: the folder of run folders; this one is `runs`/`experiment.name`.
        restart: whether to delete the run folder and start anew.

    Raises:
        UserError: the experiment does not suit its data, or the run folder is of another experiment.
        RunStopped: the loss is no longer finite.
    """
    from ssljax.cli.shared import Where
    from ssljax.cli.train import train_run
    from ssljax.config import Experiment
    from ssljax.data.paths import as_path
    from ssljax.training.compilation_cache import keep_compiled
    from ssljax.types import UserError, short

    if not isinstance(experiment, Experiment):
        raise UserError(f"experiment={short(experiment)} must be an Experiment: ssljax.Experiment(name='shop', ...)")
    keep_compiled()
    folder = as_path(runs, "runs")
    recorded = {"arguments": [], "position": None}
    again = "ssljax.train(experiment)"
    train_run(None, experiment, recorded, again, Where(runs=folder, restart=restart), signals=False)
    return load(folder / experiment.name, experiment=experiment)


class TrainModule(ModuleType):
    """The module `ssljax.train`, which has the training step, called as a function: `ssljax.train(experiment)`.

    Python makes a module an attribute of its package when it is imported, over any function of that name.
    """

    __call__ = staticmethod(_train)


if TYPE_CHECKING:
    train = _train
    __version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ssljax")
    if name == "Experiment":
        return importlib.import_module("ssljax.config").Experiment
    if name == "train":
        return importlib.import_module("ssljax.train")
    raise AttributeError(f"module 'ssljax' has no attribute {name!r}")
