"""The page, as a browser shows it; the picture; and `gtcrn compare`, which makes them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.errors import MissingExtraError, UserError
from gtcrn_cli.evaluation.comparison import compare
from gtcrn_cli.evaluation.page import comparison_page, write_page
from gtcrn_cli.evaluation.picture import write_picture
from gtcrn_cli.evaluation.sounds import Enhancing, Section
from gtcrn_cli.network.checkpoint import Checkpoint

AWKWARD = "<!--<script>\"ü'&$x$ 雑音.wav"
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

    def wait(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the page did not get there"
            time.sleep(0.02)

    def listen(self, seconds: float) -> np.ndarray:
        """What comes out of the loudspeaker from now on."""
        self.run("window.heard = []")
        rate = self.run("return window.tap.context.sampleRate")
        self.wait(lambda: self.run("return window.heard.length * 1024") > seconds * rate)
        return np.concatenate(self.run("return window.heard"))

    def network(self) -> set[str]:
        """All addresses asked for since last time."""
        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
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
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: Any) -> Iterator[Page]:
    driver.get_log("browser")
    driver.get_log("performance")
    yield Page(driver)
    driver.get("about:blank")


@pytest.fixture
def tapped(page: Page) -> Iterator[Page]:
    """A page whose sound the test can hear."""
    tap = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TAP})
    yield page
    page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", tap)


def tone(hz: float, level: float, seconds: float = 8) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000)


@pytest.fixture(scope="module")
def tones_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that tells by ear what is heard: 500 Hz, half as loud 1500 Hz, 2500 Hz."""
    folder = tmp_path_factory.mktemp("tones")
    paths = [folder / f"{hz}.wav" for hz in (500, 1500, 2500)]
    for path, level in zip(paths, (0.5, 0.25, 0.5), strict=True):
        soundfile.write(path, tone(float(path.stem), level), 16_000)
    comparison_page(paths[0], paths[1:2], folder / "page.html", paths[2])
    return folder / "page.html"


@pytest.fixture(scope="module")
def speech_path(
    tmp_path_factory: pytest.TempPathFactory, noisy_path: Path, shipped: Checkpoint
) -> Path:
    """A page of the example recording under an awkward name, enhanced now."""
    folder = tmp_path_factory.mktemp("speech")
    noisy = folder / AWKWARD
    shutil.copy(noisy_path, noisy)
    how = Enhancing(load_engine(shipped), Settings(), "enhanced by gtcrn")
    clean = noisy_path.with_name("clean.wav")
    write_page(compare(noisy, how, clean, Section(0.4, 2.5)), folder / "page.html")
    return folder / "page.html"


def loudest_hz(samples: np.ndarray, rate: float = 16_000) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


# In a browser


def test_it_opens_from_a_file_without_network_or_complaint(page: Page, speech_path: Path):
    page.open(speech_path)
    assert page.find("h1").text == AWKWARD == page.driver.title
    assert page.listening_to == [f"1 {AWKWARD}"]
    assert page.find("#figures").text.count("mono") == 3
    assert "SI-SDR" in page.find("#figures").text
    assert "the network\u2019s mask" in page.find("#panels").text
    assert not page.find("#problem").is_displayed()
    page.press(" ")
    page.wait(lambda: page.position_s > 0.2)
    assert page.driver.get_log("browser") == []
    assert page.network() == {speech_path.as_uri()}


def test_space_plays_and_pauses_all_tracks_at_one_instant(tapped: Page, tones_path: Path):
    tapped.open(tones_path)
    tapped.press(" ")
    assert tapped.find("#play").text == "Pause"
    tapped.wait(lambda: tapped.position_s > 0.3)
    starts = tapped.run("return window.starts")
    assert len(starts) == 3
    assert starts[0] == starts[1] == starts[2]
    assert loudest_hz(tapped.listen(0.3)) == pytest.approx(500, abs=10)
    tapped.press(" ")
    assert tapped.find("#play").text == "Play"
    paused_at = tapped.position_s
    assert np.abs(tapped.listen(0.4)[-2000:]).max() < 1e-3
    assert tapped.position_s == paused_at
    tapped.press(" ")
    tapped.wait(lambda: tapped.position_s > paused_at + 0.1)
    assert tapped.run("return window.starts.at(-1)[1]") == pytest.approx(paused_at, abs=0.02)


