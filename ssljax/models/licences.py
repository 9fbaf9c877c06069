"""The licences of the weights that modules start from."""

from importlib import metadata
from typing import Any

from ssljax.models.pretrained import pretrained_in
from ssljax.models.weights.load import forget, read_cached
from ssljax.packages import PACKAGE
from ssljax.types import UserError


def starts_of(method: Any) -> list[dict[str, str | None]]:
    """What the modules of a method start from: `weights`, as `Pretrained` has it, and its `license`, None if unstated.

    A file states it in its metadata; an installed package in its own, or by the first line of its licence file.
    """
    found = dict.fromkeys(start.weights for start in pretrained_in(method) if start.weights)
    return [{"weights": weights, "license": _licence(weights)} for weights in found]


def _licence(weights: str) -> str | None:
    try:
        said = read_cached(weights).metadata.get("license")
        forget()
        if said or not weights.startswith(PACKAGE):
            return said
        return _of_package(metadata.distribution(weights.removeprefix(PACKAGE)))
    except (UserError, OSError, UnicodeDecodeError, metadata.PackageNotFoundError):
        return None


def _of_package(package: metadata.Distribution) -> str | None:
    for field in ("License-Expression", "License"):
        licence = package.metadata[field].strip() if field in package.metadata else ""
        if licence not in ("", "UNKNOWN"):  # what setuptools writes if nobody stated one
            return licence.splitlines()[0]
    for classifier in package.metadata.get_all("Classifier") or ():
        if classifier.startswith("License :: "):
            return classifier.rpartition(" :: ")[2]
    for file in package.files or ():
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            return next((line.strip() for line in file.read_text().splitlines() if line.strip()), None)
    return None
