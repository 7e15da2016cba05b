"""The page of `gtcrn compare`, as a browser shows and plays it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.browser import Page
from support.pages import AWKWARD
from support.sound import tone

from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.evaluation.comparison import compare
from gtcrn_cli.evaluation.page import comparison_page, write_page
from gtcrn_cli.evaluation.sounds import Enhancing, Section
from gtcrn_cli.network.checkpoint import Checkpoint

pytestmark = pytest.mark.slow  # each opens a browser


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
        tapped.listen_on(0.15)
    heard = tapped.heard()
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


def test_a_page_with_opus_inside_looks_and_sounds_alike(tapped: Page, tones_path: Path):
    paths = [tones_path.with_name(f"{hz}.wav") for hz in (500, 1500)]
    small = tones_path.with_name("small.html")
    write_page(compare(paths[0], paths[1:]), small, "opus")
    tapped.open(small)
    assert not tapped.find("#problem").is_displayed()
    assert all(len(picture) > 1_000 for picture in tapped.pictures())
    tapped.press(" ")
    tapped.wait(lambda: tapped.position_s > 0.3)
    assert loudest_hz(tapped.listen(0.3)) == pytest.approx(500, abs=10)
    tapped.press("2")
    assert loudest_hz(tapped.listen(0.4)[-2048:]) == pytest.approx(1500, abs=20)


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
