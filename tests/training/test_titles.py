"""A run that reads photos and titles: its tokenizer is kept, its batches are repeatable, and it embeds by either."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny import ENCODER, EXPERIMENT

import ssljax
from ssljax.cli.main import run as command
from ssljax.data import BPE, Bytes, Classes, TitleAugmentation, Titles
from ssljax.evaluation import Retrieval
from ssljax.evaluation.embed import Embedder
from ssljax.evaluation.restore import Restored
from ssljax.methods import MetricLearning
from ssljax.models import BagOfTokens, Fusion
from ssljax.optim import AdamW
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import UserError
from ssljax.views import OneCropEach, PhotoAndTitle

CROP = OneCropEach(size=16, jitter=0.0, grey=0.0, blur=0.0)
METHOD = MetricLearning(Fusion(photo=ENCODER, title=BagOfTokens(vocabulary=300, dim=8)))
TITLES = dataclasses.replace(
    EXPERIMENT,
    name="titles",
    titles=Titles(BPE(vocabulary=300), length=12, augmentation=TitleAugmentation(drop=0.3)),
    views=PhotoAndTitle(CROP, drop_photo=0.2, drop_title=0.2),
    method=METHOD,
    sampler=Classes(per_class=2),
    optimizer=AdamW(lr=1e-3),
    monitor=(),
    evaluate=(Retrieval("listing"),),
    log_every=10,
)


@dataclasses.dataclass(frozen=True)
class FewColumns:
    """The toy catalogue without its titles."""

    def load(self, split):
        items = EXPERIMENT.data.load(split)
        return dataclasses.replace(items, columns={k: v for k, v in items.columns.items() if k != "title"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return ssljax.train(TITLES, runs=runs).run


def test_a_run_keeps_its_tokenizer_and_embeds_by_both(run):
    table = json.loads((run / "results.json").read_text())["table"]
    assert set(table) == {"trained", "untrained", "raw pixels", "TF-IDF of titles"}
    assert "test/cmc@1" in table["TF-IDF of titles"]
    learnt = json.loads((run / "tokenizer.json").read_text())
    assert len(learnt["model"]["vocab"]) <= 300
    restored = Restored.of(Run(run))
    both, photo, title = (restored.embed(["test"], by=by).vectors for by in ("both", "photo", "title"))
    assert (photo[:, -8:] == 0).all() and (title[:, :-8] == 0).all()
    np.testing.assert_allclose(both, photo + title, atol=1e-5)
    saved = ssljax.load(run)
    photos = sorted((run / "samples").glob("*.png"))[:2]
    np.testing.assert_allclose(
        saved.embed(photos, ["red bag", ""]).vectors[1], saved.embed(photos).vectors[1], atol=1e-6
    )
    words = saved.embed_titles(["red bag", "", "blue shoes"])
    assert words.shape == both[:3].shape and not words[1].any() and not np.allclose(words[0], words[2])
    assert len(saved.index().search(photos, k=3)[0]) == 3


def test_an_item_with_neither_photo_nor_title_has_zeros_whatever_the_biases():
    method = MetricLearning(Fusion(photo=ENCODER, title=BagOfTokens(vocabulary=300, dim=8), how="gated", width=16))
    setup = Setup.of(dataclasses.replace(TITLES, method=method))
    state = setup.spec.initial()
    state = dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.1, state.params))
    title = setup.titles.ids(["red bag", "", " ", "blue"] * 2)[:, None]
    batch = {"image": np.zeros((8, 1, 20, 20, 3), np.uint8), "aspect": np.ones((8, 1), np.float32), "title": title}
    embedder = Embedder(setup.experiment, setup.mesh, setup.load, None, setup.titles)
    assert embedder.batch(state, batch).any(axis=1).all()
    np.testing.assert_array_equal(
        embedder.only("title").batch(state, batch).any(axis=1), [True, False, False, True] * 2
    )


def test_batches_are_functions_of_their_number(tmp_path):
    setup, run = Setup.of(TITLES), Run(tmp_path)
    with setup.train_batches(run, setup.batches) as batches:
        made = [next(batches)["title"] for _ in range(4)]
    with setup.train_batches(run, setup.batches) as batches:
        batches.seek({"delivered": 2} | setup.batches.identity)
        np.testing.assert_array_equal(next(batches)["title"], made[2])
    plain = dataclasses.replace(TITLES, titles=Titles(BPE(vocabulary=300), length=12, augmentation=TitleAugmentation()))
    other = Setup.of(plain)
    with other.train_batches(run, other.batches) as batches:
        unchanged = next(batches)["title"]
    assert (np.asarray(unchanged) != np.asarray(made[0])).any()
    ids = other.titles.ids(other.load("train").columns["title"].tolist())
    first = Setup.of(plain).batches.rows(0)
    np.testing.assert_array_equal(np.asarray(unchanged)[:, 0], ids[first.ravel()])


def test_another_tokenizer_is_refused(run, tmp_path):
    file = run / "tokenizer.json"
    own = file.read_text()
    try:
        file.write_text(own.replace('"BPE"', '"BPE" '))
        with pytest.raises(UserError, match="not the one that the run was trained with"):
            ssljax.load(run)
        file.unlink()
        with pytest.raises(UserError, match=r"tokenizer.json cannot be read"):
            ssljax.load(run)
    finally:
        file.write_text(own)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"titles": None}, r"needs titles: set titles=Titles\(\)"),
        ({"views": CROP}, "no view reads titles"),
        (
            {"titles": Titles(Bytes(), length=12), "method": METHOD.__class__(Fusion(ENCODER, BagOfTokens(100, 8)))},
            "method.encoder.title.vocabulary=100 is smaller than the tokenizer's",
        ),
        (
            {"method": MetricLearning(ENCODER)},
            r"ResNet\(...\) does not read .*: choose Fusion\(photo",
        ),
        ({"method": MetricLearning(BagOfTokens(300, 8))}, r"choose Fusion\(title=BagOfTokens"),
        ({"method": MetricLearning(Fusion(BagOfTokens(300, 8), ENCODER))}, "photo has a vocabulary"),
        ({"data": FewColumns()}, "the data has no titles"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(fields, said):
    experiment = dataclasses.replace(TITLES, **fields)
    with pytest.raises(UserError, match=said):
        Setup.of(experiment)


@pytest.mark.parametrize("by", ["image", "title", "both"])
def test_a_catalogue_is_matched_by_what_the_network_reads(run, by, tmp_path, capsys):
    rows = tmp_path / "matches.csv"
    assert command(["match", str(run), "--by", by, "--groups", "mutual", "-o", str(rows)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert {"image": "by photo;", "title": "by title;", "both": "by photo and title;"}[by] in said
    assert len(rows.read_text().splitlines()) == 1 + len(EXPERIMENT.data.load("test"))
    assert command(["match", str(run / "index"), "--by", "title", "-o", str(rows)]) == 2
    said = capsys.readouterr().err
    assert "name the run" in said and "instead" in said
