"""Failures by category, two runs side by side, links between photos, and attention: as parts of a page."""

import base64
import io
import re

import numpy as np
import pytest
from pages import HOSTILE, Page, loads_nothing
from PIL import Image

from ssljax.evaluation import compare
from ssljax.evaluation.ranking import Ranking
from ssljax.evaluation.vectors import normalise
from ssljax.report import Compared, write_comparison
from ssljax.report.attention import PIXELS, Attention, attention_maps
from ssljax.report.failures import KINDS, by_kind, failures
from ssljax.report.listings import listings
from ssljax.report.photos import COLUMNS, GAP, Thumbnails
from ssljax.report.photos import PIXELS as SIDE


def run(seed: int, noise: float = 1.0, items: int = 60) -> Ranking:
    groups = (np.arange(items) // 3).astype(np.int32)
    centres = np.random.default_rng(0).normal(size=(items, 8))[groups]
    vectors = (centres + noise * np.random.default_rng(seed).normal(size=(items, 8))).astype(np.float32)
    return Ranking(vectors, groups, vectors, groups, np.arange(items))


def colour(row: int) -> np.ndarray:
    """A photo that is known again by its colour."""
    return np.full((40, 30, 3), (row % 16 * 16, row // 16 % 16 * 16, row // 256 * 16), np.uint8)


def thumbnails(items: int = 60, caption: str = "") -> Thumbnails:
    return Thumbnails(colour, [f"{row}{caption}" for row in range(items)])


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def titles(html: str) -> list[int]:
    """The rows of the photos, by their captions, in the page's order."""
    return [int(a["title"]) for a in Page(html).of("i", "t")]


def test_each_thumbnail_is_kept_once_and_shows_its_photo():
    show = thumbnails(600)
    parts = [show(row) for row in [*range(0, 600, 2), 4, 2]]
    assert parts[-2:] == [parts[2], parts[1]]
    pictures = [picture(uri) for uri in re.findall(r"url\((.*?)\)", show.style())]
    assert len(pictures) == 2 and pictures[0].size == (COLUMNS * (SIDE + GAP),) * 2 and pictures[1].height == 3 * 98
    for row, part in zip(range(0, 600, 2), parts, strict=False):
        (place,) = Page(part).of("i")
        at = {k: int(v) for k, v in re.findall(r"--(\w):(\d+)", place["style"])}
        x, y = (at[axis] * (SIDE + GAP) + at[extent] // 2 for axis, extent in (("x", "w"), ("y", "h")))
        seen = pictures[int(place["class"].split()[1][1:])].convert("RGB").getpixel((x, y))
        assert np.abs(np.array(seen) - colour(row)[0, 0]).max() < 8 and place["title"] == str(row)
    assert thumbnails().style() == ""


def test_categories_with_most_mistakes_come_first_and_the_rare_ones_together():
    kinds = [f"k{i % 40}" for i in range(400)]
    noted = np.arange(400) % 40 <= np.arange(400) // 40 * 4
    parts = list(by_kind(kinds, noted))
    counts = [int(noted[rows].sum()) for _, rows in parts[:-1]]
    assert len(parts) == KINDS and counts == sorted(counts, reverse=True) and parts[-1][0] == "the 11 others"
    assert sorted(np.concatenate([rows for _, rows in parts]).tolist()) == list(range(400))
    assert [(name, rows.tolist()) for name, rows in by_kind([" ", "a", ""], np.ones(3, bool))] == [
        ("(blank)", [0, 2]),
        ("a", [1]),
    ]


def test_failures_are_the_wrong_first_finds_the_most_confident_first():
    ranking, show = run(1), thumbnails()
    finds = ranking.first()
    kinds = ["even" if query % 2 == 0 else "odd" for query in finds.queries]
    html = failures(ranking, finds, kinds, show, relevant="of a kind", most=3)
    shown = np.array(titles(html)).reshape(-1, 3)
    wrong = [m for m in range(60) if not finds.hit[m]]
    first = max(("even", "odd"), key=lambda kind: sum(kinds[m] == kind for m in wrong))
    best = sorted((m for m in wrong if kinds[m] == first), key=lambda m: -finds.score[m])[:3]
    assert shown[:3, 0].tolist() == finds.queries[best].tolist() and shown[:3, 1].tolist() == finds.first[best].tolist()
    assert all(shown[i, 2] // 3 == shown[i, 0] // 3 != shown[i, 1] // 3 for i in range(6))
    assert f"{sum(kinds[m] == first for m in wrong)} of 30 wrong" in html


def test_photos_of_another_split_come_after_the_queries():
    both = run(1)
    apart = Ranking(both.queries[:20], both.query_groups[:20], both.gallery[20:] * 0 + 1, both.gallery_groups[:40])
    finds = apart.first()
    html = failures(apart, finds, ["all"] * len(finds), thumbnails(), relevant="", most=99)
    shown = np.array(titles(html)).reshape(-1, 3)
    assert (shown[:, 0] < 20).all() and (shown[:, 1] == 20).all() and (shown[:, 2] >= 20).all()


def compared(a: Ranking, b: Ranking, names=("A", "B"), kind: str = "all") -> Compared:
    finds = a.first(), b.first()
    found = [one.per_query for one in finds]
    kinds = [f"{kind} {query % 2}" for query in finds[0].queries]
    facts, means = {"queries": "60"}, tuple(one.means() for one in found)
    differences = {"cmc@1": compare(*found, "cmc@1", draws=500)}
    return Compared(names, facts, (a, b), finds, means, differences, kinds, kind)


def test_cases_are_those_that_one_run_finds_alone(tmp_path):
    a, b = run(1, 0.4), run(2, 1.0)
    both = compared(a, b)
    write_comparison(tmp_path / "c.html", both, thumbnails(), command="x", most=99)
    html = (tmp_path / "c.html").read_text()
    loads_nothing(html)
    first, second = both.finds
    shown = [tuple(case) for case in np.array(titles(html)).reshape(-1, 3).tolist()]
    expected = set()
    for m in range(60):
        if first.hit[m] != second.hit[m]:
            found, missed = (first, second) if first.hit[m] else (second, first)
            expected.add((int(first.queries[m]), int(found.first[m]), int(missed.first[m])))
    assert set(shown) == expected and len(shown) == len(expected)
    alone = int((first.hit & ~second.hit).sum())
    assert f"{alone} by A alone, of 60 in 20 groups" in both.statement
    assert both.statement.startswith("B finds a right one first less often than A: ")
    assert compared(b, a).statement.startswith("B finds a right one first more often than A: +")


def test_equal_runs_cannot_be_told_apart(tmp_path):
    both = compared(run(1), run(1))
    assert both.statement.startswith("B and A cannot be told apart") and "p 1.000" in both.statement
    write_comparison(tmp_path / "c.html", both, thumbnails(), command="x", most=3)
    page = Page((tmp_path / "c.html").read_text())
    assert not page.of("details") and len(page.of("p", "kind")) == 2


def test_hostile_names_stay_texts(tmp_path):
    both = compared(run(1, 0.4), run(2), names=(HOSTILE, "B"), kind=HOSTILE)
    show = thumbnails(caption=HOSTILE)
    write_comparison(tmp_path / "c.html", both, show, command=HOSTILE, most=3)
    html = (tmp_path / "c.html").read_text()
    loads_nothing(html)
    assert sum(HOSTILE in text for text in Page(html).texts) > 5


def test_links_have_the_colour_of_their_distance():
    """Where listings are apart, the nearer half of the colours is that of arcs, and the farther half of the others."""
    ranking = run(4, 0.05, items=18)
    vectors = normalise(ranking.queries)
    html = listings(vectors, ranking.query_groups, colour, [HOSTILE] * 18, HOSTILE)
    page = Page(html)
    assert len(page.of("svg")) == 6 and len(page.of("image")) == 36
    links = re.findall(r'class="link d(\d)" d="([^"]*)"', html)
    assert {level for level, path in links if "C" in path} == {"0", "1", "2"}
    assert {level for level, path in links if "L" in path} <= {"2", "3", "4"}
    assert len(links) == 6 * (3 + 3 + 9)


def test_the_nearest_other_listing_is_shown_beside():
    ranking = run(3, 0.3, items=24)
    vectors = normalise(ranking.queries)
    page = Page(listings(vectors, ranking.query_groups, colour, [str(row) for row in range(24)], ""))
    rows = [int(text) for text in page.texts if text.isdecimal()]
    assert len(rows) == 36
    for panel in np.array(rows).reshape(6, 2, 3)[3:]:
        first, second = (set(line // 3) for line in panel)
        mine = vectors[panel[0]]
        near = {g: (vectors[3 * g : 3 * g + 3] @ mine.T).max() for g in range(8) if {g} != first}
        assert second == {max(near, key=near.get)}


@pytest.mark.parametrize("groups", [[], [0], [0, 0], [0, 1], [-1, -1, -1], [0, 0, 1], [0, 0, -1]])
def test_few_or_no_listings_have_a_section(groups):
    groups = np.array(groups, np.int32)
    vectors = np.ones((len(groups), 2), np.float32)
    Page(listings(vectors, groups, colour, ["x"] * len(groups), "alike"))


def test_photos_are_clear_where_attention_is():
    maps = np.zeros((1, 2, 4, 4), np.float32)
    maps[0, 0, 0, 0] = maps[0, 1, 3, 3] = 0.5
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    page = Page(attention_maps(Attention(white, maps, [HOSTILE])))
    photo, _, first, second = (np.asarray(picture(a["src"]).convert("L"), int) for a in page.of("img"))
    assert photo.shape == (PIXELS, PIXELS) and photo.min() > 250
    assert first[2, 2] > 250 and first[-3, -3] < 120 and second[-3, -3] > 250 and second[2, 2] < 120
    assert any("head 1, 16.0" in text for text in page.texts)


def test_attention_that_is_zero_or_even_is_shown():
    for value in (0.0, 0.01):
        maps = np.full((2, 3, 2, 2), value, np.float32)
        assert len(Page(attention_maps(Attention(np.zeros((2, 8, 8, 3), np.uint8), maps, ["a", "b"]))).of("img")) == 10
