"""Runs the service on uvicorn."""

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ssljax.search.serve.app import Service
from ssljax.search.serve.limits import LARGEST_HEAD
from ssljax.types import UserError

# Lines that end without a carriage return, or go on in the next: a proxy before us may read another request there.
AMBIGUOUS = re.compile(rb"(?<!\r)\n|\n[ \t]|\r(?!\n)")


def run(service: Service, *, host: str, port: int, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGINT or SIGTERM, and saves. `on_ready` is called when all is compiled; before, they are not heeded
    here: there is nothing to save, and whoever handled them goes on to.

    Raises UserError if it cannot listen there, and what compiling raises.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"host={host} port={port} cannot be listened at ({error.strerror}): choose another") from None
    server, failures = _Server(config(service)), []

    def ready() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        on_ready()

    def end(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    service.on_ready, service.on_failure = ready, end
    with listening:
        server.run(sockets=[listening])
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """Leaves the signals alone: uvicorn would take them from the first moment on, and send itself them at the end."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def config(service: Service) -> uvicorn.Config:
    """How uvicorn runs it."""

    class Guarded(_Guarded):
        patience, most = service.limits.upload_seconds, service.limits.connections

    return uvicorn.Config(
        service.app,
        http=Guarded,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        ws="none",
        lifespan="on",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class _Guarded(H11Protocol):
    """Closes a connection on which no whole head of a request arrives, or whose answer is not taken: uvicorn would wait
    for ever. Refuses connections that are too many, and heads that can be read in two ways.

    The time for bodies and answers is `limits.Limited`'s business.
    """

    patience: float
    most: int
    _timer: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        self._watch()

    def handle_events(self) -> None:
        refusal = _refusal(self.conn.trailing_data[0]) if self.conn.their_state is h11.IDLE else None
        if refusal is None:
            super().handle_events()
        else:
            self.send_400_response(refusal)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in the form that all our errors have."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # otherwise an answer was begun, or given
            body = json.dumps({"error": msg}).encode()
            headers = [
                ("content-type", "application/json"),
                ("connection", "close"),
                ("content-length", str(len(body))),
            ]
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            if self.cycle is not None:
                self.cycle.disconnected = True  # what the app may answer as well is for nobody
                self.cycle.message_event.set()
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck = _cancelled(self._stuck)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer, self._stuck = _cancelled(self._timer), _cancelled(self._stuck)
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._timer = _cancelled(self._timer)
        elif self._timer is None:
            self._timer = self.loop.call_later(self.patience, self.transport.close)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _refusal(received: bytes) -> str | None:
    """Why the head of a request, or what there is of it, is refused: h11 would take it."""
    head = received.partition(b"\r\n\r\n")[0]
    if len(head) > LARGEST_HEAD:
        return f"the head of the request is larger than {LARGEST_HEAD // 1024} KiB"
    if AMBIGUOUS.search(head.removesuffix(b"\r")):
        return "a line of the head of the request does not end in CR LF, or goes on in the next"
    return None
