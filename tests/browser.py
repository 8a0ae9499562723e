"""A headless Chromium, driven through its debugging port: what a page loads, logs and overflows.

Nothing but the browser itself and websocket-client, which Jupyter brings along.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


@dataclass
class Visit:
    """What happened while a page loaded."""

    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Tab:
    """One tab: load a page at some width, ask it things, photograph it."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url, timeout=60)
        self.numbers = itertools.count(1)
        self.events: list[dict] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self.events.append(message)

    def visit(self, path: Path, width: int, height: int = 900) -> Visit:
        """Load a local page in a viewport of this width and collect what it did."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(json.loads(self.socket.recv()))
        self.evaluate("document.fonts.ready.then(() => 1)")
        found = Visit()
        for event in self.events:
            values = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                found.requests.append(values["request"]["url"])
            elif event["method"] == "Network.loadingFailed":
                found.failed.append(values["errorText"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.errors.append(values["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded" and values["entry"]["level"] == "error":
                found.errors.append(values["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and values["type"] == "error":
                found.errors.append(str(values["args"]))
        return found

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@contextmanager
def browser() -> Iterator[Tab]:
    """A tab of a fresh Chromium with a profile of its own, both gone afterwards."""
    assert CHROMIUM, "no chromium is installed"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Tab(_debugger(Path(profile) / "DevToolsActivePort", process))
        finally:
            process.terminate()
            process.wait(timeout=30)


def _debugger(port_file: Path, process: subprocess.Popen) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists() and len(port_file.read_text().splitlines()) == 2:
            port = port_file.read_text().splitlines()[0]
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
                targets = json.load(answer)
            return next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        time.sleep(0.1)
    raise RuntimeError("chromium did not start")
