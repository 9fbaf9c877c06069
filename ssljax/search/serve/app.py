"""The endpoints of the service. FastAPI makes openapi.json of them and of `schemas`."""

import asyncio
import contextlib
import hmac
import io
import logging
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from ssljax.data.decode import FORMATS, BadImage, decode, thumbnail
from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection, Item
from ssljax.search.serve import schemas
from ssljax.search.serve.batching import Embedding
from ssljax.search.serve.limits import Limited, Limits
from ssljax.search.serve.metrics import Metrics
from ssljax.search.serve.pages import HEADERS, api_page, search_page
from ssljax.search.words import checked_text, queries
from ssljax.types import UserError

DECODERS = 4  # photos decoded at a time
UPLOADS = ("JPEG", "PNG", "WEBP")  # what strangers may send; their decoders leave Python's lock
SHOWN = tuple(format for format in FORMATS if format != "JPEG2000")  # whose decoder holds the lock for seconds
THUMBNAIL = 224  # pixels of the longer side
SHOWN_ID = 1000  # characters of an id in a sentence
DOTS = {".": "=.", "..": "=.."}  # clients take these for "here" and "above" in an address, percent-encoded or not
DEFAULT_LIMITS = Limits()
NO_TOKEN = "changes are refused, as no token is set: start the service with SSLJAX_TOKEN in its environment"
Id = Annotated[str, Path(description="The id, percent-encoded; `.` and `..` are written `=.` and `=..`.")]
K = Annotated[schemas.Count | None, Query(description=schemas.HOW_MANY)]
Token = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, scheme_name="token"))]

log = logging.getLogger("ssljax.search.serve")


