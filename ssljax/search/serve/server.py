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

# Lines that end without a carriage return, or continue on the next: a proxy in front may read another request there.
AMBIGUOUS = re.compile(rb"(?<!\r)\n|\n[ \t]|\r(?!\n)")


def run(service: Service, *, host: str, port: int, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGINT or SIGTERM, then saves. Calls `on_ready` once all is compiled; until then the signals are
    handled as before the call, as there is nothing to save.

    Raises UserError if the address cannot be used, and whatever compiling raises.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"host={host} port={port} cannot be used ({error.strerror}): choose another") from None
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
    """Leaves signals alone: uvicorn would handle them from the start, and raise them again at the end."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def config(service: Service) -> uvicorn.Config:
    """The settings of uvicorn for a service."""

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
    """What uvicorn lacks: a limit on connections, a time limit for the head of a request and for a client that does not
    read its answer, and a refusal of heads that a proxy could read differently.

    uvicorn's `timeout_keep_alive` ends with the first byte of a request; `limit_concurrency` also refuses /healthz, and
    answers in plain text. `limits.Limited` limits the time for bodies and answers.
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
        """As uvicorn's, as JSON."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer has begun
            body = json.dumps({"error": msg}).encode()
            headers = [
                ("content-type", "application/json"),
                ("connection", "close"),
                ("content-length", str(len(body))),
            ]
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            if self.cycle is not None:
                self.cycle.disconnected = True  # nobody reads what the app answers
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
    """Why the head of a request, or what has arrived of it, is refused though h11 would accept it."""
    head = received.partition(b"\r\n\r\n")[0]
    if len(head) > LARGEST_HEAD:
        return f"the head of the request is larger than {LARGEST_HEAD // 1024} KiB"
    if AMBIGUOUS.search(head.removesuffix(b"\r")):
        return "a line in the head of the request does not end in CR LF, or continues on the next line"
    return None
