"""The page of a run: whole and harmless whatever the data says, right about hits, and there even for an empty run."""

import json
import math

import numpy as np
import pytest
from pages import HOSTILE, Page, loads_nothing

from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.ranking import Ranking
from ssljax.evaluation.vectors import normalise
from ssljax.report import charts, write_report
from ssljax.report.neighbours import answers, choose
from ssljax.report.page import MINUS, number
from ssljax.report.run_page import read_metrics


def make_run(path, *, title="product", items=24, groups_of=3):
    rng = np.random.default_rng(0)
    groups = (np.arange(items) // groups_of).astype(np.int32)
    vectors = rng.normal(size=(items, 8)) + 0.5 * rng.normal(size=(items // groups_of + 1, 8))[groups]
    photos = rng.integers(0, 255, (items, 20, 16, 3), dtype=np.uint8)
    embeddings = Embeddings(np.array([f"item{i}" for i in range(items)], object), vectors.astype(np.float32))
    table = {
        "trained": {"test/cmc@1": 0.61, "test/queries": 21, title: 0.5},
        "untrained": {"test/cmc@1": math.nan, "test/queries": 21},
        "raw pixels": {"test/cmc@1": 0.38, "test/queries": 21},
    }
    (path / "results.json").write_text(json.dumps({"name": title, "table": table, "steps": 40, "seconds": 75.2}))
    (path / "environment.json").write_text(json.dumps({"device": title, "devices": 8, "commit": "a" * 40 + "+changes"}))
    lines = [{"step": s, "epoch": s / 20, "loss": 9.0 - s / 10, title: 0.1 * s, "n": 3} for s in range(40)]
    lines += [{"step": 39, "loss": None}, {"test/cmc@1": 1.0}, {"step": 40, "test/cmc@1": 0.61}]
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 41, "lo')
    captions = [f"{title} {i}" for i in range(items)]
    kinds = [f"{title} kind {i % 11}" for i in range(items)]
    return write_report(path, embeddings, groups, lambda i: photos[i], captions=captions, kinds=kinds, relevant=title)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), title=HOSTILE).read_text(encoding="utf-8")


def test_page_is_well_formed_and_has_all_its_parts(hostile):
    page = Page(hostile)
    assert len(page.of("table")) == 1 and 10 < len(page.of("article")) <= 18  # one a group of eight that fails
    assert len(page.of("figure", "panel")) == 3 + 1 + 6  # loss, the hostile one and cmc@1; distances; listings
    assert len(page.of("details")) == 11 and len(page.of("li")) > 100
    assert len([a for a in page.of("i") if "data-caption" in a]) == 24
    assert len(hostile) < 1_000_000


def test_hostile_texts_stay_texts(hostile):
    page = Page(hostile)
    assert len(page.of("script")) == 1 and len(page.of("style")) == 3
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert any(a.get("title") == f"{HOSTILE} 3" for a in page.of("img"))
    assert sum(HOSTILE in text for text in page.texts) > 10  # read back, they are what they were


def test_nothing_is_loaded_from_anywhere(hostile):
    loads_nothing(hostile)


def test_table_compares_with_the_baseline_and_marks_the_best(tmp_path):
    text = make_run(tmp_path).read_text(encoding="utf-8")
    assert text.index(">raw pixels</th>") < text.index(">trained</th>")
    assert "+23.0</span><b>61.0<small> %</small></b>" in text
    assert '<td class="count">21</td>' in text and "<td>\N{EN DASH}</td>" in text
    assert "1 min 15 s" in text and "8 x product" in text and "aaaaaaaa+changes" in text


def test_hits_are_marked_right(tmp_path):
    """One dimension: 0 and 1 are a group and neighbours, 2 is between 3 and the far-away 4 of its group."""
    angles = np.array([0.0, 0.1, 1.0, 1.05, 1.95])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    embeddings = Embeddings(np.array(list("abcde"), object), vectors)
    grey = np.zeros((4, 4, 3), np.uint8)
    page = Page(write_report(tmp_path, embeddings, np.array([0, 0, 1, -1, 1]), lambda i: grey).read_text("utf-8"))
    rows, asked = {}, None
    for tag, attributes in page.elements:
        if attributes.get("id") == "failures":
            break
        if tag == "article":
            asked = None
        elif tag == "li":
            kind = attributes["class"].strip()
        elif tag == "img" and asked is None:
            asked = attributes["alt"]
        elif tag == "img":
            rows.setdefault(asked, []).append((attributes["alt"], kind))
    assert rows == {
        "a": [("b", "hit"), ("c", "miss"), ("d", "miss"), ("e", "miss")],
        "b": [("a", "hit"), ("c", "miss"), ("d", "miss"), ("e", "miss")],
        "c": [("d", "miss"), ("b", "miss"), ("e", "hit"), ("a", "miss")],
        "e": [("d", "miss"), ("c", "hit"), ("b", "miss"), ("a", "miss")],
    }


def test_answers_equal_a_loop():
    rng = np.random.default_rng(1)
    vectors, groups = normalise(rng.normal(size=(50, 3)).astype(np.float32)), rng.integers(0, 5, 50)
    for answer in answers(Ranking(vectors, groups, vectors, groups, np.arange(50)), np.arange(50)):
        others = [i for i in range(50) if i != answer.query]
        ranking = sorted(others, key=lambda i, q=answer.query: -float(vectors[i] @ vectors[q]))
        first = next(i for i, row in enumerate(ranking) if groups[row] == groups[answer.query])
        assert answer.rows.tolist() == ranking[:10]
        assert (answer.first_hit, answer.rank) == (ranking[first], first + 1)


def test_failures_are_the_latest_hits_one_a_group():
    rng = np.random.default_rng(2)
    vectors, groups = normalise(rng.normal(size=(80, 3)).astype(np.float32)), rng.integers(0, 20, 80)
    ranking = Ranking(vectors, groups, vectors, groups, np.arange(80))
    np.testing.assert_array_equal(ranking.asked, np.flatnonzero(np.bincount(groups)[groups] > 1))
    found = list(answers(ranking, ranking.asked))
    drawn, failures = choose(found, groups, many=5)
    assert drawn == found[:5]
    ranks = [answer.rank for answer in failures]
    assert ranks == sorted(ranks, reverse=True) and ranks[0] == max(answer.rank for answer in found[5:])
    assert len({groups[answer.query] for answer in failures}) == len(failures) == 5


@pytest.mark.parametrize("items", [0, 1, 2, 5])
def test_tiny_and_empty_runs_have_a_page(tmp_path, items):
    embeddings = Embeddings(np.array(list("abcde"[:items]), object), np.eye(5, 3, dtype=np.float32)[:items])
    photo = np.zeros((1, 9, 3), np.uint8)
    path = write_report(tmp_path / ".", embeddings, np.zeros(items, np.int32), lambda i: photo)
    Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("vectors", [np.ones((8, 4)), np.zeros((8, 4)), np.arange(8.0)[:, None] - 3.5])
def test_collapsed_and_one_dimensional_embeddings_have_a_page(tmp_path, vectors):
    embeddings = Embeddings(np.array(list("abcdefgh"), object), vectors.astype(np.float32))
    photo = np.zeros((9, 1, 3), np.uint8)
    path = write_report(tmp_path, embeddings, np.arange(8) // 2, lambda i: photo)
    assert "NaN" not in path.read_text("utf-8") and "nan" not in "".join(Page(path.read_text("utf-8")).texts)


def test_metrics_without_what_is_not_finite_whole_or_a_figure(tmp_path):
    lines = [
        '{"step": 1, "epoch": 0.5, "loss": NaN}',
        '{"step": 2, "loss": 2.5, "queries": 7}',
        '{"loss": 1.0}',
        '{"st',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_metrics(tmp_path / "metrics.jsonl") == {"loss": [(2, 2.5)]}
    assert read_metrics(tmp_path / "none.jsonl") == {}


def test_curves_are_finite_and_inside_their_panel():
    for values in ([1.0], [0.0, 0.0], [6.9, 6.9000001], [1e-12, 5e-12], [-3.0, 1e9], [0.5] * 5000):
        page = Page(charts.lines("x", {"x": list(enumerate(values))}, len(values) - 1, ("level", 1.0)))
        (line,) = page.of("polyline")
        points = np.array([p.split(",") for p in line["points"].split()], float)
        assert len(points) <= charts.MAX_POINTS and np.isfinite(points).all()
        assert (points >= [charts.LEFT, charts.TOP - 0.1]).all()
        assert (points <= [charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM + 0.1]).all()


def test_numbers_are_short():
    values = (1200.0, 0.00012, 0.61234, -2.5, 12345.6, 0.0)
    assert [number(v) for v in values] == ["1,200", "0.00012", "0.612", MINUS + "2.5", "12,346", "0"]


@pytest.mark.parametrize(
    "config, words",
    [
        ({"precision": "float32", "evaluation_precision": "float32"}, "float32"),
        (
            {
                "precision": "tensorfloat32",
                "evaluation_precision": "float32",
                "method": {"encoder": {"dtype": "bfloat16"}},
            },
            "tensorfloat32 in training, float32 in evaluation, bfloat16 activations",
        ),
        ({}, None),
    ],
)
def test_the_page_says_the_precision(config, words, tmp_path):
    make_run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text()) | {"config": config}
    (tmp_path / "results.json").write_text(json.dumps(results))
    embeddings = Embeddings(np.array(["a", "b"], object), np.eye(2, dtype=np.float32))
    page = write_report(tmp_path, embeddings, np.zeros(2, np.int32), lambda i: np.zeros((4, 4, 3), np.uint8))
    texts = Page(page.read_text(encoding="utf-8")).texts
    assert (words in texts) if words else "precision" not in texts
