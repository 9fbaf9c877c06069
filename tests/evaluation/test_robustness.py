"""Robustness: nothing changed is an area of 1, noise is chance, and each side is what a loop by hand finds."""

import dataclasses
import itertools

import numpy as np
import pytest
from disturbances import Darker, Neighbour, Noise, Unchanged
from pages import HOSTILE, Page, loads_nothing

from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.decode import decode
from ssljax.evaluation import KNN, Retrieval, Robustness
from ssljax.evaluation.disturbed import BATCH, Example, Pool, measure
from ssljax.evaluation.ranking import Ranking
from ssljax.evaluation.robustness import MEAN, Curve, Lost, Vectors, areas, figures, lost, on_side, summary
from ssljax.report import write_robustness
from ssljax.types import UserError

EXPERIMENT = Experiment(name="toy", data=ToyCatalogue(listings=120, photos=3, size=32), photo_size=24)
LISTINGS, PHOTOS = 15, 45  # of the test split
QUICK = Robustness(strengths=(0.5, 1.0))


def pooled(batch):
    """f32[B, 6 * 6 * 3], means of 4x4 pixels: as good as a small network."""
    image = batch["image"][:, 0].astype(np.float32)
    return image.reshape(len(image), 6, 4, 6, 4, 3).mean(axis=(2, 4)).reshape(len(image), -1) - 128


def pool(suite=QUICK, *, load=EXPERIMENT.data.load, limit=0.01, **retrieval) -> Pool:
    """The photos of the toy catalogue with one way to embed them."""
    experiment = dataclasses.replace(EXPERIMENT, evaluate=(Retrieval(**retrieval),))
    bad = lambda items: BadInputs(None, total=len(items), limit=limit)  # noqa: E731
    return Pool.of(experiment, load, bad, {"student": pooled}, suite)


@pytest.fixture(scope="module")
def whole() -> Pool:
    """All photos of the test split, each a query."""
    return pool()


def by_hand(ranking: Ranking, favour: float) -> dict[str, float]:
    """CMC@1 and MAP@R, one query after the other, in float64; right items are `favour` nearer than they are."""
    queries, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ranking.queries, ranking.gallery))
    rows = []
    for i, (query, group) in enumerate(zip(queries.astype(float), ranking.query_groups, strict=True)):
        cosine = gallery.astype(float) @ query + favour * (ranking.gallery_groups == group)
        order = [j for j in np.argsort(-cosine, kind="stable") if ranking.own is None or j != ranking.own[i]]
        hits = [ranking.gallery_groups[j] == group for j in order]
        r = sum(hits)
        rows.append((hits[0], sum(sum(hits[: n + 1]) / (n + 1) for n in range(r) if hits[n]) / r))
    return dict(zip(("cmc@1", "map@r"), np.mean(rows, axis=0).tolist(), strict=True))


def test_what_changes_nothing_has_area_one_and_the_same_figures(whole):
    curves, examples = measure(whole, QUICK, [Unchanged()])
    assert len(curves) == 2 * 3 * 2  # ways, sides, figures
    assert all(c.values == (c.clean, c.clean) and c.area == 1 for c in curves)
    assert examples == {"Unchanged": []}


def test_noise_drops_to_chance(whole):
    curves, examples = measure(whole, QUICK, [Noise()])
    by = {(c.way, c.side): c for c in curves if c.figure == "cmc@1"}
    chance = 2 / (PHOTOS - 1)
    for way in ("student", "raw pixels"):
        assert by[way, "query"].clean > 0.3
        for side in ("query", "gallery", "both"):
            assert by[way, side].values[-1] < chance + 4 * np.sqrt(chance / PHOTOS)
            assert by[way, side].area < 0.8
    assert 0 < len(examples["Noise"]) <= 6
    assert all(e.clean.shape == e.disturbed.shape == (24, 24, 3) and e.rank > 1 for e in examples["Noise"])


@pytest.mark.parametrize("gallery", [None, "val"])
def test_sides_equal_a_loop_by_hand(gallery):
    pool_ = pool(relevant="shape", gallery=gallery)
    curves, _ = measure(pool_, QUICK, [Noise()])
    clean, noisy = pool_.vectors(), pool_.vectors(Noise(), 0.5)
    for way in ("student", "raw pixels"):
        pairs = {
            "query": Vectors(noisy[way].queries, clean[way].gallery),
            "gallery": Vectors(clean[way].queries, noisy[way].gallery),
            "both": noisy[way],
        }
        for c in curves:
            if c.way == way:
                for value, vectors in ((c.clean, clean[way]), (c.values[0], pairs[c.side])):
                    # What is nearer by less than float32 tells comes first or not, as the processor rounds.
                    least, most = (by_hand(pool_.ranking(vectors), favour)[c.figure] for favour in (-2e-6, 2e-6))
                    assert least - 1e-9 <= value <= most + 1e-9 and most - least < 0.005
    assert (pool_.ranking(clean["student"]).own is None) == (gallery == "val")


