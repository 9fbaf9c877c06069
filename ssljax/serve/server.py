"""Runs the service on uvicorn."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ssljax.serve.app import Service


def run(service: Service, *, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM, and saves."""
    uvicorn.Server(config(service, host=host, port=port)).run()


def config(service: Service, *, host: str, port: int) -> uvicorn.Config:
    """How uvicorn runs it."""

    class Impatient(_Impatient):
        patience = service.limits.upload_seconds

    return uvicorn.Config(
        service.app,
        host=host,
        port=port,
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
