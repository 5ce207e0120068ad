"""A real browser, where one is installed: Chromium without a window, spoken to through its DevTools protocol."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_FREE_DESCRIPTOR = 10  # the browser is given 3 and 4


@dataclass
class Browser:
    """One tab of a browser. `complaints` are the errors and warnings of its console so far."""

    commands: Any
    answers: Any
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    loaded: bool = False
    _last: int = 0

    def ask(self, method: str, **params: Any) -> Any:
        """Send one command and wait for its result; what happens meanwhile is noted."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self._hear()).get("id") != self._last:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Load a page in a window of `width` CSS pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.loaded = False
        self.ask("Page.navigate", url=page.as_uri())
        while not self.loaded:
            self._hear()

    def value(self, expression: str) -> Any:
        """What JavaScript makes of `expression` on the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _hear(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        message: dict[str, Any] = json.loads(data)
        method, params = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if method == "Runtime.consoleAPICalled" or method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params))
        self.loaded = self.loaded or method == "Page.loadEventFired"
        return message


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with one tab; tests that use it are skipped where there is none."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser to open the page in: none of {', '.join(BROWSERS)} is installed")
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, _FREE_DESCRIPTOR) for pair in (os.pipe(), os.pipe()) for end in pair]
    its_commands, our_commands, our_answers, its_answers = ends
    hand_over: Callable[[], None] = lambda: (os.dup2(its_commands, 3), os.dup2(its_answers, 4), None)[2]  # noqa: E731
    words = [program, *QUIET, f"--user-data-dir={tmp_path_factory.mktemp('browser')}", "about:blank"]
    process = subprocess.Popen(words, preexec_fn=hand_over, pass_fds=(3, 4), stderr=subprocess.DEVNULL)
    os.close(its_commands)
    os.close(its_answers)
    with os.fdopen(our_commands, "wb") as commands, os.fdopen(our_answers, "rb") as answers:
        tab = Browser(commands, answers)
        target = next(one for one in tab.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        tab.session = tab.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            tab.ask(f"{domain}.enable")
        yield tab
        tab.session = ""
        tab.ask("Browser.close")
        process.wait(timeout=20)
