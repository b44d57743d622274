"""Headless Chromium, spoken to through a pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


class Browser:
    """Headless Chromium spoken to through a pipe: enough of the DevTools protocol to look at one page."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._id = send, receive, b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; events that arrive meanwhile are kept."""
        self._id += 1
        command = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._send, json.dumps(command).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._id:
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._receive, 1 << 20)
            if not chunk:
                raise EOFError("the browser closed its pipe")
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended when the block ends."""
    (to_read, to_send), (to_receive, to_write) = os.pipe(), os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
             f"--user-data-dir={profile}"]  # fmt: skip
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", shutil.which("chromium") or "", *flags],
        pass_fds=(to_read, to_write),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        yield Browser(to_send, to_receive)
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(to_send)
        os.close(to_receive)


ALL_OPEN = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
DRAWN = """new Promise((done) => {
  // A figure in a closed box is drawn when it is opened.
  const missing = () => [...document.querySelectorAll('.chart:not([data-drawn=yes])')];
  const waiting = () => document.readyState !== 'complete'
    || missing().some((each) => !each.closest('details:not([open])'));
  const look = () => waiting() ? setTimeout(look, 50) : done(true);
  look();
  setTimeout(() => done(false), 20000);
})"""
