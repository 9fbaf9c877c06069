"""PhotoToTitle against a loop, with items without titles, with titles that come twice, and where none are embedded."""

import dataclasses

import numpy as np
import pytest
from methods import METHODS, TITLED_VIEWS
from tiny import EXPERIMENT, MOCO

from ssljax.data import Titles
from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, PhotoToTitle, Retrieval
from ssljax.models import BagOfTokens
from ssljax.training.export import evaluate, verdict
from ssljax.training.setup import Setup
from ssljax.types import UserError

TITLES = ["red mug", "blue mug", "", "Red Mug ", "green bag", "  ", "blue bag", "red bag", "green bag", "green bag"]
KINDS = ["mug", "mug", "mug", "mug", "bag", "bag", "bag", "", "bag", "box"]


def some(seed=0, titles=TITLES):
    rng = np.random.default_rng(seed)
    vectors, title_vectors = rng.standard_normal((2, len(titles), 4)).astype(np.float32)
    columns = {"title": text(titles), "kind": text(KINDS[: len(titles)])}
    return Embeddings(text(map(str, range(len(titles)))), vectors, columns, title_vectors=title_vectors)


def loop(embeddings, column, k):
    """Both directions' shares of hits, how many queries they are over, and how many have no answer."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    cosines = unit(embeddings.vectors) @ unit(embeddings.title_vectors).T
    value = [x.strip().casefold() for x in embeddings.columns[column]]
    everything = range(len(value))
    title = [x.strip().casefold() for x in embeddings.columns["title"]]
    titled = [i for i in everything if title[i] and (title[i], value[i]) not in zip(title[:i], value[:i], strict=True)]
    found = []
    for scores, queries, answers in ((cosines, everything, titled), (cosines.T, titled, everything)):
        hits = []
        for i in queries:
            right = [j for j in answers if value[j] and value[j] == value[i]]
            if right:
                best = sorted(answers, key=lambda j: -scores[i, j])[:k]
                hits.append(bool({*best} & {*right}))
        found.append((np.mean(hits), len(hits), len(queries) - len(hits)))
    return found


@pytest.mark.parametrize("column", ["title", "kind"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(column, seed):
    embeddings = some(seed)
    figures = PhotoToTitle(column, ks=(1, 2), name="words")(lambda split: embeddings)
    for k in (1, 2):
        for direction, (share, queries, left_out) in zip(
            ("photo-to-title", "title-to-photo"), loop(embeddings, column, k), strict=True
        ):
            assert figures[f"test/words/{direction}/cmc@{k}"] == pytest.approx(share)
            assert figures[f"test/words/{direction}/queries"] == queries
            assert figures[f"test/words/{direction}/queries_left_out"] == left_out


def test_own_title_is_right_and_each_title_is_there_once():
    embeddings = some()
    first = [0, 1, 2, 0, 4, 5, 6, 7, 4, 4]  # of each title
    same = dataclasses.replace(embeddings.select(first), title_vectors=embeddings.vectors[first])
    figures = PhotoToTitle(ks=(1, 100))(lambda split: same)
    assert figures["test/photo-to-title/cmc@1"] == figures["test/title-to-photo/cmc@1"] == 1
    assert (figures["test/photo-to-title/queries"], figures["test/photo-to-title/queries_left_out"]) == (8, 2)
    assert (figures["test/title-to-photo/queries"], figures["test/title-to-photo/queries_left_out"]) == (5, 0)
    assert PhotoToTitle(ks=(100,))(lambda split: embeddings)["test/title-to-photo/cmc@100"] == 1


def test_intervals_and_queries_one_by_one():
    embeddings, judge = some(), PhotoToTitle(ks=(1,), interval=0.9)
    figures, found = judge(lambda split: embeddings), judge.per_query(lambda split: embeddings)
    assert found["photo-to-title"].ids.tolist() == ["0", "1", "3", "4", "6", "7", "8", "9"]
    for direction, queries in found.items():
        low, mean, high = (figures[f"test/{direction}/cmc@1{end}"] for end in ("-low", "", "-high"))
        assert low <= mean <= high and mean == queries.figures["cmc@1"].mean()


@pytest.mark.parametrize(
    "judge, titles, sentence",
    [
        (lambda: PhotoToTitle(ks=()), TITLES, r"PhotoToTitle.ks=\(\) is empty"),
        (lambda: PhotoToTitle(ks=(0,)), TITLES, r"PhotoToTitle.ks=\(0,\) is too small"),
        (lambda: PhotoToTitle(interval=1.0), TITLES, "PhotoToTitle.interval=1.0 must be between 0 and 1"),
        (lambda: PhotoToTitle(relevant=""), TITLES, "PhotoToTitle.relevant='' is empty"),
        (lambda: PhotoToTitle("brand"), TITLES, "PhotoToTitle.relevant='brand' is not a column of the data"),
        (PhotoToTitle, [""] * 10, "PhotoToTitle.relevant='title': no item of split 'test' has both a title and"),
    ],
)
def test_what_cannot_be_judged_is_refused(judge, titles, sentence):
    with pytest.raises(UserError, match=sentence):
        judge().check(lambda split: some(titles=titles))


def test_networks_that_embed_no_titles_are_refused_before_training():
    judges = (Retrieval(), PhotoToTitle())
    with pytest.raises(UserError, match="the method embeds no titles apart from photos: choose CLIP or SigLIP"):
        Setup.of(dataclasses.replace(EXPERIMENT, evaluate=judges))
    method = dataclasses.replace(METHODS["clip"], title_encoder=BagOfTokens(vocabulary=8192, dim=8))
    titled = dataclasses.replace(EXPERIMENT, views=TITLED_VIEWS, titles=Titles(), method=method, evaluate=judges)
    assert Setup.of(titled).spec.shapes.params["title_encoder"]


def test_rows_of_raw_pixels_have_no_such_figures():
    embeddings = some()
    pixels = dataclasses.replace(embeddings, title_vectors=None)
    assert PhotoToTitle()(lambda split: pixels) == {}
    experiment = dataclasses.replace(EXPERIMENT, method=MOCO, evaluate=(PhotoToTitle(),))
    table = evaluate(experiment, {"trained": lambda split: embeddings, "raw pixels": lambda split: pixels})
    assert len(table["trained"]) == 10 and table["raw pixels"] == {}
    assert verdict(experiment, table) == []
