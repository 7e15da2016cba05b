"""A real browser without a window, and a page in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.waiting import wait_for

SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]

# Keeps what the page sends to the loudspeaker, and when it started what.
TAP = """
window.heard = []; window.starts = [];
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target === this.context.destination && !(this instanceof ScriptProcessorNode)) {
    if (!window.tap) {
      window.tap = this.context.createScriptProcessor(1024, 1, 1);
      window.tap.onaudioprocess = (event) =>
        window.heard.push(Array.from(event.inputBuffer.getChannelData(0)));
      connect.call(window.tap, this.context.destination);
    }
    connect.call(this, window.tap);
  }
  return connect.call(this, target, ...rest);
};
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset) {
  window.starts.push([when, offset]);
  return start.call(this, when, offset);
};
"""


class Page:
    """An open page, and what a user does to it and sees of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        self.driver.get(path.as_uri())
        self.wait(lambda: self.find("#play").is_enabled())

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def point(self, fraction: float, drag_to: float | None = None) -> None:
        """Click on the time axis, or drag along it; 0 is its left end, 1 its right end."""
        from selenium.webdriver import ActionChains

        wave = self.find("canvas[aria-label^='Waveform']")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", wave)
        left = 48  # of the axis in the panel
        axis = wave.size["width"] - left

        def offset(at: float) -> int:
            return round(left + at * axis - wave.size["width"] / 2)

        actions = ActionChains(self.driver, duration=20)
        actions.move_to_element_with_offset(wave, offset(fraction), 0).click_and_hold()
        if drag_to is not None:
            actions.move_to_element_with_offset(wave, offset(drag_to), 0)
        actions.release().perform()

    @property
    def position_s(self) -> float:
        return float(self.find("#seek").get_attribute("value"))

    @property
    def listening_to(self) -> list[str]:
        return [
            b.text for b in self.driver.find_elements("css selector", "#tracks [aria-pressed=true]")
        ]

    def pictures(self) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll('figure canvas')].map((c) => c.toDataURL())"
        )

    def wait(self, condition: Callable[[], bool]) -> None:
        wait_for(condition)

    def listen(self, seconds: float) -> np.ndarray:
        """What comes out of the loudspeaker from now on."""
        self.run("window.heard = []")
        self.listen_on(seconds)
        return self.heard()

    def listen_on(self, seconds: float) -> None:
        """Wait until as much more has come out of it."""
        before = self.run("return window.heard.length")
        blocks = seconds * self.run("return window.tap.context.sampleRate") / 1024
        self.wait(lambda: self.run("return window.heard.length") > before + blocks)

    def heard(self) -> np.ndarray:
        return np.concatenate(self.run("return window.heard"))

    def network(self) -> set[str]:
        """All addresses asked for since last time."""
        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }


def start_browser() -> Any:
    """Chromium, driven by Selenium; without either the test is skipped."""
    pytest.importorskip("selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    driver.set_window_size(1280, 900)
    return driver
