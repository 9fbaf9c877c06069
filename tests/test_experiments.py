"""Every experiment file loads, and each of its experiments makes a state for a batch of the right shapes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ssljax.data import Triplets
from ssljax.models import without_files
from ssljax.train import init_state
from ssljax.training.experiment_file import load_experiments

ROOT = Path(__file__).parent.parent / "experiments"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_experiments_fit_together(file):
    config, sweep = load_experiments(ROOT / file)
    names = [e.name for e in sweep]
    assert len(set(names)) == len(names)
    for e in {id(e): e for e in (config, *sweep[:1], *sweep[-1:])}.values():
        photos = 3 if isinstance(e.sampler, Triplets) else getattr(e.sampler, "photos", 1)
        batch = {
            "image": jax.ShapeDtypeStruct((e.batch_size, photos, e.photo_size, e.photo_size, 3), jnp.uint8),
            "aspect": jax.ShapeDtypeStruct((e.batch_size, photos), jnp.float32),
            "label": jax.ShapeDtypeStruct((e.batch_size,), jnp.int32),
            "attributes": jax.ShapeDtypeStruct((e.batch_size, 3), jnp.int32),
        }
        tx = e.optimizer.build(1000, e.method)

        def init(batch, e=e, tx=tx):
            method = without_files(e.method)  # whose runs are not there
            return init_state(jax.random.PRNGKey(0), batch, augment=e.views, method=method, tx=tx)

        assert jax.tree.leaves(jax.eval_shape(init, batch).params)
