"""A checkpoint that cannot be read: the older one is used, and nothing is deleted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.checkpoint import Checkpoints
from ssljax.sharding import make_mesh, replicated
from ssljax.types import UserError


def state(step):
    return {"w": jnp.full((4, 3), step, jnp.float32), "step": jnp.array(step)}


def restore(checkpoints):
    shapes = jax.eval_shape(lambda: state(0))
    sharding = replicated(make_mesh())
    return checkpoints.restore(shapes, jax.tree.map(lambda _: sharding, shapes))


def save(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"data": step})
            checkpoints.wait()


def truncate(folder):
    """Cuts every file of a checkpoint in half."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder):
    """Deletes every file of a checkpoint."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.unlink()


def forget_position(folder):
    """Deletes what was saved beside the state."""
    empty(folder / "position")


@pytest.mark.parametrize("damage", [truncate, empty, forget_position])
def test_the_older_one_is_used_and_the_run_goes_on(damage, tmp_path, capsys):
    save(tmp_path, 1, 5)
    damage(tmp_path / "5")
    with Checkpoints(tmp_path) as checkpoints:
        np.testing.assert_array_equal(restore(checkpoints)["w"], state(1)["w"])
        assert checkpoints.position == {"data": 1}
        assert f"{tmp_path / '5'} cannot be read" in capsys.readouterr().err
        assert (tmp_path / "5").is_dir()  # reading alone changes nothing
        checkpoints.save(3, state(3), {"data": 3})
        checkpoints.wait()
        checkpoints.save(5, state(5), {"data": 5})
    assert len(list(tmp_path.glob("damaged-5-*"))) == 1
    with Checkpoints(tmp_path) as checkpoints:
        assert int(restore(checkpoints)["step"]) == checkpoints.latest == 5
        assert checkpoints.position == {"data": 5}
    assert not capsys.readouterr().err


def test_none_that_can_be_read_is_said_and_none_is_touched(tmp_path):
    save(tmp_path, 1, 5)
    truncate(tmp_path / "1")
    truncate(tmp_path / "5")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r"no checkpoint in .* \(5: .*; 1: .*\)"):
        restore(checkpoints)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "5"}
