"""A headless Chromium, and what it said and asked for."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
)


class Browser:
    """One browser with one page."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.command("Page.addScriptToEvaluateOnNewDocument", source=_COUNT_SHIFTS)

    def command(self, name: str, **parameters: Any) -> Any:
        """Speak the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def js(self, expression: str, *arguments: Any) -> Any:
        """Evaluate an expression; `arguments[0]` and so on are what is given."""
        return self.driver.execute_script(f"return {expression}", *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element, empty when there is none."""
        return str(self.js("document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        self.driver.find_element("css selector", selector).send_keys(text)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip

    def prefer(self, **features: str) -> None:
        """Set media features: `prefers_color_scheme="dark"`."""
        media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=media)

    def picture_of(self, selector: str) -> bytes:
        """Return a PNG of an element as it is shown."""
        png: bytes = self.driver.find_element("css selector", selector).screenshot_as_png
        return png

    def wait_for(self, claim: Callable[[], object], timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not claim():
            assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}\n{self.text('body')}"
            time.sleep(0.1)

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console since the last call."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # selenium's own gap
        return [str(one["message"]) for one in entries if one["level"] in {"SEVERE", "WARNING"}]

    def asked_for(self) -> list[str]:
        """Return the addresses of all requests since the last call."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call] # as above
        messages = [json.loads(one["message"])["message"] for one in entries]
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    @property
    def shifted(self) -> float:
        """How much of the layout moved by itself, as browsers score it."""
        return float(self.js("window.shifted"))

    def quit(self) -> None:
        self.driver.quit()


_COUNT_SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
