"""The doctor finds a click where it is, and tells what works."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.simulated import SimulatedPair
from support.sound_server import MICROPHONE, SPEAKER, SoundServer, on_each

from gtcrn_cli.live import doctor, loopback
from gtcrn_cli.live.doctor import round_trip, virtual_microphone_recipe
from gtcrn_cli.live.loopback import Recorded, click_sound, delay_s, find_click

RATE = 16_000


class Cable(SimulatedPair):
    """A pair whose output is heard by its input, quieter and later."""

    def __init__(self, delay: int, gain: float = 0.3) -> None:
        super().__init__(self._heard)
        self.delay, self.gain = delay, gain

    def _heard(self, at: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(int(at[0])).normal(0, 0.003, len(at))
        hum = 0.02 * np.sin(2 * np.pi * 50 * at / RATE)
        if not self.played:
            return noise + hum
        played = np.concatenate(self.played)[:, 0]
        source = at - self.delay
        there = (source >= 0) & (source < len(played))
        return noise + hum + self.gain * np.where(there, played[source.clip(0, len(played) - 1)], 0)


@pytest.mark.parametrize("delay", [800, 3000])
def test_the_round_trip_over_a_cable_is_measured(delay: int):
    pair = Cable(delay)
    finding = round_trip(pair)
    assert finding.verdict == "ok"
    assert pair.closed
    # What waits in the simulated buffers comes on top: a block and what the player starts at.
    devices_ms = float(finding.text.split("does it, ")[1].split(" ms")[0])
    waits = pair.player.start_at / RATE
    assert 1000 * (delay / RATE + waits) == pytest.approx(devices_ms, abs=30)


def test_silence_has_no_click_in_it():
    assert round_trip(Cable(800, gain=0.0)).verdict == "warning"


def test_a_click_is_found_to_the_sample():
    rng = np.random.default_rng(0)
    played = np.zeros(RATE)
    played[4000:4160] = rng.normal(0, 0.3, 160)
    heard = 0.05 * np.roll(played, 1234) + rng.normal(0, 0.001, RATE)
    assert find_click(heard, played) == 1234
    assert find_click(rng.normal(0, 0.01, RATE), played) is None


@pytest.mark.parametrize("lost_on", [None, "sent", "heard"])
def test_the_delay_of_clicks_is_right_though_some_of_the_sound_was_lost(lost_on: str | None):
    rng = np.random.default_rng(0)
    times = np.arange(8) * 0.31 + rng.uniform(0, 0.1, 8) + 0.4
    size, block, later = 4 * loopback.RATE, 256, 0.055
    recorded = {}
    for name, later_s in (("sent", 0.0), ("heard", later)):
        samples = rng.normal(0, 1e-5, size).astype(np.float32)
        for at_s in times:
            at = round((at_s + later_s) * loopback.RATE)
            samples[at : at + 480] += click_sound(loopback.RATE)
        ends = np.arange(block, size + 1, block)
        came_s = 100.0 + ends / loopback.RATE + rng.exponential(0.002, len(ends))
        if name == lost_on:  # the machine was busy: 0.7 s of it never came
            lost = slice(round(1.0 * loopback.RATE) // block, round(1.7 * loopback.RATE) // block)
            samples = np.delete(samples, slice(lost.start * block, lost.stop * block))
            came_s = np.delete(came_s, lost)
            ends = ends[: len(came_s)]
        recorded[name] = Recorded(samples, ends, came_s)
    measured = delay_s(recorded["sent"], recorded["heard"])
    assert measured == pytest.approx(later, abs=0.001)


def test_no_click_has_no_delay():
    silence = Recorded(
        np.zeros(loopback.RATE, np.float32), np.array([loopback.RATE]), np.array([1.0])
    )
    assert delay_s(silence, silence) is None


@pytest.mark.parametrize(
    ("system", "word"),
    [("Linux", "--virtual-mic"), ("Darwin", "BlackHole"), ("Windows", "VB-Cable")],
)
def test_every_system_has_a_recipe_for_a_virtual_microphone(system: str, word: str):
    assert word in virtual_microphone_recipe(system)


def test_the_doctor_examines_a_system_that_works_and_measures_what_is_connected(
    sound_servers: list[SoundServer],
):
    def examine(server: SoundServer) -> None:
        done = server.gtcrn("doctor", "--json", "--loopback")
        findings = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
        assert findings["sound server"]["text"].startswith(server.name)
        assert findings["default output"]["verdict"] == "ok"
        assert "ms from microphone to speaker" in findings["default output"]["text"]
        assert "ms for 99 % of the frames" in findings["engine native"]["text"]
        rates = next(f for what, f in findings.items() if MICROPHONE in what or "Null" in what)
        assert "48" in rates["text"]
        # Never less than the window; how much more depends on how busy this machine is.
        assert 32 < float(findings["live latency"]["text"].split(" ms")[0]) < 300
        assert len(server.listing("sinks")) == 3  # its own are gone again

    def measure(server: SoundServer) -> None:
        connected = ("--input", f"{SPEAKER}.monitor", "--output", SPEAKER)
        done = server.gtcrn("doctor", "--json", "--loopback", *connected)
        findings = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
        assert findings["round trip"]["verdict"] == "ok"
        assert 32 < float(findings["round trip"]["text"].split(" ms")[0]) < 300

    on_each(sound_servers, examine, measure)


def test_without_portaudio_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise doctor.UserError("live sound needs the PortAudio library")

    class Engine:
        name = "fixed"

        def mask(self, spectrum, state):
            return spectrum, state

    monkeypatch.setattr(doctor, "portaudio", missing)
    monkeypatch.setattr(doctor, "TIMED_FRAMES", 10)
    *_, last = doctor.examine(Engine())
    assert (last.what, last.verdict) == ("PortAudio", "failed")
