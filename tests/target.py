"""Meshes of machines that are not here, for what is compiled ahead of time."""

from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from ssljax.sharding import BATCH_AXES


def mesh_of(platform: str, devices: int = 1) -> AbstractMesh:
    """A mesh of as many devices of a platform: "cpu", "gpu" or "tpu"."""
    device = AbstractDevice(device_kind=platform, num_cores=None, platform=platform)
    return AbstractMesh((devices, 1), BATCH_AXES, (AxisType.Auto,) * 2, abstract_device=device)