def test_photos_are_disturbed_as_they_were_decoded_each_with_its_own_numbers(whole):
    items = EXPERIMENT.data.load("test")
    row = {item: k for k, item in enumerate(items.ids)}
    for k in (0, 44):
        pixels, _ = decode(items.photos[row[whole.queries.items.ids[k]]], 24)
        np.testing.assert_array_equal(whole.queries.photo(k), pixels)
        darker = whole.queries.photo(k, Darker(), 0.5)
        assert np.abs(darker - pixels / 2).max() <= 0.5 + 1e-4
    noise = [whole.queries.photo(k, Noise(), 1.0).astype(int) for k in range(3)]
    assert min(np.abs(noise[a] - noise[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))) > 50
    other = pool(gallery="val", relevant="shape")
    assert np.abs(other.gallery.photo(0, Noise(), 1.0).astype(int) - noise[0]).mean() > 50


def test_the_same_seed_gives_the_same_figures_and_another_others(whole):
    first, _ = measure(whole, QUICK, [Noise(), Neighbour()])
    again, _ = measure(pool(), QUICK, [Noise(), Neighbour()])
    assert first == again
    alone, _ = measure(whole, QUICK, [Neighbour()])
    assert alone == [c for c in first if c.disturbance == "Neighbour"]
    other = dataclasses.replace(QUICK, seed=1)
    assert measure(pool(other), other, [Noise()])[0] != first[: len(first) // 2]


@pytest.mark.parametrize("gallery", [None, "val"])
def test_some_queries_are_disturbed_as_among_all(gallery):
    few_suite = Robustness(strengths=(0.5,), sides=("query",), items=7)
    retrieval = {"relevant": "shape", "gallery": gallery}
    few, all_ = pool(few_suite, **retrieval), pool(**retrieval)
    assert few.count == 7 and few.positives == all_.count == all_.positives > 7
    np.testing.assert_array_equal(few.query_groups, all_.query_groups[:7])
    asked = few.vectors(Noise(), 0.5, few_suite.sides)["student"].queries
    np.testing.assert_array_equal(asked, all_.vectors(Noise(), 0.5)["student"].queries[:7])
    curves, _ = measure(few, few_suite, [Noise()])
    assert {c.side for c in curves} == {"query"}


def test_only_those_with_a_relevant_item_are_asked(whole):
    assert whole.count == PHOTOS and len(whole.gallery) == PHOTOS

    def load(split):  # four listings of one photo each, of which three are in the train split too
        items = EXPERIMENT.data.load("test").select(np.arange(0, 12, 3))
        columns = {"which": np.array(["a", "b", "", "d"] if split == "test" else ["b", "a", "a", ""], object)}
        return dataclasses.replace(items, columns=columns)

    cross = pool(load=load, relevant="which", gallery="train")
    assert sorted(cross.queries.items.columns["which"]) == ["a", "b"] and cross.count == 2


def test_bad_photos_are_left_out():
    items = EXPERIMENT.data.load("test")

    class Broken:
        def __len__(self):
            return len(items)

        def __getitem__(self, row):
            return b"no photo" if row % 9 == 0 else items.photos[row]

    broken = pool(load=lambda split: dataclasses.replace(items, photos=Broken()), limit=0.2)
    assert broken.count == len(broken.gallery) == PHOTOS - 5
    assert not set(items.ids[::9]) & set(broken.gallery.items.ids)
    ranking = broken.ranking(broken.vectors()["student"])
    assert ranking.queries.shape == (PHOTOS - 5, 108) and ranking.queries.any(axis=1).all()
    assert figures(ranking) == pytest.approx(by_hand(ranking, favour=0))
    with pytest.raises(UserError, match="photos cannot be read"):
        pool(load=lambda split: dataclasses.replace(items, photos=Broken()))


def test_the_last_batch_is_filled_with_photos(whole):
    """So that a disturbance that mixes photos mixes real ones."""
    assert PHOTOS < BATCH
    last = whole.queries._batch(0, None, 0.0)["image"]
    np.testing.assert_array_equal(last[PHOTOS:], last[: BATCH - PHOTOS])


def test_lost_are_those_found_before_whose_rank_is_last():
    angle = lambda *a: np.stack([np.cos(a), np.sin(a)], axis=1).astype(np.float32)  # noqa: E731
    gallery = angle(0.0, 0.1, 1.0, 1.1, 2.0, 2.1)
    groups = np.array([0, 0, 1, 1, 2, 2], np.int32)
    clean = Ranking(gallery, groups, gallery, groups, np.arange(6))
    # 0 sees group 1 first; 2 sees group 2 first, then 1; 3 sees all of group 2 before its own; 4 and 5 stay
    disturbed = dataclasses.replace(clean, queries=angle(1.04, 0.1, 1.58, 2.4, 2.0, 2.1))
    assert lost(clean, disturbed, 5) == [Lost(0, 2, 1, 3), Lost(3, 5, 2, 3)]
    assert lost(clean, disturbed, 1) == [Lost(0, 2, 1, 3)]
    assert lost(clean, clean, 5) == []


def test_sides():
    clean, disturbed = Vectors("q", "g"), Vectors("Q", "G")
    sided = {side: "".join(on_side(side, clean, disturbed)) for side in ("query", "gallery", "both")}
    assert sided == {"query": "Qg", "gallery": "qG", "both": "QG"}


def test_areas_and_summary():
    def curve(disturbance, way, *values, clean=0.5):
        return Curve(disturbance, way, "query", "cmc@1", clean, values)

    ways = ("student", "raw pixels")
    curves = [curve("A", way, 0.5, 0.3, 0.1) for way in ways] + [curve("B", way, 0.5, 0.5, 0.2) for way in ways]
    found = areas(curves, "query", "cmc@1")["student"]
    assert found == pytest.approx({"A": 0.6, "B": 0.8, MEAN: 0.7})
    assert areas([curve("A", "student", 0.0, clean=0.0)], "query", "cmc@1")["student"] == {"A": None, MEAN: None}
    table = summary(curves, Robustness(strengths=(0.2, 0.4, 1.0), sides=("query",)))
    assert table["query"] == {"clean": None} | found
    assert table["student at 0.4"] == table["raw pixels at 0.4"] == {"clean": 0.5, "A": 0.3, "B": 0.5}


def test_the_page_is_whole_and_harmless(tmp_path):
    ways, sides = ("student", "teacher", "raw pixels"), ("query", "both")
    names = ("Blank", HOSTILE)
    curves = [
        Curve(name, way, side, figure, 0.0 if name == "Blank" else 0.5, (0.4, 0.6))
        for name, way, side, figure in itertools.product(names, ways, sides, ("cmc@1", "map@r"))
    ]
    grey = np.full((20, 30, 3), 128, np.uint8)
    found = [Example(grey, grey, grey, grey, (HOSTILE, HOSTILE, "right"), 1234)] * 2
    results = {
        **{"name": HOSTILE, "data": HOSTILE, "split": "test", "gallery": "train", "relevant": HOSTILE},
        **{"queries": 20, "queries_in_all": 2000, "items": 3000, "medium": 0.5, "command": f"ssljax {HOSTILE}"},
        **{
            "without": "titles",
            "network": "student",
            "suite": {"strengths": [0.5, 1.0], "seed": 7},
            "environment": {"commit": None},
        },
    }
    write_robustness(tmp_path / "page.html", results, curves, {HOSTILE: found, "Blank": []})
    text = (tmp_path / "page.html").read_text()
    loads_nothing(text)
    page = Page(text)
    views = [a for a in page.of("div") if "data-choice" in a]
    assert [a["data-choice"] for a in views] == [f"{s} {f}" for s in sides for f in ("cmc@1", "map@r")]
    assert ["hidden" in a for a in views] == [False, True, True, True]
    assert [a["value"] for a in page.of("input") if "checked" in a] == ["query", "cmc@1"]
    assert len(page.of("table")) == 4 and len(page.of("svg")) == 8 and len(page.of("polyline")) == 24
    assert len(page.of("img")) == 8 and sum("1,234" in t for t in page.texts) == 2
    assert sum(HOSTILE in t for t in page.texts) > 10 and "20 of 2,000 in test" in page.texts
    assert "nan" not in "".join(page.texts).lower()


MISTAKES = [
    ({"strengths": ()}, "must grow"),
    ({"strengths": (0.0, 0.5)}, "must grow from above 0 to at most 1"),
    ({"strengths": (0.5, 1.5)}, "must grow"),
    ({"strengths": (0.5, 0.2)}, "must grow"),
    ({"strengths": (float("nan"),)}, "strengths"),
    ({"sides": ()}, "disturbs nothing"),
    ({"sides": ("left",)}, "sides"),
    ({"items": 1}, "items=1 is too small"),
    ({"seed": -1}, "seed=-1"),
]


@pytest.mark.parametrize("fields, sentence", MISTAKES)
def test_mistakes_are_named(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        Robustness(**fields)


def test_without_a_retrieval_there_is_nothing_to_measure():
    experiment = dataclasses.replace(EXPERIMENT, evaluate=(KNN(),))
    with pytest.raises(UserError, match="evaluate has no Retrieval"):
        Pool.of(experiment, experiment.data.load, lambda items: None, {}, QUICK)
    with pytest.raises(UserError, match="is not a column"):
        pool(relevant="brand")
