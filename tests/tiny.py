"""Shapes and models so small that a training step compiles in a second or two; shared by the tests."""

import functools

import jax
import numpy as np

from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.evaluation import KNN, FewShot, LinearProbe, Retrieval
from ssljax.methods import EMA, MoCo, SimCLR
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.search import Exact
from ssljax.sharding import make_mesh, place_batch, replicated, state_sharding
from ssljax.train import init_state, train_step
from ssljax.views import TwoCrops

BATCH = 16
STEPS = 20
ENCODER = ResNet(depth=10, stem="imagenet", width=4)
VIEWS = TwoCrops(size=16, blur=0.0)
CROPS = TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0)
"""For steps that are not about views: colours take as long to compile as the network."""
MOCO = MoCo(encoder=ENCODER, projector=MLP(hidden=(16,), out=8), queue_size=3 * BATCH, teacher=EMA(momentum=0.9))
SIMCLR = SimCLR(encoder=ENCODER, projector=MLP(hidden=(16,), out=8, batch_norm=True))
OPTIMIZER = SGD(lr=0.1, weight_decay=1e-4)
EXPERIMENT = Experiment(
    name="tiny",
    data=ToyCatalogue(listings=32, photos=3, size=32),
    views=CROPS,
    method=MOCO,
    optimizer=SGD(lr=0.05),
    epochs=2,
    batch_size=BATCH,
    photo_size=20,
    log_every=1,
    monitor=(KNN(k=5, split="val"), FewShot(shots=(1,), draws=2, split="val")),
    monitor_every=1,
    evaluate=(Retrieval(), LinearProbe(epochs=2), KNN(k=5)),
    index=Exact(),
)


TOKENS = 64


def photos(step: int = 0, title_length: int = 6) -> dict[str, np.ndarray]:
    """A batch of random photos with random titles, of which some are empty; another for every step."""
    rng = np.random.default_rng(step)
    titles, lengths = np.random.default_rng(step + 100), (np.arange(BATCH) + step) % (title_length + 1)
    tokens = titles.integers(0, TOKENS, (BATCH, title_length))
    return {
        "title": np.where(np.arange(title_length) < lengths[:, None], tokens, -1).astype(np.int32)[:, None],
        "image": rng.integers(0, 256, (BATCH, 1, 20, 20, 3), np.uint8),
        "aspect": rng.uniform(0.5, 2.0, (BATCH, 1)).astype(np.float32),
        "index": np.arange(BATCH, dtype=np.int32),
        "label": np.arange(BATCH, dtype=np.int32) // 2,
    }


@functools.cache
def seen(views, step: int = 0):
    """What the loss sees of the photos of a step, on the host."""
    return jax.device_get(jax.jit(lambda rng, batch: views(rng, batch))(jax.random.PRNGKey(0), photos(step)))


class Training:
    """A method's state and compiled step on `devices` devices; its schedules are those of a training of `steps`.

    Batches are `photos(step)`.
    """

    def __init__(
        self,
        method,
        *,
        views=VIEWS,
        optimizer=OPTIMIZER,
        steps=STEPS,
        devices: int = 1,
        shards: int = 1,
        photos=photos,
    ):
        compiled = _compiled(method, views, optimizer, steps, devices, shards, photos)
        self.mesh, self.shardings, self.state, self.step = compiled
        self.photos = photos

    def batch(self, step: int) -> dict[str, jax.Array]:
        """Photos of a step, placed on the mesh."""
        return place_batch(self.mesh, self.photos(step))

    def run(self, steps: int, photos=None) -> dict[str, jax.Array]:
        """Trains on with the photos of each step; gives the last step's figures."""
        metrics, photos = {}, photos or self.photos
        for _ in range(steps):
            with jax.set_mesh(self.mesh):
                batch = place_batch(self.mesh, photos(int(self.state.step)))
                self.state, metrics = self.step(self.state, batch)
        return metrics


@functools.cache
def _compiled(method, views, optimizer, steps, devices, shards, photos):
    """Tests share what is compiled; the step does not donate, so that they share the initial state too."""
    tx, mesh = optimizer.build(steps, method), make_mesh(shards, jax.devices()[:devices])
    make = functools.partial(init_state, augment=views, method=method, tx=tx)
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(make, jax.random.PRNGKey(0), photos())
        shardings = state_sharding(mesh, shapes)
        state = jax.jit(make, out_shardings=shardings)(jax.random.PRNGKey(0), place_batch(mesh, photos()))
    step = functools.partial(train_step, augment=views, method=method, tx=tx, total_steps=steps)
    return mesh, shardings, state, jax.jit(step, out_shardings=(shardings, replicated(mesh)))