class Service:
    """A collection over HTTP.

    Args:
      collection: open; to be changed, if there is a token.
      encoder: embeds photos for it, and words if its network reads titles.
      photo: id → a photo for `decode`; None if there is none.
      token: the bearer token that changes need; None refuses all changes.
      limits: what requests may ask for.
      batch: the most photos, or texts, embedded at a time.
      wait: seconds that a photo or a text waits for others.
      save_every: seconds between saves of the index, if it changed; changes themselves are on the disk when answered.
      local: whether only this machine is served.

    It compiles when it starts. Until that is done, `/healthz` answers 503, and requests with a photo or a text wait.
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
        self._photo, self._token, self._save_every = photo, token, save_every
        self._metrics = Metrics(collection)
        self._ready = asyncio.Event()
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        self._embedding = Embedding(encoder, most=batch, wait=wait, observe=self._metrics.embedded)
        self._searchers = ThreadPoolExecutor(8, thread_name_prefix="search")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")  # searches do not wait for them
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="changes")  # in order, and never behind searches
        handlers = {AnyHTTPException: _http_error, RequestValidationError: _invalid, UserError: self._user_error}
        handlers |= {ClientDisconnect: _gone, Exception: _failed}
        self.api = FastAPI(
            title="ssljax serve",
            version="1",
            description=f"Search a collection by photo{', by words' * self._embedding.reads_titles} or by item, and "
            "change it. An error is one sentence.",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # the address would be made of what the request says
            exception_handlers=handlers,
            lifespan=self._lifespan,
        )
        self._add_routes()
        self.app = Limited(self.api, limits, local=local, observe=self._metrics.observe)
        self._metrics.in_flight.set_function(lambda: self.app.in_flight)

    def _add_routes(self) -> None:
        def add(method: str, path: str, endpoint: Callable[..., Any], *errors: int, **described: Any) -> None:
            described["responses"] = described.get("responses", {}) | schemas.errors_of(*errors)
            summary = str(endpoint.__doc__).splitlines()[0]
            described |= {"summary": summary, "description": "", "response_description": summary}
            self.api.add_api_route(path, endpoint, methods=[method], **described)

        sent, changing = (400, 408, 413, 415, 422), (401, 403, 507)
        form = schemas.AnyQuery if self._embedding.reads_titles else schemas.PhotoQuery
        text = {"application/json": schemas.TextQuery} if self._embedding.reads_titles else {}
        asked = schemas.body_of({"image/*": schemas.Photo, "multipart/form-data": form} | text)
        given = schemas.body_of({"multipart/form-data": schemas.NewPhoto, "application/json": schemas.NewVector})
        photo = {200: {"content": schemas.content_of({"image/jpeg": schemas.Photo})}}
        health = {503: {"model": schemas.Health, "description": "It is starting: searches by photo or words wait."}}
        add("POST", "/search", self.search, *sent, 503, 504, openapi_extra=asked)
        add("GET", "/items/{id:path}/similar", self.similar, 404, 422, 503, 504)
        add("GET", "/items/{id:path}/photo", self.photo, 404, 422, 503, 504, responses=photo)
        add("POST", "/items", self.add, *sent, *changing, 409, 503, 504, status_code=201, openapi_extra=given)
        add("GET", "/items/{id:path}", self.item, 404, 422, 503, 504)
        add("DELETE", "/items/{id:path}", self.remove, *changing, 404, 422, 503, 504)
        add("GET", "/healthz", self.healthz, responses=health)
        add("GET", "/metrics", self.metrics, response_class=PlainTextResponse)
        add("GET", "/docs", self.docs, response_class=HTMLResponse)
        add("GET", "/", self.page, response_class=HTMLResponse)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._save_when_due())]
        try:
            async with self._embedding.running():
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
        self._embedding.compile()
        self.collection.search(np.ones((1, self.collection.dimensions)), self._within(None))

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

    async def page(self) -> Response:
        """A page to drop a photo on."""
        return HTMLResponse(search_page(words=self._embedding.reads_titles), headers=HEADERS)

    async def docs(self) -> Response:
        """This description as a page."""
        return HTMLResponse(api_page(self.api.openapi()), headers=HEADERS)

    async def healthz(self, response: Response) -> schemas.Health:
        """Whether the service is well, and how many items it has."""
        status = "ok" if self._ready.is_set() else "starting"
        if status == "starting":
            response.status_code, response.headers["retry-after"] = 503, "1"
        return schemas.Health(
            status=status,
            items=len(self.collection),
            dimensions=self.collection.dimensions,
            unsaved_changes=self.collection.unsaved,
        )

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def search(self, request: Request, k: K = None) -> schemas.Found:
        """The items nearest to a query, best first."""
        kind = _content_type(request)
        if kind == "application/json" and self._embedding.reads_titles:
            query = await self._in_thread(self._readers, schemas.read_text_query, await request.body())
        elif kind == "application/json":
            raise HTTPException(415, "send the photo itself as the body, or as the file `photo` of multipart/form-data")
        elif kind == "multipart/form-data":
            query = schemas.read_query(*await schemas.read_form(request))
        else:
            query = schemas.read_query({}, await request.body())
        k, text = self._within(query.k or k), query.text
        if text is not None:
            text = checked_text(text, self._embedding.encoder)
        elif not query.photo:
            words = ", or words as its field `text`" * self._embedding.reads_titles
            raise HTTPException(400, f"there is no photo: send it as the body, or as the file `photo` of a form{words}")
        seen, read = None, None
        if query.photo:
            seen = (await self._embed(query.photo))[None]
        if text is not None:
            await self._ready.wait()
            read = (await self._embedding.text(text))[None]
        vector = queries(seen, read, query.text_weight)
        return await self._in_thread(self._searchers, self._nearest, vector, k)

    def _nearest(self, vector: np.ndarray, k: int) -> schemas.Found:
        ids, scores = self.collection.search(vector, k)
        return self._found(ids[0], scores[0])

    async def similar(self, id: Id, k: K = None) -> schemas.Found:
        """The items nearest to an item, without the item itself."""
        return await self._in_thread(self._searchers, self._similar, self._known(id), self._within(k))

    def _similar(self, id: str, k: int) -> schemas.Found:
        try:
            return self._found(*self.collection.similar(id, k))
        except UserError:  # it was removed meanwhile
            raise _no_item(id) from None

    async def item(self, id: Id) -> schemas.Item:
        """What is known of an item."""
        id = self._known(id)
        return schemas.Item(**self._facts(id, self.collection.item(id)))

    async def photo(self, id: Id) -> Response:
        """A thumbnail of the item's photo."""
        id = self._known(id)
        content = await self._in_thread(self._decoders, self._thumbnail, id)
        if content is None:
            raise HTTPException(404, f"item {id[:SHOWN_ID]!r} has no photo that can be read")
        return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=60"})

    async def add(self, request: Request, token: Token) -> schemas.Changed:
        """Adds an item, by a photo or by its vector. It is on the disk before the answer, and found from then on."""
        self._check_token(token)
        kind, photo = _content_type(request), b""
        if kind == "multipart/form-data":
            fields, photo = await schemas.read_form(request)
            if not photo:
                raise HTTPException(400, "there is no photo: send it as the file `photo` of the form")
            new = await self._in_thread(self._readers, schemas.read_photo_item, fields, photo)
        elif kind == "application/json":
            new = await self._in_thread(self._readers, schemas.read_vector_item, await request.body())
        else:
            raise HTTPException(415, "send multipart/form-data with a photo, or application/json with a vector")
        if not new.replace and new.id in self.collection:
            raise HTTPException(409, f"there is an item {new.id!r} already: send replace=true to replace it")
        title = new.columns.get("title") or new.columns.get(self.collection.title or "title", "")
        vector = await self._embed(photo, title) if photo else np.array(new.vector)
        await self._change(lambda: self.collection.put(new.id, vector, new.columns, photo or None, replace=new.replace))
        return schemas.Changed(id=new.id, items=len(self.collection))

    async def remove(self, id: Id, token: Token) -> schemas.Changed:
        """Removes an item."""
        self._check_token(token)
        id = self._known(id)
        await self._change(lambda: self.collection.remove(id))
        return schemas.Changed(id=id, items=len(self.collection))

    def _check_token(self, token: HTTPAuthorizationCredentials | None) -> None:
        if self._token is None:
            raise HTTPException(403, NO_TOKEN)
        given = b"" if token is None else token.credentials.strip().encode("latin-1")
        if not hmac.compare_digest(given, self._token.encode(errors="surrogateescape")):  # a token need not be ASCII
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
        """Calls a function in a thread. If the request ends first, the call does not start, or runs to its end."""
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

    async def _embed(self, photo: bytes, title: str = "") -> np.ndarray:
        try:
            size = self._embedding.encoder.photo_size
            image, aspect = await self._in_thread(self._decoders, decode, photo, size, self.limits.pixels, UPLOADS)
        except BadImage as error:
            raise HTTPException(422, f"the photo cannot be read: {error}") from None
        await self._ready.wait()
        return await self._embedding.photo(image, aspect, title)

    def _found(self, ids: np.ndarray, scores: np.ndarray) -> schemas.Found:
        """The answer to a search, without what was removed meanwhile."""
        known, scored = self.collection.items(list(ids)), zip(ids, scores.tolist(), strict=True)
        return schemas.Found(
            items=[schemas.FoundItem(**self._facts(i, known[i]), score=score) for i, score in scored if i in known]
        )

    def _facts(self, id: str, item: Item) -> dict[str, Any]:
        """What clients are told of an item."""
        address = f"/items/{DOTS.get(id) or urllib.parse.quote(id, safe='')}"
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

    def _known(self, encoded: str) -> str:
        """The id in an address. Raises HTTPException, 404, if there is no such item.

        `limits` leaves the path percent-encoded: an id may hold a slash, a line break, or end in "/photo".
        """
        try:
            id = urllib.parse.unquote(encoded, errors="strict")
        except UnicodeDecodeError:  # other ids must not be found under it
            raise _no_item(encoded) from None
        id = next((dots for dots, name in DOTS.items() if name == encoded), id)
        if id not in self.collection:
            raise _no_item(id)
        return id

    def _within(self, k: int | None) -> int:
        if k is None:
            return min(10, self.limits.k)
        if k > self.limits.k:
            raise HTTPException(422, f"k={k:.9g} must be at most {self.limits.k}")
        return k

    async def _user_error(self, request: Request, error: UserError) -> Response:
        sentence = str(error).replace(str(self.collection.folder), "the index")  # clients need not know its path
        return JSONResponse({"error": sentence}, 422)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _no_item(id: str) -> HTTPException:
    return HTTPException(404, f"there is no item {id[:SHOWN_ID]!r}")


def _without_paths(item: Item, folder: FilePath) -> dict[str, str]:
    """Its columns, with paths of photos and of files near them cut to the names of the files.

    Columns of an item that was put, whose photo is in `folder`, came from a client and stay as they are.
    """
    if item.photo is None or not item.photo.is_absolute() or folder in item.photo.parents:
        return item.columns
    top = str(type(item.photo)(*item.photo.parts[:2]))
    folders = re.compile(rf"(?:file://|(?<![\w.:/\\-])){re.escape(top)}[/\\](?:[^/\\|;,\"\n]*[/\\])*")
    return {name: folders.sub("", value) if top in value else value for name, value in item.columns.items()}


async def _http_error(request: Request, error: AnyHTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return JSONResponse({"error": schemas.sentence(error.errors(), beside=1)}, 422)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed: %r", request.method, request.url.path, error)
    return JSONResponse({"error": "the service failed to answer; its log says why"}, 500)
