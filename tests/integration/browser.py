"""
Chromium without a screen, driven by the WebDriver protocol (W3C) over plain HTTP.

Purpose: what a test of a web page needs, and no more: a window, clicks, text, the log, pictures.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PATIENCE_SECONDS, end, wait_until
from tests.support import need

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


#: What the driver says when it serves, before the number of its port.
_READY = "successfully on port "

#: How often another one is started.
_TRIES = 5


def _has_begun(driver: subprocess.Popen[bytes], output: Path) -> str:
    """What the driver has said, when it serves or has ended; else ""."""
    ended = driver.poll() is not None
    said = output.read_text()
    return said or "nothing" if ended or _READY in said else ""


class Browser:
    """
    One window, with a profile of its own; closed when the test ends.

    @ivar picture: directory for pictures
    """

    def __init__(self, testcase: SynchronousTestCase, *arguments: str) -> None:
        need(testcase, "chromium", "chromedriver")
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-browser-"))
        testcase.addCleanup(subprocess.run, ["rm", "-rf", str(self.directory)], check=True)
        self._base = self._start_driver(testcase)
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={self.directory / 'profile'}", *arguments]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"
        testcase.addCleanup(self._ask, "DELETE", "")

    def _start_driver(self, testcase: SynchronousTestCase) -> str:
        """The address of a WebDriver that serves; one that finds its port taken in the other IP version ends."""
        said = ""
        for number in range(_TRIES):
            output = self.directory / f"driver{number}"
            with open(output, "wb") as file:
                driver = subprocess.Popen(
                    ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
                )
            testcase.addCleanup(end, driver)
            ready = partial(_has_begun, driver, output)
            said = wait_until(ready, "chromedriver")
            if _READY in said:
                return f"http://127.0.0.1:{said.partition(_READY)[2].partition('.')[0]}"
        raise AssertionError(f"chromedriver ends: {said}")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(
            self._base + path, data, {"Content-Type": "application/json"} if data else {}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as problem:
            with problem:
                raise AssertionError(f"{method} {path}: {json.load(problem)['value']['message']}") from None

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is there."""
        self._ask("POST", "/url", {"url": address})

    def title(self) -> str:
        """The page's title."""
        return str(self._ask("GET", "/title"))

    def run(self, script: str, *arguments: object) -> Any:
        """What a script of the test gives, in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text of the first element, as it is shown; "" where there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def _find(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def click(self, selector: str) -> None:
        """Click on an element."""
        self._ask("POST", f"/element/{self._find(selector)}/click")

    def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def cookies(self) -> list[dict[str, Any]]:
        """The page's cookies."""
        found: list[dict[str, Any]] = self._ask("GET", "/cookie")
        return found

    def log(self) -> list[str]:
        """What the browser has complained about since it was asked last."""
        return [str(entry["message"]) for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def prefer(self, scheme: str) -> None:
        """The user likes it light, or dark."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width: int, height: int) -> None:
        """A screen of another size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def picture(self, path: Path) -> None:
        """Keep what is shown as PNG, all of it."""
        whole = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(whole["data"]))
