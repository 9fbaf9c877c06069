"""Ctrl-C (SIGINT) and SIGTERM: a command ends at once, unless it has asked to be told, so that it can save first.

Python runs a signal's handler in the main thread, but only once that thread is back from C++: a compilation holds it
for minutes, and an exception raised inside one is lost or ends in a crash. So a thread of its own is woken, and ends
the process without the interpreter's clean-up. Nothing is lost by that: files are whole or not there, and locks go
with the process.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_wake: socket.socket | None = None  # of the thread, once it runs
_caught_up = threading.Event()


def end_at_signals(goodbye: str) -> None:
    """From now on either signal prints `goodbye` and ends the process with 128 + its number, as shells count.

    Where another handler is in force, that one acts instead. Call it once, in the main thread.
    """
    global _wake
    receiver, _wake = socket.socketpair()
    _wake.setblocking(False)
    end = _End(goodbye)
    for number in NUMBERS:
        signal.signal(number, end)
    signal.set_wakeup_fd(_wake.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiver, end), daemon=True).start()


class StopRequest:
    """While it is open, a signal only requests a stop and calls `say`; a second Ctrl-C stops at once."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.asked, self._say, self._before = False, say, {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in NUMBERS}
        return self

    def __exit__(self, *error: object) -> None:
        if self._before:
            _catch_up()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        self._say()


class _End:
    """A handler that ends the process, in the thread that is woken or in the main one: while an event loop runs in
    that, it may have the wake-up for itself (uvloop, in the service)."""

    def __init__(self, goodbye: str) -> None:
        self._goodbye, self._first = goodbye, threading.Lock()

    def __call__(self, number: int, frame: object = None) -> None:
        if not self._first.acquire(blocking=False):
            return
        # Written past Python's own buffers and locks, which the main thread may hold.
        with contextlib.suppress(OSError):
            leave_bar = "\x1b[?25h\n" if os.isatty(2) else ""  # a progress bar hides the cursor
            os.write(2, f"{leave_bar}{self._goodbye}\n".encode())
        if "multiprocessing" in sys.modules:
            for worker in sys.modules["multiprocessing"].active_children():
                worker.kill()
        os._exit(128 + number)


def _catch_up() -> None:
    """Waits until the thread has looked at all signals so far: later it would take them to be the next handler's."""
    if _wake is not None:
        _caught_up.clear()
        with contextlib.suppress(OSError):
            _wake.send(b"\0")
            _caught_up.wait(5)


def _watch(receiver: socket.socket, end: _End) -> None:
    handler = None
    while told := receiver.recv(1):
        if not told[0]:
            _caught_up.set()
            continue
        number, before = told[0], handler
        handler = signal.getsignal(number)
        stopping = isinstance(getattr(handler, "__self__", None), StopRequest) and handler == before
        if handler is end or (stopping and number == signal.SIGINT):
            end(number)
