"""The service answers right, refuses what is hostile with one sentence, and is well after it."""

import base64
import concurrent.futures
import hashlib
import json
import re
import socket
import threading
import time
import zlib

import httpx
import numpy as np
import pytest
from search.serve.serving import AUTHORISED, ENCODER, SIDE, collection, colours, full_disk, photo, served

from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection
from ssljax.search.serve import Limits, app

LIMITS = Limits(upload_mib=0.5, pixels=1_000_000, k=50, upload_seconds=1.0, seconds=5.0, requests=32)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A service that the tests of this module share; those that change it put it back."""
    with served(collection(tmp_path_factory.mktemp("shop")), limits=LIMITS) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
        assert client.get("/healthz").json()["items"] == 20


def refused(answer: httpx.Response, status: int, sentence: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert sentence in answer.json()["error"], answer.text


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_a_photo_finds_itself_however_it_is_sent(client):
    for kind in ("PNG", "WEBP", "JPEG"):
        sent = client.post("/search", params={"k": 3}, content=photo(7, kind))
        assert ids(sent)[0] == "shelf/7" and len(ids(sent)) == 3
        item = sent.json()["items"][0]
        assert item["score"] == pytest.approx(1, abs=1e-3) and item["columns"] == {"title": "<b>Mug</b> 7"}
        assert item["caption"] == "<b>Mug</b> 7"
    as_form = client.post("/search", data={"k": "2"}, files={"photo": ("x.png", photo(7))})
    assert ids(as_form)[0] == "shelf/7" and len(ids(as_form)) == 2
    assert len(ids(client.post("/search", content=photo(7)))) == 10
    assert len(ids(client.post("/search?k=50", content=photo(7)))) == 20


def test_an_item_finds_others_and_shows_its_photo(client):
    item = client.post("/search", params={"k": 1}, content=photo(7)).json()["items"][0]
    found = ids(client.get(item["similar"], params={"k": 19}))
    assert len(found) == 19 and "shelf/7" not in found
    assert ids(client.get("/items/shelf/7/similar?k=19")) == found  # the slash need not be encoded
    shown = client.get(item["photo"])
    assert shown.headers["content-type"] == "image/jpeg" and shown.content[:2] == b"\xff\xd8"


def test_a_head_is_that_of_a_get_without_its_body(client):
    for path in ("/", "/healthz", "/items/shelf%2F1/photo", "/nothing"):
        head, whole = client.head(path), client.get(path)
        assert head.status_code == whole.status_code and head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"]


def test_photos_are_served_by_id_and_never_by_path(client, tmp_path):
    for path in ("../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%2Fetc%2Fpasswd", "0.png", "", "shelf/0%00"):
        refused(client.get(f"/items/{path}/photo"), 404, "")


HOSTILE = {
    "not an image": (b"hello", 422, "not an image"),
    "empty": (b"", 400, "there is no photo"),
    "half an image": (photo(1, "JPEG")[:500], 422, "truncated"),
    "a PNG of nothing": (photo(1)[:8], 422, "cannot be read"),
    "JPEG 2000, whose decoder holds Python's lock": (photo(1, "JPEG2000"), 422, "(JPEG, PNG, WEBP)"),
    "TIFF": (photo(1, "TIFF"), 422, "(JPEG, PNG, WEBP)"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 422, "not an image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", 422, "not an image"),
    "huge": (bytes(600_000), 413, "larger than 0.5 MiB"),
}


@pytest.mark.parametrize("body, status, sentence", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_photo_is_refused(body, status, sentence, client):
    refused(client.post("/search", content=body), status, sentence)
    refused(client.post("/search", files={"photo": ("x.jpg", body)}), status, sentence)


def bomb(side: int) -> bytes:
    """A PNG of side x side white pixels, in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    head = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes(side * (1 + side // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded(client):
    assert ids(client.post("/search?k=1", content=bomb(960)))
    for side in (1008, 40_000, 2**31 - 8):
        body = bomb(side) if side < 2000 else bomb(1008).replace((1008).to_bytes(4) * 2, side.to_bytes(4) * 2)
        head = body[12:29]
        body = body[:29] + zlib.crc32(head).to_bytes(4) + body[33:]
        refused(client.post("/search", content=body), 422, "bomb")


@pytest.mark.parametrize("k", ["0", "-1", "51", "1e9", "99999999999999999999", "ten", "", "1.5", "²", "NaN"])
def test_another_k_is_refused(k, client):
    refused(client.post("/search", params={"k": k}, content=photo(1)), 422, "k=")
    refused(client.get("/items/shelf/1/similar", params={"k": k}), 422, "k=")


def test_what_is_not_there_is_404_and_405(client):
    refused(client.get("/items/none/similar"), 404, "there is no item 'none'")
    refused(client.delete("/items/none", headers=AUTHORISED), 404, "there is no item 'none'")
    refused(client.get("/nothing"), 404, "Not Found")
    refused(client.get("/search"), 405, "Not Allowed")
    refused(client.post("/search", json={"k": 1}), 415, "send the photo itself")


FORMS = {
    "no boundary": ("multipart/form-data", b"hello"),
    "another boundary": ("multipart/form-data; boundary=a", b"--b\r\n\r\nhello\r\n--b--"),
    "no end": ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="photo"\r\n\r\nhello'),
    "no header": ("multipart/form-data; boundary=a", b"--a\r\n\r\nhello\r\n--a--\r\n"),
    "many fields": (
        "multipart/form-data; boundary=a",
        b'--a\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n' * 1000 + b"--a--",
    ),
    "noise": ("multipart/form-data; boundary=a", np.random.default_rng(0).bytes(1000)),
}


@pytest.mark.parametrize("kind, body", FORMS.values(), ids=FORMS)
def test_a_malformed_form_is_refused(kind, body, client):
    for path in ("/search", "/items"):
        refused(client.post(path, content=body, headers=AUTHORISED | {"content-type": kind}), 400, "")


ITEMS = {
    "malformed": (b'{"id": ', 400, "not JSON"),
    "not text": (b"\xff\xfe{}", 400, "not JSON"),
    "deep": (b"[" * 100_000, 400, "not JSON"),
    "a list": (b"[]", 422, "must be an object"),
    "no id": (b'{"vector": [1]}', 422, "id is missing"),
    "a number as id": (b'{"id": 1}', 422, "id=1 must be a valid string"),
    "a blank id": (b'{"id": " "}', 422, "id=' ' must not be blank"),
    "half a character": (b'{"id": "\\ud800"}', 422, "must be a valid string"),
    "a long id": (json.dumps({"id": "x" * 2000}).encode(), 422, "must have at most 1000 characters"),
    "no vector": (b'{"id": "new"}', 422, "vector is missing"),
    "a short vector": (b'{"id": "new", "vector": [1, 2]}', 422, "vectors have 2 dimensions"),
    "texts": (
        b'{"id": "new", "vector": ["1", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}',
        422,
        "vector.0='1' must be a valid number",
    ),
    "NaN": (b'{"id": "new", "vector": [NaN, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}', 422, "NaN"),
    "infinite": (b'{"id": "new", "vector": [1e999, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}', 422, "infinity"),
    "large": (
        b'{"id": "new", "vector": [1' + b"0" * 999 + b", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}",
        422,
        "must be a valid number",
    ),
    "columns": (b'{"id": "new", "columns": {"a": []}}', 422, "columns.a=[] must be a valid string"),
    "half in a column": (b'{"id": "new", "columns": {"a": "\\ud800"}}', 422, "must be valid text"),
    "replace": (b'{"id": "new", "replace": 1}', 422, "replace=1 must be a valid boolean"),
    "a path": (b'{"id": "new", "photo": "/etc/passwd"}', 422, "photo is not a field"),
    "taken": (json.dumps({"id": "shelf/1", "vector": [1] * 12}).encode(), 409, "there is an item 'shelf/1' already"),
}


@pytest.mark.parametrize("body, status, sentence", ITEMS.values(), ids=ITEMS)
def test_an_item_that_is_no_good_is_refused(body, status, sentence, client):
    headers = AUTHORISED | {"content-type": "application/json"}
    refused(client.post("/items", content=body, headers=headers), status, sentence)


def test_changes_need_the_token(client, tmp_path):
    item = {"id": "new", "vector": [1.0] * 12}
    for header in ("", "Bearer", "Bearer wrong", "Basic YSB0b2tlbg==", "Bearer a tokem", "a token", "Bearer \xff"):
        headers = {"authorization": header.encode("latin-1")}
        for answer in (
            client.post("/items", json=item, headers=headers),
            client.delete("/items/shelf/1", headers=headers),
        ):
            refused(answer, 401, "Authorization: Bearer")
            assert answer.headers["www-authenticate"] == "Bearer"
    with served(collection(tmp_path), token=None) as address:
        for headers in ({}, AUTHORISED):
            refused(httpx.post(f"{address}/items", json=item, headers=headers), 403, "SSLJAX_TOKEN")


def test_added_items_are_found_shown_and_removed(client):
    new = {"id": "é/漢 ?#%", "columns": json.dumps({"title": "New", "price": 3})}
    added = client.post("/items", data=new, files={"photo": photo(99)}, headers=AUTHORISED)
    assert (added.status_code, added.json()) == (201, {"id": new["id"], "items": 21})
    item = client.post("/search?k=1", content=photo(99)).json()["items"][0]
    assert (item["id"], item["columns"]) == (new["id"], {"title": "New", "price": "3"})
    assert client.get(item["photo"]).status_code == 200 and len(ids(client.get(item["similar"]))) == 10
    refused(client.post("/items", data=new, files={"photo": photo(98)}, headers=AUTHORISED), 409, "already")
    again = client.post("/items", data=new | {"replace": "true"}, files={"photo": photo(98)}, headers=AUTHORISED)
    assert again.status_code == 201 and ids(client.post("/search?k=1", content=photo(98))) == [new["id"]]
    vector = {"id": "by vector", "vector": [1.0] * 11 + [0]}
    assert client.post("/items", json=vector, headers=AUTHORISED).status_code == 201
    refused(client.get("/items/by vector/photo"), 404, "has no photo")
    for path in (item["similar"].removesuffix("/similar"), "/items/by vector"):
        assert client.delete(path, headers=AUTHORISED).status_code == 200
    assert new["id"] not in ids(client.post("/search?k=50", content=photo(98)))


def test_searches_and_changes_at_once(client, address):
    def add(i: int) -> int:
        vector = np.random.default_rng(i).random(12).tolist()
        return httpx.post(f"{address}/items", json={"id": f"n{i}", "vector": vector}, headers=AUTHORISED).status_code

    def find(i: int) -> bool:
        answer = httpx.post(f"{address}/search?k=1", content=photo(i % 20), timeout=30)
        return answer.status_code == 503 or ids(answer) == [f"shelf/{i % 20}"]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        added, found = pool.map(add, range(40)), pool.map(find, range(60))
        assert set(added) == {201} and all(found)
    assert client.get("/healthz").json()["items"] == 60
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        gone = pool.map(lambda i: httpx.delete(f"{address}/items/n{i}", headers=AUTHORISED).status_code, range(40))
        assert set(gone) == {200}


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@pytest.mark.parametrize("after", [b"", b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"])
def test_a_slow_client_is_dropped_and_others_are_served(after, address, client):
    began, received = time.monotonic(), b""
    with connected(address) as slow:
        slow.sendall(after)
        slow.settimeout(0.1)
        while time.monotonic() - began < 20:
            try:
                slow.sendall(b"P")  # a byte at a time
                part = slow.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            received += part
            if not part:
                break
    assert time.monotonic() - began < 15
    assert (b" 408 " in received) == bool(after)
    assert ids(client.post("/search?k=1", content=photo(3))) == ["shelf/3"]


def test_a_second_request_may_not_be_slow_either(address):
    with connected(address) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in slow.recv(1000)
        slow.sendall(b"GET /heal")
        began = time.monotonic()
        assert slow.recv(1000) == b"" and time.monotonic() - began < 10


def test_a_body_that_is_said_to_be_huge_is_not_waited_for(address):
    with connected(address) as one:
        one.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999999\r\n\r\n")
        assert b" 413 " in one.recv(1000)
    with connected(address) as one:
        one.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20):
                one.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        except OSError:
            pass  # it has heard enough
        else:
            assert b" 413 " in one.recv(1000)


def test_a_request_of_another_host_is_refused(client):
    for host, status in {
        "evil.example": 400,
        "evil.example:80": 400,
        "127.0.0.1.evil.example": 400,
        "[::1]:80": 200,
    }.items():
        assert client.get("/healthz", headers={"host": host}).status_code == status


def test_when_it_is_full_it_says_so(tmp_path):
    release = threading.Event()

    def slow(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        if image.any():  # not while it compiles
            release.wait(20)
        return colours(image, aspect)

    limits, encoder = Limits(requests=2, seconds=1.5), Encoder(slow, SIDE, ENCODER.origin)
    with served(collection(tmp_path), limits=limits, encoder=encoder) as address:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(httpx.post, f"{address}/search", content=photo(i), timeout=30) for i in range(2)]
            while httpx.get(f"{address}/metrics").text.count("in_flight 3.0") < 1:  # this one is the third
                time.sleep(0.01)
            refused(full := httpx.post(f"{address}/search", content=photo(1)), 503, "2 requests are being answered")
            assert full.headers["retry-after"] == "1"
            for answer in waiting:
                refused(answer.result(), 504, "longer than 1.5 seconds")
        release.set()
        assert ids(httpx.post(f"{address}/search?k=1", content=photo(1), timeout=30)) == ["shelf/1"]


def test_photos_of_requests_that_were_given_up_are_not_decoded(tmp_path, monkeypatch):
    release, begun = threading.Event(), []

    def held(function):
        def slow(*arguments):
            begun.append(function.__name__)
            release.wait(20)
            return function(*arguments)

        return slow

    for function in (app.decode, app.thumbnail):
        monkeypatch.setattr(app, function.__name__, held(function))
    with served(collection(tmp_path), limits=Limits(seconds=2)) as address:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            waiting = [pool.submit(httpx.post, f"{address}/search", content=photo(i), timeout=30) for i in range(6)]
            waiting += [pool.submit(httpx.get, f"{address}/items/shelf/{i}/photo", timeout=30) for i in range(6)]
            for answer in waiting:
                refused(answer.result(), 504, "longer than 2 seconds")
        assert len(begun) == app.DECODERS  # of twelve, and these go on
        assert len(ids(httpx.get(f"{address}/items/shelf/1/similar?k=3"))) == 3  # searches do not wait for them
        release.set()
        assert ids(httpx.post(f"{address}/search?k=1", content=photo(1), timeout=30)) == ["shelf/1"]
        assert len(begun) == app.DECODERS + 1


def test_photos_that_come_together_are_embedded_together(tmp_path):
    sizes = []

    def counting(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        sizes.append(len(image))
        time.sleep(0.05)
        return colours(image, aspect)

    folder = collection(tmp_path)
    with served(folder, encoder=Encoder(counting, SIDE, ENCODER.origin), batch=10) as address:
        assert sizes == [1, 4, 10]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            found = pool.map(
                lambda i: ids(httpx.post(f"{address}/search?k=1", content=photo(i % 20), timeout=30)), range(32)
            )
            assert list(found) == [[f"shelf/{i % 20}"] for i in range(32)]
        assert set(sizes) <= {1, 4, 10} and len(sizes) < 3 + 32


def test_an_encoder_that_fails_is_500_and_the_next_is_right(tmp_path):
    failures = [RuntimeError("out of memory")]

    def failing(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        if image.any() and failures:
            raise failures.pop()
        return colours(image, aspect)

    with served(collection(tmp_path), encoder=Encoder(failing, SIDE, ENCODER.origin)) as address:
        refused(httpx.post(f"{address}/search", content=photo(1)), 500, "failed to answer")
        assert ids(httpx.post(f"{address}/search?k=1", content=photo(1))) == ["shelf/1"]


def test_changes_survive_a_restart_and_a_crash(tmp_path):
    folder = collection(tmp_path)
    with served(folder) as address:
        httpx.post(f"{address}/items", data={"id": "new"}, files={"photo": photo(50)}, headers=AUTHORISED)
        httpx.delete(f"{address}/items/shelf/0", headers=AUTHORISED)
        assert len(crashed := Collection.open(folder)) == 20 and "new" in crashed and "shelf/0" not in crashed
    assert len(list(folder.glob("items-*"))) == 1  # what SQLite keeps beside its file is merged into it
    with served(folder, save_every=0.05) as address:
        assert ids(httpx.post(f"{address}/search?k=1", content=photo(50))) == ["new"]
        assert httpx.get(f"{address}/items/new/photo").status_code == 200
        httpx.delete(f"{address}/items/new", headers=AUTHORISED)
        while httpx.get(f"{address}/healthz").json()["unsaved_changes"]:
            time.sleep(0.01)
    assert "new" not in Collection.open(folder)


def test_a_full_disk_is_507_and_nothing_is_changed(tmp_path):
    item = {"id": "n", "vector": [1] * 12}
    with served(collection(tmp_path)) as address:
        with full_disk():
            refused(httpx.post(f"{address}/items", json=item, headers=AUTHORISED), 507, "not made")
            refused(httpx.delete(f"{address}/items/shelf/1", headers=AUTHORISED), 507, "not made")
        assert httpx.get(f"{address}/healthz").json()["items"] == 20
        assert ids(httpx.post(f"{address}/search?k=1", content=photo(1))) == ["shelf/1"]


def test_figures_for_prometheus(client):
    client.post("/search?k=1", content=photo(1))
    client.get("/nothing")
    text = client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures['ssljax_requests_total{endpoint="search",status="200"}']) >= 1
    assert float(figures['ssljax_requests_total{endpoint="none",status="404"}']) >= 1
    assert float(figures["ssljax_items"]) == 20 and float(figures["ssljax_batch_photos_count"]) >= 1
    assert float(figures["ssljax_requests_in_flight"]) == 1


def test_openapi_describes_every_endpoint(client):
    described = client.get("/openapi.json").json()
    endpoints = {(method, path) for path, methods in described["paths"].items() for method in methods}
    items = {("get", "/items/{id}"), ("get", "/items/{id}/similar"), ("get", "/items/{id}/photo")}
    changes = {("post", "/items"), ("delete", "/items/{id}")}
    pages = {("get", path) for path in ("/", "/docs", "/healthz", "/metrics")}
    assert endpoints == items | changes | pages | {("post", "/search")}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            answer = client.request(method, path.replace("{id}", "none"))
            assert str(answer.status_code) in operation["responses"], (method, path, answer.status_code)
            assert operation["summary"] and ("security" in operation) == ((method, path) in changes)
    bodies = {path: described["paths"][path]["post"]["requestBody"]["content"] for path in ("/search", "/items")}
    assert set(bodies["/search"]) == {"image/*", "multipart/form-data"}
    assert bodies["/items"]["application/json"]["schema"]["required"] == ["id", "vector"]
    assert "HTTPValidationError" not in json.dumps(described)  # errors are one sentence


def test_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
        assert all(link.startswith("/") for link in re.findall(r'<[^>]+ (?:src|href)="([^"]*)"', page.text))
        assert "http://" not in page.text and "https://" not in page.text


def test_only_our_own_script_runs_whatever_titles_hold(client):
    for path in ("/", "/docs"):
        page = client.get(path)
        allowed = re.search(r"script-src ([^;]*)", page.headers["content-security-policy"])[1]
        scripts = [script.encode() for script in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)]
        hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts}
        assert hashes <= set(allowed.split()) and "unsafe" not in allowed
        assert not re.search(r"<[^>]*\son\w+\s*=|javascript:|innerHTML|insertAdjacentHTML|document\.write", page.text)
