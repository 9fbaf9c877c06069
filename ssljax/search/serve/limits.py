"""Limits that keep one client from hurting others: sizes, times, requests at once, and which hosts and pages may ask.

Starlette's middlewares lack what is here: TrustedHostMiddleware takes no 127.x.x.x and checks no absolute address,
CORSMiddleware refuses no request, and none has a time limit or answers with one sentence as JSON.
"""

import asyncio
import dataclasses
import ipaddress
import re
import time
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssljax.types import UserError

# Fixed limits; `Limits` has those that can be set.
FIELDS = 8  # of a form or of JSON
LARGEST_TEXT = 2**20  # bytes of JSON, or of a field of a form
LONGEST_ID = LONGEST_QUERY = 1000  # characters of an id, and of words to search by
COLUMNS, LONGEST_NAME, LARGEST_COLUMNS = 256, 200, 2**16  # how many; characters of a name; bytes of all, as JSON
LARGEST_HEAD = 2**15  # bytes: an address may hold an id of `collection.LONGEST_ID` bytes, percent-encoded

ALWAYS = ("/healthz", "/metrics")  # answered however many other requests there are
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.~!$&'()*+,;=%-]+))(?::\d{0,5})?", re.ASCII)  # RFC 9112, section 3.2
ORIGIN = re.compile(r"https?://(.+)")
HEADERS = [(b"x-content-type-options", b"nosniff")]
LOCAL_HEADERS = [*HEADERS, (b"cross-origin-resource-policy", b"same-origin")]  # no page elsewhere shows our photos


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and all requests together."""

    upload_mib: float = 10.0
    """Size of the body of a request."""
    pixels: int = 50_000_000
    """Height times width of a photo."""
    k: int = 100
    """Items in an answer."""
    requests: int = 64
    """Requests at once; more are refused with 503."""
    connections: int = 500
    """Connections at once; more are closed, as each counts as an open file of the process."""
    upload_seconds: float = 10.0
    """Time for a request to arrive, and for the next one on the connection. A client that does not read its answer for
    so long is dropped."""
    seconds: float = 30.0
    """Time to answer a request."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"limits.{field.name}={getattr(self, field.name)} must be above 0")


class Limited:
    """An ASGI app within limits.

    Args:
      app: the app.
      limits: the limits.
      local: whether only this machine is served. Then a request must name this machine as its host, so that a page of
        another site whose name points here (DNS rebinding) cannot read answers, and such a page may not send requests.
      observe: called with the scope, the status and the seconds of each request.

    The app gets the path as it was sent, percent-encoded, and HEAD as GET.
    """

    def __init__(self, app: ASGIApp, limits: Limits, *, local: bool, observe: Callable[[Scope, int, float], None]):
        self._app, self._limits, self._local, self._observe = app, limits, local, observe
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *(LOCAL_HEADERS if self._local else HEADERS)]
            await send(message)

        async def refuse(code: int, sentence: str) -> None:
            headers = {"connection": "close"} | ({"retry-after": "1"} if code == 503 else {})
            await JSONResponse({"error": sentence}, code, headers)(scope, receive, sending)

        self.in_flight += 1
        try:
            scope, refusal = _understood(scope, self._local)
            if refusal is not None:
                await refuse(*refusal)
            elif self.in_flight > self._limits.requests and scope["path"] not in ALWAYS:
                await refuse(503, f"{self._limits.requests} requests are being answered: try again in a moment")
            else:
                async with asyncio.timeout(self._limits.seconds):
                    await self._app(scope, self._receiving(scope, receive), sending)
        except TimeoutError:
            if status:
                raise  # half of the answer is sent: the server can only close the connection
            await refuse(504, f"the answer took longer than {self._limits.seconds:g} seconds")
        finally:
            self.in_flight -= 1
            self._observe(scope, status, time.monotonic() - began)

    def _receiving(self, scope: Scope, receive: Receive) -> Receive:
        """`receive`, which raises once the body is too large or too slow."""
        most, size, whole = int(self._limits.upload_mib * 2**20), 0, False
        until = asyncio.get_running_loop().time() + self._limits.upload_seconds
        length = dict(scope["headers"]).get(b"content-length", b"")
        too_large = HTTPException(
            413, f"the body is larger than {self._limits.upload_mib:g} MiB", {"connection": "close"}
        )

        async def receiving() -> Message:
            nonlocal size, whole
            if length.isdigit() and int(length[:20]) > most:
                raise too_large
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                sentence = f"the body did not arrive within {self._limits.upload_seconds:g} seconds"
                raise HTTPException(408, sentence, {"connection": "close"}) from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > most:
                raise too_large
            return message

        return receiving


def is_local(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    host = host.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _understood(scope: Scope, local: bool) -> tuple[Scope, tuple[int, str] | None]:
    """The scope with the path as it was sent; and status and sentence if the request is refused."""

    def values(name: bytes) -> list[str]:
        return [value.decode("latin-1") for other, value in scope["headers"] if other == name]

    hosts, path = values(b"host"), scope["raw_path"].decode("ascii")
    if not path.startswith("/"):  # an absolute address, as sent to proxies: its host counts, not the header
        address = re.fullmatch(r"https?://([^/]*)(/.*)?", path, re.IGNORECASE)
        hosts.append(address[1] if address else "")
        path = (address and address[2]) or "/"
    scope = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}  # without a body
    names = [_named(host) for host in hosts]
    if values(b"content-length") and values(b"transfer-encoding"):  # a proxy in front may read another body
        return scope, (400, "the request has both Content-Length and Transfer-Encoding: send one of them")
    if None in names:
        return scope, (400, "the host that the request names is not a host")
    if local and not all(name is not None and is_local(name) for name in names):
        return scope, (400, "the host that the request names is not this machine")
    pages = [ORIGIN.fullmatch(origin) for origin in values(b"origin")]
    if local and not all(page and is_local(_named(page[1]) or "") for page in pages):
        return scope, (403, "the request comes from a page of another site")
    return scope, None


def _named(host: str) -> str | None:
    """The address or name in `host`, without the port; None if it is neither."""
    found = HOST.fullmatch(host)
    return found and (found[1] or found[2])
