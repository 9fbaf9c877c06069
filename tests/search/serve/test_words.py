"""The service searches by words, and by photos with words, if the run's network reads titles."""

import json
import re

import httpx
import pytest
from search.serve.serving import AUTHORISED, COLOURS, READS_TITLES, collection, photo, served

from ssljax.search.serve.limits import LONGEST_QUERY


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A service over twenty photos, and two more, "red" and "blue"."""
    folder = collection(tmp_path_factory.mktemp("shop"))
    with served(folder, encoder=READS_TITLES) as address:
        for id, vector in COLOURS.items():
            new = {"id": id, "vector": vector.tolist(), "columns": {"title": id}}
            assert httpx.post(f"{address}/items", json=new, headers=AUTHORISED).status_code == 201
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
        assert client.get("/healthz").json()["items"] == 22


def refused(answer: httpx.Response, status: int, sentence: str) -> None:
    assert answer.status_code == status and sentence in answer.json()["error"], answer.text


def nearest(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0]["id"]


def test_words_are_searched_by_in_a_form_or_as_json(client):
    for colour in COLOURS:
        assert nearest(client.post("/search", json={"text": colour})) == colour
        assert nearest(client.post("/search", files={"text": (None, f"  {colour} ")})) == colour
    assert len(client.post("/search", json={"text": "red", "k": 3}).json()["items"]) == 3
    assert len(client.post("/search?k=4", json={"text": "red"}).json()["items"]) == 4


def test_a_photo_with_words_is_like_it_but_as_they_say(client):
    files = {"photo": photo(7)}
    for weight, expected in (("0", "shelf/7"), ("0.95", "red"), ("1", "red")):
        assert nearest(client.post("/search", data={"text": "red", "text_weight": weight}, files=files)) == expected
    alone, both = (client.post("/search", data=data, files=files) for data in ({}, {"text": "red"}))
    assert nearest(alone) == "shelf/7"
    scores = [{item["id"]: item["score"] for item in found.json()["items"]} for found in (alone, both)]
    assert scores[1]["red"] > scores[0].get("red", 0) and scores[1].get("shelf/7", 0) < scores[0]["shelf/7"]


def test_an_added_item_is_embedded_with_its_title(client):
    for id, columns in (("titled", {"title": "red"}), ("untitled", {})):
        sent = {"id": id, "columns": json.dumps(columns)}
        assert client.post("/items", data=sent, files={"photo": photo(3)}, headers=AUTHORISED).status_code == 201
    scores = {item["id"]: item["score"] for item in client.post("/search?k=50", json={"text": "red"}).json()["items"]}
    assert scores["titled"] > scores["untitled"] + 0.05
    for id in ("titled", "untitled"):
        assert client.delete(f"/items/{id}", headers=AUTHORISED).status_code == 200


HARMLESS = {
    "emoji": "👗🔥",
    "HTML": "<script>alert(1)</script>",
    "right to left": "فستان أحمر",
    "NUL": "red\0",
    "long": "red " * (LONGEST_QUERY // 4),
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_any_text_is_answered(text, client):
    assert nearest(client.post("/search", json={"text": text}))
    assert nearest(client.post("/search", data={"text": text}, files={"photo": photo(1)}))


def test_invalid_words_are_refused_with_a_sentence(client):
    for text in ("", "  \n", "\u200b"):
        refused(client.post("/search", json={"text": text}), 422, "must")
        refused(client.post("/search", data={"text": text}, files={"photo": photo(1)}), 422, "must")
    refused(client.post("/search", json={"text": "a" * (LONGEST_QUERY + 1)}), 422, "at most 1000 characters")
    half = {"content": b'{"text": "\\ud83d"}', "headers": {"content-type": "application/json"}}
    refused(client.post("/search", **half), 422, "text=")
    refused(client.post("/search", files={"text": (None, b"\xff\xfe")}), 422, "not UTF-8")
    for body in ({"text": 3}, {"text": ["red"]}, {"text": None}, {}, {"text": "red", "k": 0}, ["red"]):
        refused(client.post("/search", json=body), 422, "")
    refused(client.post("/search", content=b"{", headers={"content-type": "application/json"}), 400, "not JSON")
    for weight in ("-0.1", "1.1", "nan", "much"):
        sent = {"text": "red", "text_weight": weight}
        refused(client.post("/search", data=sent, files={"photo": photo(1)}), 422, "text_weight=")
    refused(client.post("/search", json={"text": "unknown"}), 422, "no word that the run's tokenizer knows")
    refused(client.post("/search", content=b""), 400, "or words as its field `text`")


def test_texts_are_embedded_in_batches_and_timed(client):
    assert nearest(client.post("/search", json={"text": "red"})) == "red"
    figures = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    for kind in ("photos", "texts"):
        assert float(figures[f"ssljax_batch_{kind}_count"]) >= 1
        assert float(figures[f'ssljax_embedding_seconds_count{{kind="{kind}"}}']) >= 1


def test_openapi_and_the_page_have_words_where_the_network_reads_them(client, tmp_path):
    with served(collection(tmp_path, 2)) as plain, httpx.Client(base_url=plain) as without:
        for one, there in ((client, True), (without, False)):
            api = one.get("/openapi.json").json()
            content = api["paths"]["/search"]["post"]["requestBody"]["content"]
            assert ("text" in content["multipart/form-data"]["schema"]["properties"]) is there
            assert ("application/json" in content) is there
            assert ("by words" in api["info"]["description"]) is there
            assert ("text_weight" in one.get("/docs").text) is there
            page = one.get("/")
            assert ('<input id="words"' in page.text) is there
            assert len(re.findall("<script>", page.text)) == 1
        for sent in ({"files": {"text": (None, "red")}}, {"data": {"text": "red"}, "files": {"photo": photo(1)}}):
            refused(without.post("/search", **sent), 422, "reads photos, but no titles")
        refused(without.post("/search", json={"text": "red"}), 415, "send the photo itself")
