"""Requests that can be read in two ways, come from elsewhere, or ask too much, are refused; no answer names a path."""

import json
import re
import signal
import socket
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from search.serve.serving import AUTHORISED, ENCODER, ORIGIN, SIDE, collection, colours, listening, photo, served

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings
from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection, Exact, save_collection
from ssljax.search.serve import Limits, Service, run
from ssljax.search.serve.limits import is_local

JSON = AUTHORISED | {"content-type": "application/json"}
VECTOR = [1.0] * 12


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(collection(tmp_path_factory.mktemp("shop")), limits=Limits(upload_seconds=2.0)) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
        assert client.get("/healthz").json()["items"] == 20


def told(address: str, request: bytes) -> tuple[int, dict, bool]:
    """Status and JSON of the first answer to what is sent, and whether the connection is closed after it."""
    host, port = address.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as one:
        one.sendall(request)
        one.settimeout(1.0)  # less than a connection waits for another request
        try:
            while part := one.recv(65536):
                received += part
            closed = True
        except TimeoutError:
            closed = False
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1]) if b"content-length" in head else len(body)
    return int(head.split()[1]), json.loads(body[:length]), closed


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /items HTTP/1.1\r\nHost: localhost\r\n"
AMBIGUOUS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "length and chunks of a GET": GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "two lengths in one": POST + b"Content-Length: 5, 6\r\n\r\nabcdef",
    "a length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nabcde",
    "a length in hex": POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "a size of a chunk that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "a size of a chunk below zero": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": GET + b"X: a\r\n b\r\n\r\n",
    "a folded line with a tab": GET + b"X: a\r\n\tContent-Length: 5\r\n\r\n",
    "bare line feeds": GET.replace(b"\r", b"") + b"\n",
    "one bare line feed": GET + b"X: a\nContent-Length: 5\r\n\r\n",
    "a bare carriage return": GET + b"X: a\rContent-Length: 5\r\n\r\n",
    "NUL in a header": GET + b"X: a\0b\r\n\r\n",
    "two hosts": GET + b"Host: localhost\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a large head": GET + b"X: " + b"a" * 50_000 + b"\r\n\r\n",
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "after another request": GET + b"\r\n" + GET + b"X: a\n\r\n\r\n",
}


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_400_and_ends_the_connection(request_, address):
    status, answer, closed = told(address, request_)
    if request_.startswith(GET + b"\r\n"):
        assert (status, closed) == (200, True)  # the first of the two
    else:
        assert (status, list(answer), closed) == (400, ["error"], True)


def test_what_is_plain_is_answered_and_the_connection_goes_on(address):
    for request in (
        GET + b"\r\n",
        GET + b"X: \xe9\r\n\r\n",
        GET.replace(b"/healthz", b"http://localhost:80/healthz") + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:   LOCALHOST:1  \r\n\r\n",
    ):
        assert told(address, request)[::2] == (200, False), request
    chunks = b"Authorization: Bearer no\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"
    assert told(address, POST + chunks)[0] == 401


HOSTS = {
    **{host: 200 for host in ("localhost", "LOCALHOST", "LocalHost:8000", "localhost.", "localhost.:80", "127.0.0.1")},
    **{host: 200 for host in ("127.0.0.1:65535", "127.8.8.8", "[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]", "127.0.0.1:")},
    **{host: 400 for host in ("evil.example", "[::1]evil.example", "127.0.0.1:80@evil", "localhost@evil", "[::1", "")},
    **{host: 400 for host in ("127.0.0.1.evil.example", "localhost.evil.example", "localhost:80:80", "localhost:x")},
    **{host: 400 for host in ("localhost/evil", "localhost#", "localhost?", "[localhost]", "[127.0.0.1]x", "::1")},
    **{
        host: 400 for host in ("localhost..", "local host", "a,localhost", "0.0.0.0", "10.0.0.1", "[::2]", "2130706433")
    },
    **{host: 400 for host in ("localhost:123456", "[::1]:80@evil", "127.0.0.1\\evil", "user@localhost", "[::1%25lo]")},
}


