"""A Chromium without a window, driven by the DevTools protocol over two pipes."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """The path of a Chromium; None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def opened(address: str, folder, width: int = 1000, height: int = 800):
    """Yields the Page at an address. `folder` is for the profile of the browser."""
    to_read, ours_out = os.pipe()
    ours_in, to_write = os.pipe()

    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    # Chromium reads 3 and writes 4. Bash sets them: Python would have to fork, which JAX warns of.
    command = ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', find(), *options]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"],
        pass_fds=(to_read, to_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for number in (to_read, to_write):
        os.close(number)
    try:
        page = Page(ours_in, ours_out)
        page.size(width, height)
        page.call("Page.navigate", url=address)
        yield page
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        for number in (ours_in, ours_out):
            os.close(number)


class Page:
    """A tab. `console` are the errors that the page has reported."""

    def __init__(self, reading: int, writing: int):
        self._in, self._out, self._rest, self._number = reading, writing, b"", 0
        self._session: str | None = None
        self.console: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params):
        """Calls a method of the protocol. Returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 120)[0], "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(message)
        if answer.get("method") == "Runtime.exceptionThrown":
            details = answer["params"]["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
            entry = answer["params"]["entry"]
            self.console.append(f"{entry['text']} {entry.get('url', '')}")
        return answer

    def value(self, expression: str):
        """The value of a JavaScript expression, which may be a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 120):
        """Waits until an expression is true. Returns its value."""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            state = self.value("document.body?.innerText")
            assert time.monotonic() < end, f"{expression} is not true; {self.console}; {state}"
            time.sleep(0.1)
        return found

    def choose(self, selector: str, *paths) -> None:
        """Chooses files in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def size(self, width: int, height: int, mobile: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def media(self, **features) -> None:
        """E.g. prefers_color_scheme="dark"."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def screenshot(self, path) -> None:
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
