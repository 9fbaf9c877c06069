"""SavedEmbeddings: a network that follows a frozen one trains on what that one made, without the photos."""

import dataclasses
import pickle

import numpy as np
import pytest
from tiny import BATCH, EXPERIMENT

from ssljax.data import Classes, Listings, ToyCatalogue
from ssljax.evaluation import Embeddings, Retrieval, SavedEmbeddings, Whitening
from ssljax.evaluation.vectors import normalise
from ssljax.methods import MetricLearning, SimCLR
from ssljax.models import MLP, Identity
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import UserError
from ssljax.views import SavedVectors

SIMCLR_OF_VECTORS = SimCLR(Identity(), MLP(hidden=(), out=3))
TOY = ToyCatalogue(listings=32, photos=3, size=16)


@pytest.fixture
def saved(tmp_path):
    items = [TOY.load(split) for split in ("train", "val", "test")]
    ids = np.concatenate([part.ids for part in items])
    vectors = np.random.default_rng(0).normal(size=(len(ids), 5)).astype(np.float32)
    path = tmp_path / "all.npz"
    Embeddings(ids[1:], vectors[1:]).save(path)  # one photo was not embedded
    return SavedEmbeddings(TOY, str(path)), dict(zip(ids[1:].tolist(), vectors[1:], strict=True))


def test_items_have_their_vectors(saved):
    source, vectors = saved
    whole = TOY.load("train")
    items = source.load("train")
    assert items.ids.tolist() == whole.ids[1:].tolist() and items.vectors.shape == (len(whole) - 1, 5)
    for row in (0, 7, -1):
        np.testing.assert_array_equal(items.vectors[row], vectors[items.ids[row]])
    np.testing.assert_array_equal(items.select(np.array([3, 1])).vectors, items.vectors[[3, 1]])
    np.testing.assert_array_equal(items.label, whole.label[1:])


def test_a_run_folder_has_a_file_for_each_split(saved, tmp_path):
    source, _ = saved
    for split in ("train", "test"):
        items = source.load(split)
        (tmp_path / "run/embeddings").mkdir(parents=True, exist_ok=True)
        Embeddings(items.ids, items.vectors).save(tmp_path / "run/embeddings" / f"{split}.npz")
    run = dataclasses.replace(source, path=str(tmp_path / "run"))
    np.testing.assert_array_equal(run.load("test").vectors, source.load("test").vectors)
    with pytest.raises(UserError, match=r"there are no embeddings .*val\.npz"):
        run.load("val")


def test_vectors_of_two_files_are_joined_side_by_side(saved, tmp_path):
    source, vectors = saved
    items = source.load("train")
    other = np.random.default_rng(1).normal(size=(len(items) - 2, 2)).astype(np.float32)
    Embeddings(items.ids[2:], other).save(tmp_path / "other.npz")  # without two items
    both = SavedEmbeddings(source, str(tmp_path / "other.npz")).load("train")
    assert both.ids.tolist() == items.ids[2:].tolist()
    np.testing.assert_array_equal(both.vectors, np.concatenate([[vectors[id] for id in both.ids], other], axis=1))


@pytest.mark.parametrize("labels", [None, "listing"])
def test_vectors_are_whitened_by_those_of_one_split(saved, labels):
    source, _ = saved
    whitening = Whitening(dim=3, shrinkage=0.1, labels=labels, parts=(2, 3))
    white = dataclasses.replace(source, whitening=whitening)
    splits = {split: source.load(split) for split in ("train", "test")}
    embeddings = {split: Embeddings.of(items, items.vectors) for split, items in splits.items()}
    x = normalise(splits["test"].vectors)
    wanted, _ = whitening(x, x, None, embeddings.__getitem__)
    items = white.load("test")
    np.testing.assert_allclose(items.vectors, wanted, atol=1e-5)
    assert items.ids.tolist() == splits["test"].ids.tolist() and pickle.loads(pickle.dumps(white)) == white
    with pytest.raises(UserError, match=r"Whitening of split 'train': parts=\(2, 2\) have 4 dimensions in all"):
        dataclasses.replace(source, whitening=Whitening(dim=3, parts=(2, 2))).load("test")
    with pytest.raises(UserError, match=r"data.whitening=3 must be a Whitening\(dim=...\), or None"):
        dataclasses.replace(source, whitening=3)


def test_what_a_step_sees_are_the_vectors(saved, tmp_path):
    source, vectors = saved
    method = MetricLearning(Identity(), MLP(hidden=(), out=3), embedding="projector")
    parts = {"views": SavedVectors(), "method": method, "sampler": Classes(per_class=2), "monitor": ()}
    experiment = dataclasses.replace(EXPERIMENT, data=source, evaluate=(Retrieval(),), **parts)
    setup = Setup.of(experiment)
    run = Run(tmp_path / "run")
    run.own.mkdir()
    with setup.train_batches(run, setup.batches) as batches:
        batch = next(batches)
        items = setup.load("train")
        wanted = [vectors[items.ids[row]] for row in np.asarray(batch["index"])]
        np.testing.assert_array_equal(batch["vectors"][:, 0], wanted)
    three = dataclasses.replace(experiment, sampler=Listings(photos=2), method=SIMCLR_OF_VECTORS)
    with Setup.of(three).train_batches(run, Setup.of(three).batches) as batches:
        batch = next(batches)
        views = SavedVectors()(None, batch)["views"]
        assert len(views) == 2 and batch["vectors"].shape == (BATCH, 2, 5)
        listing = {vectors[id].tobytes(): n for id, n in zip(items.ids, items.listing, strict=True)}
        first, second = ([listing[np.asarray(v).tobytes()] for v in view] for view in views)
        assert first == second == np.asarray(batch["listing"]).tolist()
    state = setup.spec.initial()
    embeddings = setup.embedder(run).by(state)("test")
    assert embeddings.vectors.shape == (len(source.load("test")), 3)


def test_files_of_other_items_are_refused(saved, tmp_path):
    source, _ = saved
    Embeddings(np.array(["x", "y"], object), np.zeros((2, 3), np.float32)).save(tmp_path / "other.npz")
    with pytest.raises(UserError, match="its ids are of other items"):
        dataclasses.replace(source, path=str(tmp_path / "other.npz")).load("train")
    with pytest.raises(UserError, match="is not there"):
        dataclasses.replace(source, path="nowhere.npz").load("train")
    with pytest.raises(UserError, match="must be a source"):
        SavedEmbeddings(3, "x.npz")
    with pytest.raises(UserError, match="set data=SavedEmbeddings"):
        Setup.of(dataclasses.replace(EXPERIMENT, views=SavedVectors(), method=MetricLearning(Identity())))