@pytest.mark.parametrize("host, status", HOSTS.items(), ids=repr)
def test_only_a_host_that_is_this_machine_is_answered(host, status, address):
    assert told(address, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())[0] == status
    if " " not in host:
        as_proxy = f"GET http://{host}/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        expected = 404 if host in ("localhost/evil", "127.0.0.1/evil") else status  # another path
        if not set("#?") & set(host):
            assert told(address, as_proxy)[0] == expected


def test_a_target_that_is_no_path_is_refused(address):
    for target in (b"*", b"localhost:80", b"ftp://localhost/healthz", b"//evil/healthz", b"healthz", b"http:/healthz"):
        status, answer, _ = told(
            address, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert status in (400, 404) and answer["error"], target


def test_addresses_are_local_in_any_spelling():
    assert all(map(is_local, ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_local, ("0.0.0.0", "::", "example.org", "localhost.example.org", "", "10.0.0.1")))


def test_pages_of_other_sites_get_nothing(client):
    for origin in ("http://evil.example", "https://127.0.0.1.evil.example", "null", "http://localhost@evil", "file://"):
        answer = client.post("/search", content=photo(1), headers={"origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (403, "the request comes from a page of another site")
    for origin in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:80"):
        assert client.post("/search", content=photo(1), headers={"origin": origin}).status_code == 200
    for path in ("/", "/docs", "/healthz", "/items/shelf%2F1/photo", "/nothing"):
        headers = client.get(path).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers


def test_to_a_network_other_hosts_and_pages_may_ask(tmp_path):
    with served(collection(tmp_path), local=False) as address:
        headers = {"host": "shop.example", "origin": "https://shop.example"}
        answer = httpx.post(f"{address}/search", content=photo(1), headers=headers)
        assert answer.status_code == 200 and "cross-origin-resource-policy" not in answer.headers
        assert httpx.get(f"{address}/healthz", headers={"host": "shop.example:80@evil"}).status_code == 400


def form(*parts: bytes) -> tuple[bytes, dict[str, str]]:
    body = b"".join(b"--a\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--a--\r\n"
    return body, AUTHORISED | {"content-type": "multipart/form-data; boundary=a"}


PHOTO = b'name="photo"; filename="x.png"\r\n\r\n' + photo(1)


def test_text_that_cannot_be_decoded_is_refused_and_not_stored_as_other_text(client):
    for part in (b'name="id"\r\n\r\ncaf\xe9', b'name="id"\r\n\r\n\xff', b'name="id"\r\n\r\n\xed\xa0\x80'):
        body, headers = form(part, PHOTO)
        answer = client.post("/items", content=body, headers=headers)
        assert answer.status_code == 422 and "'id' is not UTF-8" in answer.json()["error"]
        for charset in ("latin-1", "utf-16", "none"):
            headers["content-type"] = f"multipart/form-data; charset={charset}; boundary=a"
            assert client.post("/items", content=body, headers=headers).status_code == 422
    for part in (b'name="columns"\r\n\r\n{"title": "\xe9"}', b'name="\xe9"\r\n\r\nx'):
        body, headers = form(b'name="id"\r\n\r\nnew', part, PHOTO)
        assert client.post("/items", content=body, headers=headers).status_code == 422
    for body in (b'{"id": "caf\xe9", "vector": [1]}', b'{"id": "\xed\xa0\x80", "vector": [1]}'):
        assert client.post("/items", content=body, headers=JSON).status_code in (400, 422)


def test_a_form_that_is_unclear_is_refused(client):
    one, two = b'name="id"\r\n\r\none', b'name="id"\r\n\r\ntwo'
    for parts in ((one, two, PHOTO), (one, PHOTO, PHOTO), tuple(b'name="%d"\r\n\r\n' % i for i in range(9))):
        body, headers = form(*parts)
        assert client.post("/items", content=body, headers=headers).status_code == 400
    for path in ("/items", "/search"):
        body, headers = form(one, b'name="columns"\r\n\r\n' + b" " * 1_100_000)
        assert client.post(path, content=body, headers=headers).status_code == 413


LARGE = {
    "many columns": ({f"c{i}": "x" for i in range(30_000)}, 422, "at most 256"),
    "257 columns": ({f"c{i}": "" for i in range(257)}, 422, "at most 256"),
    "a long name": ({"x" * 201: ""}, 422, "at most 200 characters"),
    "a long text": ({"x": "é" * 40_000}, 422, "64 KiB"),
    "numbers": ({f"c{i}": i for i in range(500_000)}, 413, "1 MiB"),
    "a tree": ({"x": {"y": 1}}, 422, "must be a valid string"),
}


@pytest.mark.parametrize("columns, status, sentence", LARGE.values(), ids=LARGE)
def test_columns_that_are_too_many_or_too_large_are_refused(columns, status, sentence, client):
    data = json.dumps(columns)
    body = f'{{"id": "new", "vector": {VECTOR}, "columns": {data}}}'
    answers = [client.post("/items", content=body, headers=JSON)]
    answers.append(
        client.post("/items", data={"id": "new", "columns": data}, files={"photo": photo(1)}, headers=AUTHORISED)
    )
    for answer in answers:
        assert answer.status_code == status and sentence in answer.json()["error"], answer.text
        assert len(answer.text) < 1000


def test_what_is_just_small_enough_is_kept(client):
    columns = {f"{i:0200}": "é" * 20 for i in range(256)}
    assert (
        client.post("/items", json={"id": "new", "vector": VECTOR, "columns": columns}, headers=AUTHORISED).status_code
        == 201
    )
    assert client.get("/items/new").json()["columns"] == columns
    assert client.delete("/items/new", headers=AUTHORISED).status_code == 200


@pytest.mark.parametrize("body", [b'{"a":' * 150_000, b"[" * 900 + b"]" * 900, b'{"id": ' + b"9" * 900_000 + b"}"])
def test_json_that_is_deep_or_long_is_refused_in_a_short_sentence(body, client):
    answer = client.post("/items", content=body, headers=JSON)
    assert answer.status_code in (400, 422) and len(answer.text) < 500
    for field in ("replace", "x" * 500_000):
        answer = client.post("/items", json={"id": "new", "vector": VECTOR, field: ["y"] * 100_000}, headers=AUTHORISED)
        assert answer.status_code == 422 and len(answer.text) < 2000


def test_connections_that_are_too_many_are_closed_and_the_others_served(tmp_path):
    with served(collection(tmp_path), limits=Limits(connections=5, upload_seconds=3)) as address:
        host, port = address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=20) for _ in range(10)]
        closed = 0
        for one in idle:
            one.settimeout(0.3)
            try:
                closed += one.recv(1) == b""
            except ConnectionError:
                closed += 1
            except TimeoutError:
                pass
        assert closed == 5
        idle[0].sendall(GET + b"\r\n")
        assert b" 200 " in idle[0].recv(1000)
        for one in idle:
            one.close()


def test_a_token_may_have_any_characters(tmp_path):
    with served(collection(tmp_path), token="gehéim漢\udcff") as address:
        right = "gehéim漢".encode() + b"\xff"
        for token, status in ((right, 200), (right[:-1], 401), (b"x", 401), ("gehéim漢".encode("utf-16"), 401)):
            headers = [(b"authorization", b"Bearer " + token.replace(b"\0", b" "))]
            assert httpx.delete(f"{address}/items/shelf%2F1", headers=headers).status_code == status


def test_no_answer_names_a_path_of_the_server(tmp_path):
    root, n = tmp_path / "shop", 12
    (root / "photos").mkdir(parents=True)
    paths = [str(root / "photos" / f"{i}.png") for i in range(n)]
    for i, path in enumerate(paths[:-1]):  # the last one is missing
        Path(path).write_bytes(photo(i) if i else b"broken")
    columns = {
        "title": text(f"Mug {i} 1/2, /red/ and https://cdn{tmp_path}/{i}.png" for i in range(n)),
        "image": text(paths),
        "images": text(f"{path}|{tmp_path}/more/{i}.png" for i, path in enumerate(paths)),
        "list": text(json.dumps([path, f"{tmp_path}/with blank/{i} b.png"]) for i, path in enumerate(paths)),
        "url": text(f"file://{path}" for path in paths),
    }
    vectors = np.random.default_rng(0).random((n, 12), np.float32)
    embeddings = Embeddings(text(map(str, range(n))), vectors, columns, photos=text(paths), origin=ORIGIN)
    save_collection(tmp_path / "index", Exact(), embeddings)
    answers = []
    with (
        served(tmp_path / "index") as address,
        httpx.Client(base_url=address, timeout=30, headers=AUTHORISED) as client,
    ):
        for path in (
            "/",
            "/docs",
            "/openapi.json",
            "/healthz",
            "/metrics",
            "/nothing",
            "/items",
            "/items/x",
            "/search/",
        ):
            answers.append(client.get(path))
        for i in range(n):
            for end in ("", "/similar", "/photo", "/similar?k=x", "/photo/photo"):
                answers.append(client.get(f"/items/{i}{end}"))
        for body in (photo(1), b"", b"broken", b"\0", photo(1, "JPEG")[:300], photo(1, "TIFF")):
            answers.append(client.post("/search", content=body))
        for vector in (VECTOR, [0.0] * 12, [1e300] * 12, [1.0]):
            answers.append(client.post("/items", json={"id": "new", "vector": vector, "columns": {"at": "/a/b/c"}}))
        answers.append(client.get("/items/new"))
        answers.append(client.delete("/items/0"))
        answers.append(client.post("/items", json={"id": "1", "vector": VECTOR}))
    first = answers[9].json()
    assert first["id"] == "0" and first["columns"]["image"] == "0.png" and first["columns"]["images"] == "0.png|0.png"
    assert first["columns"]["list"] == '["0.png", "0 b.png"]' and first["columns"]["url"] == "0.png"
    assert first["columns"]["title"].startswith("Mug 0 1/2, /red/ and https://cdn/")
    assert next(a for a in answers if a.url.path == "/items/new").json()["columns"] == {"at": "/a/b/c"}
    assert {200, 201, 400, 404, 405, 409, 422} == {answer.status_code for answer in answers}
    for answer in answers:
        said = answer.text.replace(f"https://cdn{tmp_path}", "") + repr(answer.headers)
        assert str(tmp_path) not in said, answer.url


def test_it_says_when_it_is_ready_and_searches_wait_until_then(tmp_path):
    release, told_ready = threading.Event(), threading.Event()

    def slow(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        release.wait(20)
        return colours(image, aspect)

    shop = Collection.open(collection(tmp_path))
    service = Service(shop, Encoder(slow, SIDE, ENCODER.origin), lambda id: shop.item(id).photo)
    service.on_ready = told_ready.set
    with listening(service) as address:
        health = httpx.get(f"{address}/healthz")
        assert health.status_code == 503 and health.json()["status"] == "starting" and health.json()["items"] == 20
        assert httpx.get(f"{address}/items/shelf%2F1").status_code == 200 and not told_ready.is_set()
        found = []
        search = threading.Thread(
            target=lambda: found.append(httpx.post(f"{address}/search?k=1", content=photo(7), timeout=30))
        )
        search.start()
        assert httpx.get(f"{address}/healthz").status_code == 503
        release.set()
        search.join()
        assert found[0].json()["items"][0]["id"] == "shelf/7" and told_ready.is_set()
        assert httpx.get(f"{address}/healthz").json()["status"] == "ok"


def test_a_service_that_cannot_start_ends_and_says_why(tmp_path):
    def failing(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        raise MemoryError("no room")

    shop = Collection.open(collection(tmp_path), to_change=True)
    service = Service(shop, Encoder(failing, SIDE, ENCODER.origin), lambda id: None)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(MemoryError, match="no room"):
            run(service, host="127.0.0.1", port=0)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    Collection.open(tmp_path / "index", to_change=True).close()  # nobody holds it
