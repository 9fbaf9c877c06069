"""The endpoints of the service. `openapi.json` describes them; a test holds the two together."""

import asyncio
import contextlib
import hmac
import io
import logging
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ssljax.data.decode import FORMATS, BadImage, decode, thumbnail
from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection
from ssljax.search.collection import Item
from ssljax.search.serve.batching import Batcher
from ssljax.search.serve.limits import Limited, Limits
from ssljax.search.serve.pages import API, HEADERS, PAGE, api_page
from ssljax.search.serve.reading import check_columns, check_id, read_form, read_json
from ssljax.types import UserError

DECODERS = 4  # photos decoded at a time
UPLOADS = ("JPEG", "PNG", "WEBP")  # what strangers may send; their decoders leave Python's lock
SHOWN = tuple(format for format in FORMATS if format != "JPEG2000")  # whose decoder holds the lock for seconds
THUMBNAIL = 224  # pixels of the longer side
SHOWN_ID = 1000  # characters of an id in a sentence
DOTS = {".": "=.", "..": "=.."}  # clients take these for "here" and "above" in an address, percent-encoded or not
DEFAULT_K = 10
DEFAULT_LIMITS = Limits()
NO_TOKEN = "changes are refused, as no token is set: start the service with SSLJAX_TOKEN in its environment"

log = logging.getLogger("ssljax.search.serve")