def test_digits_and_buttons_switch_at_once_without_a_gap(tapped: Page, tones_path: Path):
    tapped.open(tones_path)
    tapped.press(" ")
    tapped.wait(lambda: tapped.position_s > 0.2)
    tapped.run("window.heard = []")
    for key, name in (("2", "2 1500.wav"), ("3", "3 2500.wav"), ("1", "1 500.wav")):
        tapped.press(key)
        assert tapped.listening_to == [name]
        time.sleep(0.15)
    heard = np.concatenate(tapped.run("return window.heard"))
    loudest = [loudest_hz(heard[i : i + 512]) for i in range(0, len(heard) - 512, 256)]
    for hz in (500, 1500, 2500):
        assert any(abs(at - hz) < 40 for at in loudest)
    envelope = np.abs(heard[: len(heard) // 64 * 64].reshape(-1, 64)).max(axis=1)  # 4 ms each
    assert envelope.min() > 0.1
    assert len(tapped.run("return window.starts")) == 3  # nothing was started anew
    tapped.find("#listen-2").click()
    assert loudest_hz(tapped.listen(0.4)[-2048:]) == pytest.approx(1500, abs=20)
    tapped.press(" ")  # the clicked button does not take the key
    assert tapped.find("#play").text == "Play"


def test_level_match_makes_them_equally_loud(tapped: Page, tones_path: Path):
    tapped.open(tones_path)

    def levels_db() -> np.ndarray:
        levels = []
        for key in "12":
            tapped.press(key)
            heard = tapped.listen(0.3)[-2048:]
            levels.append(10 * np.log10(np.mean(heard**2)))
        return np.array(levels)

    tapped.press(" ")
    tapped.wait(lambda: tapped.position_s > 0.1)
    assert np.diff(levels_db()) == pytest.approx(-6.02, abs=0.2)
    tapped.press("l")
    assert tapped.find("#match").get_attribute("aria-pressed") == "true"
    # BS.1770 weighs 1500 Hz more than 500 Hz by 1.5 dB.
    assert np.diff(levels_db()) == pytest.approx(-1.5, abs=0.7)
    tapped.find("#match").click()
    assert tapped.find("#match").get_attribute("aria-pressed") == "false"


def test_arrows_clicks_and_the_slider_seek(page: Page, tones_path: Path):
    from selenium.webdriver.common.keys import Keys

    page.open(tones_path)
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.position_s == pytest.approx(3)
    page.press(Keys.ARROW_LEFT)
    assert page.position_s == pytest.approx(2)
    assert page.find("#time").text == "0:02.0 / 0:08.0"
    page.press(Keys.HOME)
    assert page.position_s == 0
    page.press(Keys.ARROW_LEFT)
    assert page.position_s == 0
    page.point(0.75)
    assert page.position_s == pytest.approx(6, abs=0.03)
    playhead = page.find("#playhead").rect["x"]
    page.point(0.25)
    assert page.position_s == pytest.approx(2, abs=0.03)
    assert page.find("#playhead").rect["x"] < playhead - 400


def test_zoom_and_drag_move_all_panels(page: Page, tones_path: Path):
    page.open(tones_path)
    page.point(0.5)
    page.wait(lambda: len(set(page.pictures())) > 5)
    before = page.pictures()
    page.press("+", "+")  # 2 s around 4 s
    page.wait(lambda: page.pictures() != before)
    assert sum(a != b for a, b in zip(before, page.pictures(), strict=True)) == len(before)
    page.point(1)
    assert page.position_s == pytest.approx(5, abs=0.03)
    page.point(0.75, drag_to=0.25)  # half a view on; a drag does not seek
    assert page.position_s == pytest.approx(5, abs=0.03)
    page.point(0)
    assert page.position_s == pytest.approx(4, abs=0.05)
    page.find("#zoom-out").click()
    page.press("0")
    page.point(0)
    assert page.position_s == pytest.approx(0, abs=0.03)


def test_ctrl_and_wheel_zoom_around_the_pointer(page: Page, tones_path: Path):
    page.open(tones_path)
    page.point(0.25)
    wheel = """
      const canvas = document.querySelector("canvas[aria-label^='Waveform']");
      const { left, width } = canvas.getBoundingClientRect();
      canvas.dispatchEvent(new WheelEvent("wheel", {
        deltaY: -400, ctrlKey: true, bubbles: true, cancelable: true,
        clientX: left + 48 + (width - 48) / 4,
      }));
    """
    page.run(wheel)
    page.point(0.25)
    assert page.position_s == pytest.approx(2, abs=0.05)
    page.point(1)
    assert page.position_s == pytest.approx(2 + 6 / np.exp(2), abs=0.05)


def test_fingers_tap_drag_and_pinch(page: Page, tones_path: Path):
    page.open(tones_path)
    wave = page.find("canvas[aria-label^='Waveform']")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", wave)
    box = page.driver.execute_script("return arguments[0].getBoundingClientRect().toJSON()", wave)

    def touch(*steps: tuple[float, ...]) -> None:
        """Fingers at these fractions of the time axis, one step after the other; then none."""
        kinds = ["touchStart"] + ["touchMove"] * (len(steps) - 1) + ["touchEnd"]
        for kind, fractions in zip(kinds, [*steps, ()], strict=True):
            points = [
                {
                    "x": box["left"] + 48 + at * (box["width"] - 48),
                    "y": box["top"] + 20,
                    "id": number,
                }
                for number, at in enumerate(fractions)
            ]
            event = {"type": kind, "touchPoints": points}
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    touch((0.25,))
    page.wait(lambda: page.position_s == pytest.approx(2, abs=0.03))
    apart = [(0.5 - d, 0.5 + d) for d in (0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)]
    touch(*apart)  # four times as far: a view of 2 s around 4 s
    assert page.position_s == pytest.approx(2, abs=0.03)
    touch((0.999,))
    page.wait(lambda: page.position_s == pytest.approx(5, abs=0.2))
    right_s = page.position_s
    touch((0.75,), (0.6,), (0.4,), (0.25,))
    touch((0.999,))
    page.wait(lambda: page.position_s == pytest.approx(right_s + 1, abs=0.1))


def test_it_ends_at_the_end_and_repeats_the_view_on_demand(page: Page, tones_path: Path):
    page.open(tones_path)
    page.point(0.98)
    page.press(" ")
    page.wait(lambda: page.find("#play").text == "Play")
    assert page.position_s == 0
    page.point(0.5)
    page.press(*"++++", "r", " ")  # half a second around 4 s
    positions = [page.position_s]

    def went_back() -> bool:
        positions.append(page.position_s)
        return positions[-1] < positions[-2]

    for _ in range(2):
        page.wait(went_back)
        assert 3.7 < positions[-1] < 4.2
    assert page.find("#play").text == "Pause"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_legible_in_both_schemes_and_on_a_phone(
    page: Page, speech_path: Path, scheme: str, width: int
):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.open(speech_path)
        assert page.run("return document.documentElement.scrollWidth") <= width
        for selector in ("h1", "#summary", "figcaption b", "th small", "#match", "#listen-1"):
            assert contrast(page, selector) >= 4.5, selector
        dark = relative_luminance(
            page.run("return getComputedStyle(document.body).backgroundColor")
        )
        assert (dark < 0.1) == (scheme == "dark")
        for button in page.driver.find_elements("css selector", "button"):
            assert min(button.size.values()) >= 38
            assert button.accessible_name
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def relative_luminance(colour: str) -> float:
    """WCAG 2.1's definition."""
    values = np.array([float(v) / 255 for v in re.findall(r"[\d.]+", colour)[:3]])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(page: Page, selector: str) -> float:
    colours = page.run(
        f"""
        let at = document.querySelector("{selector}");
        const colour = getComputedStyle(at).color;
        while (getComputedStyle(at).backgroundColor === "rgba(0, 0, 0, 0)") at = at.parentElement;
        return [colour, getComputedStyle(at).backgroundColor];
        """
    )
    darker, lighter = sorted(map(relative_luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_picture_has_a_name_and_every_key_a_legend(page: Page, speech_path: Path):
    page.open(speech_path)
    for canvas in page.driver.find_elements("css selector", "figure canvas"):
        assert canvas.accessible_name
        assert len(set(canvas.screenshot_as_png)) > 16  # something is drawn
    legend = page.find("#keys").text
    for key in ("Space", "1", "←", "Home", "L", "R", "+", "0"):
        assert key in legend


def test_undecodable_sound_is_said_and_the_pictures_stay(page: Page, tones_path: Path):
    broken = tones_path.with_name("broken.html")
    text = tones_path.read_text()
    broken.write_text(re.sub(r'"audio": "[^"]{100}', '"audio": "' + "A" * 100, text, count=1))
    page.driver.get(broken.as_uri())
    page.wait(lambda: page.find("#problem").is_displayed())
    assert "cannot play" in page.find("#problem").text
    assert not page.find("#play").is_enabled()
    assert len(set(page.pictures())) > 5


def test_a_sound_device_that_does_not_answer_is_said(page: Page, tones_path: Path):
    page.open(tones_path)
    page.run("AudioContext.prototype.resume = () => new Promise(() => {})")
    page.run(
        "const later = setTimeout; setTimeout = (f, ms, ...rest) => later(f, ms / 50, ...rest)"
    )
    page.press(" ")
    page.wait(lambda: page.find("#problem").is_displayed())
    assert "No sound device answers" in page.find("#problem").text


# Without one


class Outline(HTMLParser):
    """The elements of a page, and the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.data = ""
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.references += [v for k, v in named.items() if k in ("src", "href", "action")]
        self._in_data = named.get("id") == "data"

    def handle_data(self, data):
        if self._in_data:
            self.data += data

    def handle_endtag(self, tag):
        self._in_data = False


def test_names_cannot_become_markup(speech_path: Path):
    outline = Outline(speech_path.read_text("utf-8"))
    assert outline.tags.count("script") == 2
    assert outline.references == ["data:,"]
    data = json.loads(outline.data)
    assert data["title"] == data["tracks"][0]["name"] == AWKWARD


def test_a_page_replaces_its_target_at_once_or_not_at_all(tmp_path: Path, noisy_path: Path):
    target = tmp_path / "page.html"
    target.write_text("old")
    comparison_page(noisy_path, [], target)
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(UserError, match="does not exist: make it first"):
        comparison_page(noisy_path, [], tmp_path / "missing" / "page.html")


def test_a_page_that_no_browser_opens_is_refused(
    tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gtcrn_cli.evaluation.page.LARGEST_PAGE", 500_000)
    comparison_page(noisy_path, [], tmp_path / "one.html")
    with pytest.raises(UserError, match="use --duration to show less"):
        comparison_page(noisy_path, [noisy_path], tmp_path / "two.html")
    assert [path.name for path in tmp_path.iterdir()] == ["one.html"]


def test_loud_sounds_are_embedded_without_clipping(tmp_path: Path):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, tone(500, 4.0, 1), 16_000, subtype="FLOAT")
    comparison_page(loud, [], tmp_path / "page.html")
    data = json.loads(Outline((tmp_path / "page.html").read_text()).data)
    assert "played 12.0 dB lower" in data["notes"][0]
    assert data["tracks"][0]["matchingGain"] == pytest.approx(1, abs=0.01)


def picture_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_a_picture_grows_with_what_it_shows(tmp_path: Path, noisy_path: Path, recwarn):
    pytest.importorskip("matplotlib")
    awkward = tmp_path / AWKWARD
    shutil.copy(noisy_path, awkward)
    sizes = []
    for enhanced in ([], [awkward]):
        write_picture(compare(noisy_path, enhanced), tmp_path / "x.png")
        sizes.append(picture_size(tmp_path / "x.png"))
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] > sizes[0][1] + 300
    assert list(recwarn) == []


def test_a_picture_without_matplotlib_says_what_to_install(
    tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[report\]"):
        write_picture(compare(noisy_path, []), tmp_path / "x.png")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`gtcrn compare` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Any:
        words = ["compare", "--no-dnsmos", *map(str, arguments)]
        result = CliRunner().invoke(app, words)
        error = result.exception if isinstance(result.exception, UserError) else ""
        return SimpleNamespace(code=result.exit_code, text=result.output + str(error))

    return run


def test_compare_enhances_what_nobody_has_enhanced(run, noisy_path: Path, tmp_path: Path):
    result = run(noisy_path, "--atten-limit", "12")
    assert result.code == 0
    assert "wrote noisy.compare.html" in result.text
    data = json.loads(Outline(Path("noisy.compare.html").read_text()).data)
    assert [track["name"] for track in data["tracks"]] == ["noisy.wav", "enhanced by gtcrn"]
    assert 1 < data["tracks"][1]["figures"]["removed"] < 12
    assert data["gainIsMask"]


def test_compare_shows_what_it_is_given(run, noisy_path: Path):
    clean = noisy_path.with_name("clean.wav")
    part = ("--start", "1", "--duration", "2", "-q")
    assert run(noisy_path, clean, "--clean", clean, "-o", "x.html", *part).text == ""
    data = json.loads(Outline(Path("x.html").read_text()).data)
    assert [track["role"] for track in data["tracks"]] == ["noisy", "enhanced", "clean"]
    assert (data["startS"], data["durationS"]) == (1, 2)
    assert not data["gainIsMask"]


def test_compare_makes_a_picture_on_demand(run, noisy_path: Path):
    pytest.importorskip("matplotlib")
    assert run(noisy_path, noisy_path, "--png").code == 0
    assert run(noisy_path, noisy_path, "-o", "y.PNG").code == 0
    assert picture_size(Path("noisy.compare.png")) == picture_size(Path("y.PNG"))


def test_compare_replaces_nothing_unasked_and_no_input_ever(run, noisy_path: Path, tmp_path: Path):
    shutil.copy(noisy_path, "a.wav")
    Path("a.compare.html").write_text("mine")
    assert "add --overwrite" in run("a.wav", "a.wav").text
    assert Path("a.compare.html").read_text() == "mine"
    assert run("a.wav", "a.wav", "--overwrite").code == 0
    assert "same file" in run("a.wav", "a.wav", "-o", "a.wav", "--overwrite").text
    assert "same file" in run("a.wav", "--clean", noisy_path, "-o", noisy_path, "--overwrite").text
    assert soundfile.info("a.wav").duration == 6.5


def test_compare_refuses_options_that_would_do_nothing(run, noisy_path: Path):
    result = run(noisy_path, noisy_path, "--strength", "0.5")
    assert result.code == 2
    assert "--strength is for enhancing" in result.text
    assert list(Path.cwd().iterdir()) == []


def test_compare_says_what_cannot_be_read(run, noisy_path: Path):
    assert "cannot read missing.wav" in run("missing.wav").text
    assert "a page takes" in run(noisy_path, "--duration", "4000").text
    assert "there is nothing to show" in run(noisy_path, "--start", "100").text
    assert list(Path.cwd().iterdir()) == []
