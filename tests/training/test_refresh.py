"""A sampler that looks at the embeddings during training: what it goes by, and that a stopped run goes on the same."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from two_processes import together

from ssljax.config import Experiment
from ssljax.data import AttributeTriplets, ToyCatalogue, Triplets
from ssljax.evaluation.embed import Embedder
from ssljax.methods import GivenTriplets
from ssljax.models import ResNet
from ssljax.optim import SGD
from ssljax.search import Exact
from ssljax.training import loop
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.loop import train
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import UserError
from ssljax.views import OneCropEach

MINING = AttributeTriplets(("shape", "colour"), cuts=(1.0, 0.5, 0.0), draws=(1, 1, 1))
EXPERIMENT = Experiment(
    name="refreshed",
    data=ToyCatalogue(listings=40),
    sampler=Triplets(MINING, refresh_every=1, among=4),
    views=OneCropEach(size=16, jitter=0.0, grey=0.0, blur=0.0),
    method=GivenTriplets(encoder=ResNet(depth=10, stem="imagenet", width=4)),
    optimizer=SGD(lr=0.05),
    epochs=3,
    batch_size=16,
    photo_size=20,
    log_every=1,
    index=Exact(),
    evaluate=(),
)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.of(EXPERIMENT)


def new_run(folder: Path, setup: Setup) -> Run:
    run = Run(folder / "refreshed")
    run.prepare(EXPERIMENT, Path(__file__), {}, setup.data, restart=False)
    return run


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory) -> tuple[Run, dict[int, np.ndarray]]:
    """A run that was never stopped, and all triplets that it was trained on, by the step from which on."""
    run, found, refresh = new_run(tmp_path_factory.mktemp("whole"), setup), {}, Triplets.refresh

    def noted(self, items, embeddings, again, path):
        refresh(self, items, embeddings, again, path)
        found[int(path.stem)] = np.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Triplets, "refresh", noted)
        assert train(setup, run, command="") is not None
    return run, found


def mined(run: Run) -> dict[int, np.ndarray]:
    """The triplets that are kept, by the step from which on they are used."""
    return {int(path.stem): np.load(path) for path in (run.path / "refreshed").glob("*.npy")}


def last_state(setup: Setup, run: Run):
    with Checkpoints(run.checkpoints) as checkpoints:
        return checkpoints.restore(setup.spec.shapes, setup.spec.shardings)


def embeddings(setup, state) -> np.ndarray:
    """f32[n, D], the train split's."""
    embedder = Embedder(EXPERIMENT, setup.mesh, setup.load)
    return embedder.by(state)("train").vectors


def test_negatives_are_the_nearest_by_the_encoder_as_it_is(setup, whole):
    items, steps, (_, found) = setup.load("train"), setup.steps_per_epoch, whole
    assert sorted(found) == [0, steps, 2 * steps]
    z = embeddings(setup, setup.spec.initial())
    assert np.array_equal(found[0], MINING.mine(items, embeddings=z, among=4))
    for again, step in enumerate(sorted(found)):
        drawn = MINING.mine(items, again=again)
        assert np.array_equal(found[step][..., 0], drawn[..., 0])
        assert (found[step][..., 1] != drawn[..., 1]).mean() > 0.4
        assert np.array_equal(found[step] < 0, found[0] < 0)  # the same anchors, so as many steps
    assert (found[0] != found[steps]).any()


def test_stopped_in_an_epoch_and_continued_is_the_same_run(setup, whole, tmp_path, monkeypatch):
    run, steps, (straight, found) = new_run(tmp_path, setup), setup.steps_per_epoch, whole
    for stop in (steps - 2, steps, steps + 1, 2 * steps + 1):  # in an epoch, at its end, past it, past two

        def agreed(request, step, count, every, stop=stop):
            request.asked = step == stop
            return request.asked

        with monkeypatch.context() as patch:
            patch.setattr(loop, "_agreed", agreed)
            assert train(setup, run, command="") is None
    kept = mined(run)
    assert sorted(kept) == [steps, 2 * steps]  # no checkpoint needs the first any more
    assert sorted(path.name for path in (run.path / "refreshed").iterdir()) == [f"{2 * steps}.npy", f"{steps}.npy"]
    assert all(np.array_equal(triplets, found[step]) for step, triplets in kept.items())
    path = run.refreshed(2 * steps)
    away = path.rename(tmp_path / "away")
    with pytest.raises(
        UserError, match=rf"{2 * steps}.npy does not serve \(.* is not there.*put it back, or --restart"
    ):
        train(setup, run, command="")
    away.rename(path)
    assert train(setup, run, command="") is not None
    for one, other in zip(*(jax.tree.leaves(last_state(setup, r)) for r in (straight, run)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_two_processes_refresh_as_one(whole, tmp_path):
    source = Path(__file__).read_text()
    config = source[source.index("MINING =") : source.index("@pytest.fixture")].replace("EXPERIMENT", "config")
    imports = [line for line in source.splitlines() if line.startswith("from ssljax.")]
    (tmp_path / "small.py").write_text("\n".join([*imports, config]))
    command = [sys.executable, "-m", "ssljax.cli.main", "train", "small.py", "--distributed"]
    both = [subprocess.Popen(command, env=e, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for e in together()]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    ((step, theirs),) = mined(Run(tmp_path / "runs" / "refreshed")).items()
    assert step == max(whole[1]) and np.mean(theirs == whole[1][step]) > 0.8  # embeddings differ in their last digits