class Service:
    """A collection over HTTP.

    Args:
      collection: open; to be changed, if there is a token.
      encoder: what embeds photos for it.
      photo: id → what `decode` reads; None if there is no photo.
      token: what changes have to show; None refuses them.
      limits: what requests may ask.
      batch: photos that are embedded at a time at most.
      wait: seconds that a photo waits for others.
      save_every: seconds between saves, if there were changes; each is on the disk before it is answered anyway.
      local: whether only this machine is served.

    It compiles when it starts. Until then `/healthz` says so, with 503, and what sends a photo waits.
    """

    def __init__(
        self,
        collection: Collection,
        encoder: Encoder,
        photo: Callable[[str], Any],
        *,
        token: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        batch: int = 16,
        wait: float = 0.002,
        save_every: float = 60.0,
        local: bool = True,
    ):
        self.collection, self.limits = collection, limits
        self._encoder, self._photo, self._token, self._save_every = encoder, photo, token, save_every
        self._metrics = _Metrics(collection)
        self._ready = asyncio.Event()
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        self._batcher = Batcher(encoder, most=batch, wait=wait, observe=self._metrics.batch.observe)
        self._searchers = ThreadPoolExecutor(8, thread_name_prefix="search")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")  # searches do not wait for them
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="changes")  # in order, and never behind searches
        routes = [
            Route("/", self.page),
            Route("/docs", self.docs),
            Route("/openapi.json", self.openapi),
            Route("/healthz", self.healthz),
            Route("/metrics", self.metrics),
            Route("/search", self.search, methods=["POST"]),
            Route("/items", self.add, methods=["POST"]),
            Route("/items/{id:path}/similar", self.similar),
            Route("/items/{id:path}/photo", self.photo),
            Route("/items/{id:path}", self.item),
            Route("/items/{id:path}", self.remove, methods=["DELETE"]),
        ]
        handlers = {HTTPException: _http_error, UserError: self._user_error, ClientDisconnect: _gone}
        handlers[Exception] = _failed
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        app.router.redirect_slashes = False  # the address would be made of what the request says
        self.app = Limited(app, limits, local=local, observe=self._metrics.observe)
        self._metrics.in_flight.set_function(lambda: self.app.in_flight)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._save_when_due())]
        try:
            async with self._batcher.running():
                yield
        finally:
            for task in tasks:
                task.cancel()
            self._writer.shutdown(wait=True)  # a change that was begun is finished
            await asyncio.to_thread(self._save)
            self.collection.close()

    async def _start(self) -> None:
        try:
            await asyncio.to_thread(self._compile)
        except Exception as error:
            self.on_failure(error)
        else:
            self._ready.set()
            self.on_ready()

    def _compile(self) -> None:
        self._batcher.compile()
        self.collection.search(np.ones((1, self.collection.dimensions)), self._k(None))

    async def _save_when_due(self) -> None:
        while True:
            await asyncio.sleep(self._save_every)
            await asyncio.to_thread(self._save)

    def _save(self) -> None:
        if self.collection.unsaved:
            try:
                self.collection.save()
            except (OSError, UserError) as error:  # the database has the changes, and the next save may succeed
                self._metrics.failed_saves.inc()
                log.error("the index cannot be saved: %s; its changes are in the database", error)

    async def page(self, request: Request) -> Response:
        """GET /"""
        return HTMLResponse(PAGE, headers=HEADERS)

    async def docs(self, request: Request) -> Response:
        """GET /docs"""
        return HTMLResponse(api_page(), headers=HEADERS)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json"""
        return JSONResponse(API)

    async def healthz(self, request: Request) -> Response:
        """GET /healthz"""
        facts = {"items": len(self.collection), "dimensions": self.collection.dimensions}
        facts["unsaved_changes"] = self.collection.unsaved
        if not self._ready.is_set():
            return JSONResponse({"status": "starting", **facts}, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ok", **facts})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def search(self, request: Request) -> Response:
        """POST /search: a photo as the body, or as a file of a form."""
        kind = _content_type(request)
        if kind == "application/json":
            raise HTTPException(415, "send the photo itself as the body, or as the file `photo` of multipart/form-data")
        photo, k = await request.body(), request.query_params.get("k")
        if kind == "multipart/form-data":
            fields, photo = await self._form(request, photo)
            k = fields.get("k", k)
        k = self._k(k)
        if not photo:
            raise HTTPException(400, "there is no photo: send it as the body, or as the file `photo` of a form")
        vector = await self._embed(photo)
        return await self._in_thread(self._searchers, self._nearest, vector, k)

    def _nearest(self, vector: np.ndarray, k: int) -> Response:
        ids, scores = self.collection.search(vector[None], k)
        return self._found(ids[0], scores[0])

    async def similar(self, request: Request) -> Response:
        """GET /items/{id}/similar"""
        id, k = self._known(request), self._k(request.query_params.get("k"))
        return await self._in_thread(self._searchers, self._similar, id, k)

    def _similar(self, id: str, k: int) -> Response:
        try:
            found = self.collection.similar(id, k)
        except UserError:
            if id in self.collection:
                raise
            raise _no_item(id) from None  # it was removed meanwhile
        return self._found(*found)

    async def item(self, request: Request) -> Response:
        """GET /items/{id}"""
        id = self._known(request)
        return JSONResponse(self._described(id))

    async def photo(self, request: Request) -> Response:
        """GET /items/{id}/photo: a thumbnail."""
        id = self._known(request)
        content = await self._in_thread(self._decoders, self._thumbnail, id)
        if content is None:
            raise HTTPException(404, f"item {id!r} has no photo that can be read")
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=60"})

    async def add(self, request: Request) -> Response:
        """POST /items: a form with a photo, or JSON with a vector."""
        self._check_token(request)
        kind, body, photo = _content_type(request), await request.body(), None
        if kind == "multipart/form-data":
            fields, photo = await self._form(request, body)
            if not photo:
                raise HTTPException(400, "there is no photo: send it as the file `photo` of the form")
        elif kind == "application/json":
            fields = await self._in_thread(self._readers, read_json, body, "the body")
        else:
            raise HTTPException(415, "send multipart/form-data with a photo, or application/json with a vector")
        id, columns, replace, vector = await self._in_thread(self._readers, self._read_item, fields, bool(photo))
        if not replace and id in self.collection:
            raise HTTPException(409, f"there is an item {id!r} already: send replace=true to put this in its place")
        vector = await self._embed(photo) if photo else self._vector(vector)
        await self._change(lambda: self.collection.put(id, vector, columns, photo, replace=replace))
        return JSONResponse({"id": id, "items": len(self.collection)}, 201)

    def _read_item(self, fields: Any, is_form: bool) -> tuple[str, dict[str, str], bool, Any]:
        """Id, columns, replace, and the vector as it was sent; raises HTTPException, 422, if they are no good."""
        if not isinstance(fields, dict):
            raise HTTPException(422, 'the body must be an object such as {"id": "1", "vector": [0.1, 0.2]}')
        known = ["columns", "id", "replace"] + ["vector"] * (not is_form)
        if unknown := next((name for name in fields if name not in known), None):
            raise HTTPException(422, f"there is no field {unknown[:SHOWN_ID]!r}; there are {', '.join(known)}")
        columns, replace = fields.get("columns", {}), fields.get("replace", False)
        if is_form:
            columns = read_json(fields.get("columns", "{}"), "columns")
            replace = {"true": True, "false": False}.get(fields.get("replace", "false"), replace)
        id, columns = check_id(fields.get("id")), check_columns(columns)
        if not isinstance(replace, bool):
            raise HTTPException(422, f"replace={str(replace)[:20]} must be true or false")
        return id, columns, replace, fields.get("vector")

    async def remove(self, request: Request) -> Response:
        """DELETE /items/{id}"""
        self._check_token(request)
        id = self._known(request)
        await self._change(lambda: self.collection.remove(id))
        return JSONResponse({"id": id, "items": len(self.collection)})

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            raise HTTPException(403, NO_TOKEN)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = self._token.encode(errors="surrogateescape")  # bytes, as headers are: a token need not be ASCII
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), right):
            raise HTTPException(
                401, "changes need the right token: Authorization: Bearer ...", {"www-authenticate": "Bearer"}
            )

    async def _change(self, change: Callable[[], None]) -> None:
        try:
            # a change that was begun is finished, whether or not its client waits
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, change))
        except OSError as error:
            log.error("a change cannot be written: %s", error)
            raise HTTPException(507, "the change cannot be written to the disk, and was not made") from None

    async def _in_thread(self, threads: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function gives. If the request is given up, it is not begun; if it was, it goes on to its end."""
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def _form(self, request: Request, body: bytes) -> tuple[dict[str, str], bytes]:
        return await self._in_thread(self._readers, read_form, request.headers["content-type"], body)

    async def _embed(self, photo: bytes) -> np.ndarray:
        try:
            size = self._encoder.photo_size
            decoded = await self._in_thread(self._decoders, decode, photo, size, self.limits.pixels, UPLOADS)
        except BadImage as error:
            raise HTTPException(422, f"the photo cannot be read: {error}") from None
        await self._ready.wait()
        return await self._batcher.embed(*decoded)

    def _found(self, ids: np.ndarray, scores: np.ndarray) -> Response:
        """The answer to a search, without what was removed meanwhile."""
        pairs = [(id, score) for id, score in zip(ids, scores.tolist(), strict=True) if id in self.collection]
        return JSONResponse({"items": [{**self._described(id), "score": score} for id, score in pairs]})

    def _described(self, id: str) -> dict[str, Any]:
        """What clients are told of an item."""
        item, address = self.collection.item(id), f"/items/{DOTS.get(id) or urllib.parse.quote(id, safe='')}"
        return {
            "id": id,
            "caption": item.caption(id),
            "columns": _without_paths(item, self.collection.folder),
            "address": address,
            "photo": f"{address}/photo",
            "similar": f"{address}/similar",
        }

    def _thumbnail(self, id: str) -> bytes | None:
        photo = self._photo(id)
        if photo is None:
            return None
        try:
            pixels = thumbnail(photo, THUMBNAIL, self.limits.pixels, SHOWN)
        except BadImage:
            return None
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    def _known(self, request: Request) -> str:
        """The id in the path. Raises HTTPException, 404, if there is no such item.

        `limits` leaves the path percent-encoded: an id may hold a slash, a line break, or end in "/photo".
        """
        encoded = request.path_params["id"]
        try:
            id = urllib.parse.unquote(encoded, errors="strict")
        except UnicodeDecodeError:  # other ids must not be found under it
            raise _no_item(encoded) from None
        id = next((dots for dots, name in DOTS.items() if name == encoded), id)
        if id not in self.collection:
            raise _no_item(id)
        return id

    async def _user_error(self, request: Request, error: UserError) -> Response:
        sentence = str(error).replace(str(self.collection.folder), "the index")  # where it lies is nobody's business
        return JSONResponse({"error": sentence}, 422)

    def _k(self, value: Any) -> int:
        if value is None:
            return min(DEFAULT_K, self.limits.k)
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10):
            raise HTTPException(422, f"k={str(value)[:20]!r} must be an integer from 1 to {self.limits.k}")
        if not 1 <= int(value) <= self.limits.k:
            raise HTTPException(422, f"k={int(value)} must be from 1 to {self.limits.k}")
        return int(value)

    def _vector(self, values: Any) -> np.ndarray:
        dim = self.collection.dimensions
        if not isinstance(values, list) or len(values) != dim or not all(type(v) in (int, float) for v in values):
            raise HTTPException(422, f"vector must be a list of {dim} numbers")
        try:
            return np.array(values, np.float64)
        except OverflowError:
            raise HTTPException(422, "vector has a number that is too large") from None


