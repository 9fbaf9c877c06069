"""Chromium without a window, driven over its debugging protocol."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browser:
    """One tab."""

    def __init__(self, socket: websocket.WebSocket):
        self._socket, self._numbers = socket, itertools.count(1)
        self.requested: list[str] = []
        """addresses that were asked for"""
        self.errors: list[Any] = []
        """what scripts did not catch, and what the console says is an error"""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message["method"] == "Runtime.exceptionThrown":
                self.errors.append(message["params"])
            if message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"])

    def value(self, script: str) -> Any:
        """What an expression gives, as JSON."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Returns once an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < end, script
            time.sleep(0.05)

    def open(self, address: str) -> None:
        """Goes to a page, and waits for it."""
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState == 'complete' && location.href.startsWith({address!r})")

    def drop(self, path: Path, selector: str) -> None:
        """Drags a file from the desktop onto an element, and drops it."""
        box = f"JSON.parse(JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect()))"
        place = self.value(box)
        at = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
        for kind in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
            self.send("Input.dispatchDragEvent", type=kind, data=data, **at)

    def look(self, width: int, height: int, scheme: str) -> None:
        """Sets the size of the window, and light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """Writes a PNG file."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile; skips the test if there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    options += ["--remote-allow-origins=*", "about:blank"]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        said, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (said.exists() and said.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < end, "Chromium does not start"
            time.sleep(0.05)
        port = said.read_text().split()[0]
        address = next(tab for tab in _tabs(port) if tab["type"] == "page")["webSocketDebuggerUrl"]
        socket = websocket.create_connection(address, timeout=60)
        try:
            yield Browser(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        process.wait(30)


def _tabs(port: str) -> list[dict[str, Any]]:
    import httpx

    return httpx.get(f"http://127.0.0.1:{port}/json", timeout=30).json()
