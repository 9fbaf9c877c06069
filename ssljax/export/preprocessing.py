"""What is written beside an export so that photos become its input: preprocess.py and its settings."""

import importlib.resources
from pathlib import Path
from typing import Any

from ssljax.data.atomic_files import write_json, write_text
from ssljax.export.network import Network
from ssljax.views import Masked, OneCropEach


def settings_of(network: Network) -> dict[str, Any]:
    """What preprocess.py does, as JSON; of views of the user's own class it knows the size of the photos alone."""
    views, size = network.experiment.normalised_views, network.experiment.photo_size
    if isinstance(views, Masked):
        views = views.crops
    known: dict[str, Any] = {"photo_size": size, "view_size": network.view_size()}
    if not isinstance(views, OneCropEach) or type(views).evaluation is not OneCropEach.evaluation:
        return known
    return known | {name: getattr(views, name) for name in ("fit", "ratio", "share", "resampling", "mean", "std")}


def write_preprocessing(network: Network, folder: Path) -> None:
    """Writes preprocess.py and preprocessing.json into a folder."""
    code = importlib.resources.files("ssljax.export").joinpath("preprocess.py").read_text()
    write_text(folder / "preprocess.py", code)
    write_json(folder / "preprocessing.json", settings_of(network))