class _Metrics:
    """What GET /metrics tells."""

    def __init__(self, collection: Collection):
        self.registry = r = CollectorRegistry()
        labels = ("endpoint", "status")
        self._requests = Counter("ssljax_requests", "Requests answered", labels, registry=r)
        self._seconds = Histogram("ssljax_request_seconds", "Time to answer", ("endpoint",), registry=r)
        self.in_flight = Gauge("ssljax_requests_in_flight", "Requests being answered", registry=r)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        self.batch = Histogram("ssljax_batch_photos", "Photos embedded together", buckets=sizes, registry=r)
        self.failed_saves = Counter("ssljax_failed_saves", "Saves of the index that failed", registry=r)
        items = Gauge("ssljax_items", "Items in the index", registry=r)
        items.set_function(lambda: len(collection))
        unsaved = Gauge("ssljax_unsaved_changes", "1 if the saved index lacks changes", registry=r)
        unsaved.set_function(lambda: collection.unsaved)

    def observe(self, scope: dict[str, Any], status: int, seconds: float) -> None:
        """Counts a request; a status of 0 is a client that went away."""
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")  # a path would be a label for every id
        self._requests.labels(endpoint, status).inc()
        self._seconds.labels(endpoint).observe(seconds)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _no_item(id: str) -> HTTPException:
    return HTTPException(404, f"there is no item {id[:SHOWN_ID]!r}")


def _without_paths(item: Item, folder: Path) -> dict[str, str]:
    """Its columns, in which the paths of photos (and of other files near them) are only the names of the files.

    What was sent for an item that was put (its photo is in `folder`) names no file of ours, and stays.
    """
    if item.photo is None or not item.photo.is_absolute() or folder in item.photo.parents:
        return item.columns
    top = str(type(item.photo)(*item.photo.parts[:2]))
    folders = re.compile(rf"(?:file://|(?<![\w.:/\\-])){re.escape(top)}[/\\](?:[^/\\|;,\"\n]*[/\\])*")
    return {name: folders.sub("", value) if top in value else value for name, value in item.columns.items()}


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed: %r", request.method, request.url.path, error)
    return JSONResponse({"error": "the service failed to answer; its log says why"}, 500)
