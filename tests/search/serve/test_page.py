"""The page, in a browser: a photo is dropped on it, and the neighbours are seen."""

import json
import os
from pathlib import Path

import pytest
from search.serve.browser import browser
from search.serve.serving import READS_TITLES, collection, photo, served

IDS = "[...document.querySelectorAll('#found button')].map((card) => card.querySelector('small span').textContent)"
SHOWN = "[...document.querySelectorAll('#found img')].filter((image) => image.naturalWidth > 0).length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def test_a_photo_that_is_dropped_finds_its_neighbours(tab, tmp_path):
    with served(collection(tmp_path)) as address:
        tab.look(1280, 900, "light")
        tab.open(address + "/")
        tab.wait("document.querySelector('#items').textContent == '20 items ·'")
        (tmp_path / "mine.png").write_bytes(photo(7))
        tab.drop(tmp_path / "mine.png", "#drop")
        tab.wait(f"{SHOWN} == 12")
        assert tab.value(IDS)[0] == "shelf/7"
        assert tab.value("document.querySelector('#name').textContent") == "mine.png"
        assert tab.value("document.querySelector('#found b').textContent") == "<b>Mug</b> 7"
        assert tab.value("document.querySelector('#asked').naturalWidth") == 80
        for width, height in ((1280, 900), (360, 740)):
            for scheme in ("light", "dark"):
                tab.look(width, height, scheme)
                assert tab.value("document.documentElement.scrollWidth <= innerWidth")
                if folder := os.environ.get("SSLJAX_SCREENSHOTS"):
                    tab.screenshot(Path(folder) / f"serve_{width}_{scheme}.png")
        tab.value("document.querySelector('#found button').click()")
        tab.wait(f"{SHOWN} == 12 && !{IDS}.includes('shelf/7')")
        assert all(asked.startswith((address, "blob:")) for asked in tab.requested)
        assert [error for error in tab.errors if "favicon" not in str(error)] == []


def test_words_are_searched_by_alone_and_beside_a_photo(tab, tmp_path):
    with served(collection(tmp_path), encoder=READS_TITLES) as address:
        tab.look(1280, 900, "light")
        tab.open(address + "/")
        assert tab.value("document.querySelector('#mix').hidden && document.querySelector('#clear').hidden")
        type_and_search(tab, "red")
        tab.wait(f"{SHOWN} == 12")
        alone = tab.value(IDS)
        (tmp_path / "mine.png").write_bytes(photo(7))
        tab.drop(tmp_path / "mine.png", "#drop")
        tab.wait(f"{SHOWN} == 12 && JSON.stringify({IDS}) != {json.dumps(json.dumps(alone, separators=(',', ':')))}")
        assert not tab.value("document.querySelector('#mix').hidden || document.querySelector('#clear').hidden")
        weigh = "const w = document.querySelector('#weight'); w.value = {}; w.dispatchEvent(new Event('change'))"
        tab.value("(() => {" + weigh.format(0) + "})()")
        tab.wait(f"{IDS}[0] == 'shelf/7'")
        for width, height in ((1280, 900), (360, 740)):
            for scheme in ("light", "dark"):
                tab.look(width, height, scheme)
                assert tab.value("document.documentElement.scrollWidth <= innerWidth")
                if folder := os.environ.get("SSLJAX_SCREENSHOTS"):
                    tab.screenshot(Path(folder) / f"serve_words_{width}_{scheme}.png")
        tab.value("document.querySelector('#clear').click()")
        tab.wait(f"JSON.stringify({IDS}) == {json.dumps(json.dumps(alone, separators=(',', ':')))}")
        tab.value("document.querySelectorAll('#found button')[1].click()")
        tab.wait(f"{SHOWN} == 12 && !{IDS}.includes({json.dumps(alone[1])})")
        assert tab.value("document.querySelector('#words').value") == ""
        type_and_search(tab, "<b>blue</b>")
        tab.wait(f"{SHOWN} == 12 && {IDS}.includes({json.dumps(alone[1])})")  # its photo, with the words
        tab.value("void (window.fetch = (now => (...sent) => window.late = now(...sent))(window.fetch))")
        tab.value("document.querySelector('#clear').click()")
        type_and_search(tab, "  ")
        tab.value("late.then(() => new Promise(resolve => setTimeout(resolve, 200)))")  # its answer is no longer shown
        assert tab.value("document.querySelector('#said').textContent") == "Write words, or drop a photo."
        assert [error for error in tab.errors if "favicon" not in str(error)] == []


def type_and_search(tab, words: str) -> None:
    tab.value("document.querySelector('#words').select()")
    tab.send("Input.insertText", text=words)
    for kind in ("keyDown", "keyUp"):
        tab.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)


def test_what_is_no_photo_is_said(tab, tmp_path):
    with served(collection(tmp_path)) as address:
        tab.open(address + "/")
        (tmp_path / "text.jpg").write_text("no photo")
        tab.drop(tmp_path / "text.jpg", "#drop")
        tab.wait("document.querySelector('#said').classList.contains('wrong')")
        assert "not an image" in tab.value("document.querySelector('#said').textContent")
        assert tab.value("document.querySelectorAll('#found li').length") == 0
    tab.drop(tmp_path / "0.png", "#drop")
    tab.wait("document.querySelector('#said').textContent == 'The service does not answer.'")


def test_the_page_of_the_api_is_read_in_a_browser(tab, tmp_path):
    with served(collection(tmp_path, 2)) as address:
        for scheme in ("light", "dark"):
            tab.look(900, 900, scheme)
            tab.open(address + "/docs")
            assert tab.value("document.querySelectorAll('section').length") == 10
            if folder := os.environ.get("SSLJAX_SCREENSHOTS"):
                tab.screenshot(Path(folder) / f"serve_docs_{scheme}.png")
