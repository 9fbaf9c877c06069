"""A file to the variables of a module: the whole way, for files of runs and for those of other libraries."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ssljax.models.weights.architecture import contradicted, stated_settings
from ssljax.models.weights.checkpoints import encoder_tensors
from ssljax.models.weights.files import WeightsFile, read_weights
from ssljax.models.weights.layouts import guess, layout_of, written
from ssljax.models.weights.location import located
from ssljax.models.weights.names import Report, Tensors, to_ours
from ssljax.models.weights.preprocessing import Preprocessing, stated_preprocessing
from ssljax.models.weights.vit import resized_positions
from ssljax.types import UserError

POSITIONS = "params/positions"  # a ViT's


class Loaded(NamedTuple):
    """What a file has for a module."""

    variables: dict[str, np.ndarray]
    """by flat name, such as params/stem_conv/kernel"""
    report: Report | None
    """what of another library's file was taken; None for the file of a run"""
    preprocessing: Preprocessing | None
    """how photos were prepared when the weights were trained, if that is said in the file or beside it"""


def load_variables(
    path: str, module: Any, part: str = "encoder", shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Loaded:
    """A module's variables from a file. Their shapes are the file's.

    Args:
        path: of a run, or of another library; or what else `located` takes.
        module: whose they are to be.
        part: which of a run's modules; of another library's student and teacher, which of the two.
        shapes: of the module's variables. Another library's learnt positions are resized to theirs.

    Raises:
        UserError: the file cannot be read, it is another module's, or a value is not finite.
    """
    file = read_cached(path)
    if is_own(file):
        variables, report = _own(path, file.tensors, part), None
    else:
        variables, report = _foreign(path, file.tensors, module, part)
        there, wanted = variables.get(POSITIONS), (shapes or {}).get(POSITIONS)
        if (
            there is not None
            and wanted
            and len(wanted) == 3
            and there.shape[2:] == wanted[2:]
            and there.shape != wanted
        ):
            variables[POSITIONS] = resized_positions(there, (wanted[0], wanted[1]))
    for name, values in variables.items():
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise UserError(f"weights={path}: {name} holds {values.dtype}, but weights are floating-point numbers")
        if not np.isfinite(values.astype(np.float32)).all():
            raise UserError(f"weights={path} are damaged: {name} has values that are not finite; get the file again")
        if name.startswith("batch_stats/") and name.endswith("/var") and np.any(values < 0):
            raise UserError(f"weights={path} are damaged: {name} has negative variances; get the file again")
    if report or (part == "encoder" and "module" in file.metadata):
        settings = stated_settings(located(path), file.metadata, module)
        if contradicted(module, settings):
            raise UserError(f"weights={path} are of {written(module.clone(**settings))}, not of {written(module)}")
    of_photos = not hasattr(module, "vocabulary") and (report or part == "encoder")
    stated = stated_preprocessing(located(path), file.metadata) if of_photos else None
    return Loaded(variables, report, stated)


def read_cached(path: str) -> WeightsFile:
    """`read_weights`, which keeps the last file until `forget` is called."""
    path = located(path)
    stat = os.stat(path) if os.path.isfile(path) else None
    return _read(path, stat and (stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=1)
def _read(path: str, changed: Any) -> WeightsFile:
    try:
        return read_weights(path)
    except UserError as error:
        raise UserError(f"weights={error}") from None


forget = _read.cache_clear


def remedy(path: str) -> str:
    """The end of a sentence about a file whose weights do not fit: what they look like."""
    file = read_cached(path)
    if is_own(file):
        return "give the module the settings of the run that wrote them"
    like = guess(file.tensors)
    return "they look like no encoder of ssljax" if like is None else f"they look like those of {written(like)}"


def is_own(file: WeightsFile) -> bool:
    """Whether a run wrote the file, or `ssljax import`."""
    return file.format == "safetensors" and any("/params/" in name for name in file.tensors)


def _own(path: str, tensors: Tensors, part: str) -> dict[str, np.ndarray]:
    inside = {name.removeprefix(f"{part}/"): x for name, x in tensors.items() if name.startswith(f"{part}/")}
    if not inside:
        parts = ", ".join(sorted({name.partition("/")[0] for name in tensors}))
        raise UserError(f"part={part} is not in {path}, which has {parts}")
    return inside


def _foreign(path: str, tensors: Tensors, module: Any, part: str) -> tuple[dict[str, np.ndarray], Report]:
    try:
        encoder = encoder_tensors(tensors, None if part == "encoder" else part)
    except UserError as error:
        raise UserError(f"weights={path}: {error}") from None
    layout = layout_of(module)
    try:
        variables, report = to_ours(layout, encoder.tensors)
    except UserError as error:
        raise UserError(f"weights={path} do not fit {written(module)}: {error}; {remedy(path)}") from None
    if not report.complete:
        raise UserError(f"weights={path} do not fit {written(module)}: {_wrong(report)}; {remedy(path)}")
    return variables, dataclasses.replace(report, ignored=report.ignored + encoder.left_over)


def _wrong(report: Report) -> str:
    """What is wrong with a report, in words: 2 tensors are missing (bn1.weight, bn1.bias)."""
    wrong = {"missing": report.missing, "unknown": report.unknown}
    return " and ".join(_counted(names, what) for what, names in wrong.items() if names)


def _counted(names: Sequence[str], what: str) -> str:
    number = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{number} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
