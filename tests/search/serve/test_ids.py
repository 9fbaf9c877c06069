"""Whatever an id is, the addresses that a search gives show its item and its photo, search by it, and remove it."""

import contextlib
import io
import json
import unicodedata
import urllib.parse

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from search.serve.serving import AUTHORISED, ENCODER, ORIGIN, SIDE, collection, photo, served

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings
from ssljax.search import Collection, Exact, save_collection
from ssljax.search.collection import LONGEST_ID
from ssljax.search.serve.limits import LONGEST_ID as LONGEST_SENT
from ssljax.types import UserError

AWKWARD = [
    *("line\nbreak", "\r\n", "tab\t", "\x00", "a\x00b", "\x1b[31m", "\x7f", " blank around ", " ", "\u3000", "\ufeff"),
    *(
        "a/b",
        "/",
        "//",
        "/a",
        "a/",
        "?",
        "a?b=c&d",
        "#",
        "a#b",
        "%",
        "%2F",
        "%2f",
        "%25",
        "%00",
        "%zz",
        "+",
        "a+b",
        " +",
    ),
    *(".", "..", "...", "../..", "a/../b", "/../", "./", "=.", "=..", "%2E%2E", "..%2f", "\\", "..\\", ";", "a;b", ":"),
    *(
        "photo",
        "similar",
        "a/photo",
        "a/similar",
        "/photo",
        "/similar",
        "photo/photo",
        "items",
        "search",
        "@",
        "~",
        "*",
    ),
    *(
        "é漢ß",
        "\u0644\u0627\u200c",
        "हिन्दी",
        "👨\u200d👩\u200d👧",
        "🇪🇺",
        "\u202e",
        "\uffff",
        "\U0010ffff",
        '"',
        "'",
        "<b>",
        "`",
    ),
    *(unicodedata.normalize(form, "café") for form in ("NFC", "NFD")),
    *(
        "x" * LONGEST_SENT,
        "é" * (LONGEST_ID // 2),
        "👍" * (LONGEST_ID // 4),
        "http://evil.example/",
        "{id}",
        "-",
        "0",
        "None",
    ),
]
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | st.lists(
    st.sampled_from(AWKWARD), min_size=1, max_size=3
).map(lambda parts: "".join(parts)[:LONGEST_SENT])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder of a collection of items with awkward ids; the photo of each has a colour of its own."""
    folder = tmp_path_factory.mktemp("shop")
    paths, vectors = [], []
    for i in range(len(AWKWARD)):
        paths.append(str(folder / f"{i}.png"))
        Image.new("RGB", (SIDE, SIDE), colour(i)).save(paths[-1])
        vectors.append(ENCODER.embed(np.asarray(Image.open(paths[-1]))[None], np.ones(1, np.float32))[0])
    embeddings = Embeddings(text(AWKWARD), np.stack(vectors), photos=text(paths), origin=ORIGIN)
    save_collection(folder / "index", Exact("l2"), embeddings)
    return folder / "index"


@pytest.fixture(scope="module")
def client(shop):
    with served(shop) as address, httpx.Client(base_url=address, timeout=30, headers=AUTHORISED) as client:
        yield client


def colour(i: int) -> tuple[int, int, int]:
    return (i * 3 % 256, i * 50 % 256, 255 - i * 3 % 256)


def is_an_address(path: str) -> bool:
    """Whether a client asks for it as it is: none takes a part of it for a folder above, a query or a fragment."""
    url = urllib.parse.urlsplit(urllib.parse.urljoin("http://localhost/some/page", path))
    return (url.path, url.query, url.fragment) == (path, "", "") and path.isascii() and path.isprintable()


def test_awkward_ids_are_shown_found_and_removed_at_the_addresses_that_a_search_gives(client, shop):
    for i, id in enumerate(AWKWARD):
        buffer = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), colour(i)).save(buffer, "PNG")
        found = client.post("/search?k=1", content=buffer.getvalue()).json()["items"][0]
        assert found["id"] == id and is_an_address(found["address"])
        shown = client.get(found["photo"])
        pixel = np.asarray(Image.open(io.BytesIO(shown.content)))[0, 0].astype(int)
        assert shown.status_code == 200 and np.abs(pixel - colour(i)).max() < 6, id
        item = client.get(found["address"]).json()
        assert item == {name: value for name, value in found.items() if name != "score"}
        similar = [other["id"] for other in client.get(found["similar"] + "?k=100").json()["items"]]
        assert sorted(similar) == sorted(set(AWKWARD) - {id})
    addresses = [client.get(f"/items/{urllib.parse.quote(id, safe='')}") for id in AWKWARD if id not in (".", "..")]
    assert [answer.json()["id"] for answer in addresses] == [id for id in AWKWARD if id not in (".", "..")]


@settings(max_examples=60, deadline=None)
@given(id=IDS)
def test_an_id_that_is_put_is_found_shown_and_removed(client, id):
    photo_of_it = photo(1234)
    sent = client.post("/items", files={"photo": photo_of_it}, data={"id": id, "replace": "true"})
    if not id.strip():
        assert sent.status_code == 422
        return
    count = sent.json()["items"]
    assert (sent.status_code, sent.json()["id"]) == (201, id)
    found = client.post("/search?k=1", content=photo_of_it).json()["items"][0]
    assert found["id"] == id and is_an_address(found["address"])
    assert client.get(found["photo"]).headers["content-type"] == "image/jpeg"
    assert client.get(found["address"]).json()["id"] == id
    assert id not in [other["id"] for other in client.get(found["similar"]).json()["items"]]
    vector = json.dumps({"id": id, "vector": [0.5] * 12, "replace": True})
    headers = {"content-type": "application/json"}
    assert client.post("/items", content=vector, headers=headers).json() == {"id": id, "items": count}
    if id in AWKWARD:
        return
    assert client.delete(found["address"]).json() == {"id": id, "items": count - 1}
    assert [client.get(found[name]).status_code for name in ("address", "photo", "similar")] == [404] * 3


def test_bytes_that_are_no_text_name_no_item(client, tmp_path):
    with served(collection(tmp_path)) as address:
        replaced = {"id": "caf\ufffd", "vector": [1.0] * 12}
        assert httpx.post(f"{address}/items", json=replaced, headers=AUTHORISED).status_code == 201
        for path in ("/items/caf%FF", "/items/caf%FF/photo", "/items/caf%E9/similar", "/items/%ED%A0%80"):
            assert httpx.get(address + path).status_code == 404


def test_ids_that_no_address_could_hold_are_refused(tmp_path):
    for id, message in (("é" * (LONGEST_ID // 2) + "x", "has 4,097 bytes"), ("half \ud83d", "half of a character")):
        with pytest.raises(UserError, match=message):
            ids = np.array([id], object)
            save_collection(tmp_path / "none", Exact(), Embeddings(ids, np.ones((1, 4), np.float32)))
    with contextlib.closing(Collection.open(collection(tmp_path), to_change=True)) as shop:
        with pytest.raises(UserError, match="half of a character"):
            shop.put("half \ud83d", np.ones(12), {})
        assert len(shop) == 20
