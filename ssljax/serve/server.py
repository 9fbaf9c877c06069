"""Runs the service on uvicorn."""

import asyncio
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ssljax.serve.app import Service
from ssljax.types import UserError


def run(service: Service, *, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, and saves. Raises UserError if it cannot listen there."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"host={host} port={port} cannot be listened at ({error.strerror}): choose another") from None
    # Once it has shut down, uvicorn sends itself the signal again, which is to end nothing any more.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    with listening:
        uvicorn.Server(config(service)).run(sockets=[listening])


def config(service: Service) -> uvicorn.Config:
    """How uvicorn runs it."""

    class Impatient(_Impatient):
        patience = service.limits.upload_seconds

    return uvicorn.Config(
        service.app,
        http=Impatient,
        ws="none",
        lifespan="on",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class _Impatient(H11Protocol):
    """Closes a connection on which no whole head of a request arrives: uvicorn would wait for ever.

    The time for bodies and answers is `limits.Limited`'s business.
    """

    patience: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.patience, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
