"""StableHLO, which JAX and XLA load on any machine: one file with the weights and the preprocessing of photos."""

from pathlib import Path

import jax
import numpy as np

from ssljax.data.atomic_files import replace_file
from ssljax.export.network import Network, trial_photos

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(network: Network, folder: Path) -> float:
    """Writes model.stablehlo; returns how far its embeddings are from those of `ssljax embed`."""
    (batch,) = jax.export.symbolic_shape("batch")
    size = network.experiment.photo_size
    exported = jax.export.export(jax.jit(network.embed_photos), platforms=PLATFORMS)(
        image=jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8), aspect=jax.ShapeDtypeStruct((batch,), np.float32)
    )
    content = exported.serialize()
    image, aspect = trial_photos(size)
    embeddings = np.asarray(jax.export.deserialize(content).call(image=image, aspect=aspect))
    replace_file(folder / FILE, lambda file: file.write(content))
    return network.difference(image, aspect, embeddings)
