"""The network of a run as functions of arrays alone, for export."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from ssljax.config import Experiment
from ssljax.evaluation.restore import Restored
from ssljax.models import Fusion, Joined, Listing, Wrapped
from ssljax.sharding import for_any_platform
from ssljax.types import Array, PyTree, UserError, WeightsMethod

Part = Literal["backbone", "projection"]
MODULES = {"backbone": ("encoder",), "projection": ("encoder", "projector")}
PARTS: dict[str, Part] = {"encoder": "backbone", "projector": "projection"}  # by what `MetricLearning.embedding` says


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """What is exported: modules applied one after the other to a view of a photo, with their trained variables."""

    restored: Restored
    name: str
    """student or teacher"""
    part: Part
    modules: dict[str, Any]
    """encoder, and projector if it is part of the embedding"""
    variables: dict[str, PyTree]
    """of each module, on the host"""

    @classmethod
    def of(cls, restored: Restored, name: str = "student", part: Part | None = None) -> "Network":
        """A network of a run.

        Args:
            restored: the run.
            name: student or teacher.
            part: backbone for the encoder, projection for encoder and projector; None for what the method embeds by.

        Raises:
            UserError: the method has no such network, or its weights are those of a file.
        """
        restored.check_network(name)
        method, path = restored.experiment.method, restored.run.path
        part = part or _embedding_part(method)
        if not isinstance(method, WeightsMethod):
            raise UserError(f"{path} cannot be exported: {type(method).__name__} does not define `weights`")
        if isinstance(getattr(method, "encoder", None), Fusion):
            raise UserError(
                f"{path} cannot be exported: its encoder reads titles too, and an export takes photos alone"
            )
        saved = jax.device_get(method.weights(restored.state.params, restored.state.aux))
        if name not in saved:
            raise UserError(f"network={name} is frozen, and has the weights of a file: convert that one instead")
        lacking = [n for n in MODULES[part] if n not in saved[name] or not hasattr(method, n)]
        if lacking:
            raise UserError(f"part={part} is not in {path}: {type(method).__name__} has no {lacking[0]} of its own")
        names = MODULES[part]
        modules = {n: _bare(getattr(method, n)) for n in names}
        return cls(restored, name, part, modules, {n: saved[name][n] for n in names})

    @property
    def experiment(self) -> Experiment:
        """That of the run."""
        return self.restored.experiment

    @property
    def encoder(self) -> Any:
        """The linen module of the backbone."""
        return self.modules["encoder"]

    @property
    def is_embedding(self) -> bool:
        """Whether this part is what `ssljax embed` gives, and not another one."""
        return self.part == _embedding_part(self.experiment.method)

    def in_float32(self) -> "Network":
        """The same network, with modules that compute in float32."""
        return dataclasses.replace(self, modules={name: _in_float32(m) for name, m in self.modules.items()})

    def view(self, image: Array, aspect: Array) -> Array:
        """f32[B, V, V, 3], normalised, of decoded photos u8[B, S, S, 3] and their aspect ratios f32[B]."""
        with for_any_platform():
            batch = self.experiment.normalised_views.evaluation({"image": image[:, None], "aspect": aspect[:, None]})
        view = batch["views"][0]
        return view.photo if isinstance(view, Listing) else view

    def embed(self, view: Array) -> Array:
        """f32[B, D] of views f32[B, V, V, 3]."""
        with for_any_platform(), jax.default_matmul_precision(self.experiment.evaluation_precision):
            for name, module in self.modules.items():
                view = module.apply(self.variables[name], view, train=False)
        return view

    def embed_photos(self, image: Array, aspect: Array) -> Array:
        """f32[B, D] of decoded photos, as `view` takes them."""
        return self.embed(self.view(image, aspect))

    def view_size(self) -> int:
        """V, the side of a view in pixels."""
        size = self.experiment.photo_size
        photos = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8), jax.ShapeDtypeStruct((1,), np.float32)
        return jax.eval_shape(self.view, *photos).shape[1]

    def difference(self, image: np.ndarray, aspect: np.ndarray, embeddings: np.ndarray) -> float:
        """The largest difference of an export's embeddings of photos from those of `ssljax embed`.

        In units of the largest number in those, if that is above 1.
        """
        if self.is_embedding:
            wanted = self.restored.encoder(self.name).embed(image, aspect)
        else:
            wanted = np.asarray(jax.jit(self.embed_photos)(image, aspect))
        return float(np.abs(embeddings - wanted).max() / max(1.0, np.abs(wanted).max()))


def _embedding_part(method: Any) -> Part:
    return PARTS[getattr(method, "embedding", "encoder")]


def _bare(module: Any) -> Any:
    """The linen module itself, without what begins it or freezes it."""
    while isinstance(module, Wrapped):
        module = module.module
    return Joined(tuple(map(_bare, module.encoders))) if isinstance(module, Joined) else module


def _in_float32(module: Any) -> Any:
    if isinstance(module, Joined):
        return Joined(tuple(map(_in_float32, module.encoders)))
    return module.clone(dtype="float32") if getattr(module, "dtype", "float32") != "float32" else module


def trial_photos(size: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Photos u8[count, size, size, 3] of noise and their aspect ratios f32[count], to compare an export by."""
    rng = np.random.default_rng(0)
    aspect = np.linspace(0.5, 2.0, count, dtype=np.float32)
    return rng.integers(0, 256, (count, size, size, 3), np.uint8), aspect
