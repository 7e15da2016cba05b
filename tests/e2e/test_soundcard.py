"""What comes out of `gtcrn live` on real servers is what `gtcrn denoise` makes, in time."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from support.live_process import Listener, LiveProcess, runs, speak
from support.sound import si_sdr_db
from support.sound_server import (
    MICROPHONE,
    RATE,
    SPEAKER,
    Jack,
    PulseAudio,
    SoundServer,
    on_each,
    running,
)
from support.waiting import wait_for

from gtcrn_cli.live import portaudio_streams
from gtcrn_cli.live.portaudio_streams import DefaultWatcher
from gtcrn_cli.signals import lag

LENGTH_S = 30
LATENCY_MS = 600
SETTLING_S = 55.0
NEAR = RATE // 100


def in_time(recorded: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """What was recorded, each second where it is most like what was wanted, within `NEAR`.

    The servers' clocks drift against each other on a busy machine, and `live` follows them by some
    samples a second.
    """
    first, seconds = lag(recorded, wanted, len(recorded)), []
    for at in range(0, len(wanted), RATE):
        second = wanted[at : at + RATE]
        around = recorded[first + at - NEAR : first + at + RATE + NEAR]
        shift = int(np.argmax(np.correlate(around, second, "valid")))
        seconds.append(around[shift : shift + RATE])
    return np.concatenate(seconds)


def blocks(samples: np.ndarray) -> np.ndarray:
    """The peaks of pieces of 10 ms."""
    return np.abs(samples[: len(samples) // 480 * 480]).reshape(-1, 480).max(axis=1)


def test_what_is_played_is_what_denoise_makes(
    sound_servers: list[SoundServer], noisy: np.ndarray, tmp_path: Path
):
    """Speech out of the virtual speaker, held against what was heard from the virtual microphone.

    With much more delay than usual: other tests keep this machine busy, and may hold it up.
    """
    rng = np.random.default_rng(0)
    pieces = [rng.uniform(0.3, 1) * noisy[:, 0] for _ in range(5)]  # so that no two are alike
    speech = soxr.resample(np.concatenate(pieces)[: LENGTH_S * 16_000], 16_000, RATE)
    path = tmp_path / "noisy.wav"
    soundfile.write(path, np.concatenate([speech, np.zeros(RATE)]), RATE, subtype="FLOAT")

    def carry(server: SoundServer) -> None:
        folder = tmp_path / server.name
        folder.mkdir()
        input_path, output_path, enhanced_path = (
            folder / f"{name}.wav" for name in ("in", "out", "enhanced")
        )
        recording = ("--record-input", str(input_path), "--record-output", str(output_path))
        between = ("--input", f"{MICROPHONE}.monitor", "--output", SPEAKER)
        latency = ("--latency", str(LATENCY_MS))
        process = LiveProcess(server, *between, *latency, *recording)
        listener = Listener(server, SPEAKER, folder)
        try:
            process.wait_until_running()
            stall(server, process)
            # The delay has settled: until then a busy machine may have it squeezed or stretched.
            before = process.wait_for(settled, SETTLING_S)
            server.run("paplay", "-d", MICROPHONE, "--latency-msec=500", str(path))
            time.sleep(0.5)
            status = process.end()
        finally:
            process.kill()
            listener.close()

        faults = ("underruns", "overruns", "dropped")
        counted = [status[fault] for fault in faults]
        assert counted == [before[fault] for fault in faults], process.history()
        assert abs(status["latency_ms"] - LATENCY_MS) < 100, process.history()
        assert server.gtcrn("denoise", str(input_path), str(enhanced_path)).returncode == 0
        enhanced = soundfile.read(enhanced_path)[0]
        output = soundfile.read(output_path)[0]
        assert len(output) == len(enhanced)  # input and output: aligned to the sample
        assert si_sdr_db(output, enhanced) >= 60

        start = lag(enhanced, speech, len(enhanced))
        enhanced = enhanced[start:][: LENGTH_S * RATE]
        heard = in_time(listener.heard(), enhanced)
        assert len(heard) == LENGTH_S * RATE
        assert si_sdr_db(heard, enhanced) >= 20
        sounding = (
            blocks(enhanced) > 0.01
        )  # no gap: where the file has sound for 10 ms, it is heard
        assert (blocks(heard)[sounding] > 0.001).all()

    on_each(sound_servers, carry)


def settled(event: dict[str, Any]) -> bool:
    if not runs(event) or event["uptime_s"] <= 12:
        return False
    return event["drift_ppm"] == 0 and abs(event["latency_ms"] - LATENCY_MS) < 100


def stall(server: SoundServer, process: LiveProcess) -> None:
    """Shorter than what waits, so that it costs no gap: the latency told stays what it was."""
    process.wait_for(lambda event: runs(event) and event["uptime_s"] > 4)
    server.signal(signal.SIGSTOP)
    time.sleep(0.15)
    server.signal(signal.SIGCONT)
    end_s = time.time() + 3
    while True:
        told = process.wait_for(runs)
        assert abs(told["latency_ms"] - LATENCY_MS) < 60
        if told["time_s"] > end_s:
            return


ALSA_DEVICES = f"""
pcm.alsa_microphone {{ type pulse; device {MICROPHONE}.monitor; hint {{ show on }} }}
pcm.alsa_headset {{ type pulse; device {SPEAKER}; hint {{ show on }} }}
"""


@pytest.fixture
def alsa() -> Iterator[SoundServer]:
    """A server whose devices are ALSA's, too: what PortAudio opens."""
    server = PulseAudio()
    try:
        reason = server.why_unavailable()
        if reason is not None:
            pytest.skip(reason)
        with (server.folder / "asound.conf").open("a") as file:
            file.write(ALSA_DEVICES)
        server.start()
        probe = "import sounddevice; print(sounddevice.query_devices())"
        if "alsa_headset" not in server.run(sys.executable, "-c", probe, check=False).stdout:
            pytest.skip("PortAudio lists no such devices (apt install libasound2-plugins)")
        yield server
    finally:
        server.close()


@pytest.mark.soundserver
@pytest.mark.slow
def test_devices_of_portaudio_carry_sound(alsa: SoundServer, tmp_path: Path):
    process = LiveProcess(
        alsa, "--input", "alsa_microphone", "--output", "alsa_headset", "--strength", "0"
    )
    listener = Listener(alsa, SPEAKER, tmp_path)
    speaker = speak(alsa, tmp_path)
    try:
        status = process.wait_until_running()
        assert (status["input"], status["output"]) == ("alsa_microphone", "alsa_headset")
        listener.wait_for_sound()
        process.end()
    finally:
        speaker.kill()
        speaker.wait()
        process.kill()
        listener.close()


@pytest.fixture
def jack() -> Iterator[SoundServer]:
    """A JACK server of our own."""
    yield from running(Jack)


@pytest.mark.soundserver
@pytest.mark.slow
def test_jack_is_used_with_its_own_small_blocks(jack: SoundServer):
    (system,) = json.loads(jack.gtcrn("devices", "--json").stdout)
    assert (system["name"], system["host"]) == ("system", jack.name)
    assert 32 < system["latency_ms"] < 48  # four blocks of 128 samples beside the window
    process = LiveProcess(jack)
    try:
        process.wait_for(lambda event: runs(event) and event["latency_ms"] > 32)
        assert process.end()["output"] == "system"
    finally:
        process.kill()


@pytest.mark.soundserver
def test_a_kill_leaves_recordings_that_play(sound_server: SoundServer, tmp_path: Path):
    paths = (str(tmp_path / "in.wav"), str(tmp_path / "out.flac"))
    recording = ("--record-input", paths[0], "--record-output", paths[1])
    process = LiveProcess(
        sound_server, "--input", f"{MICROPHONE}.monitor", "--output", SPEAKER, *recording
    )
    try:
        process.wait_for(lambda event: runs(event) and event["uptime_s"] > 3.5)
    finally:
        process.kill()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rsplit(".", 2)[0] for name in left] == [".in.wav", ".out.flac"]
    assert soundfile.info(tmp_path / left[0]).duration > 1
    with soundfile.SoundFile(tmp_path / left[1]) as file:  # of unknown length, but it plays
        assert len(file.read(RATE)) == RATE


@pytest.mark.soundserver
def test_devices_that_are_not_there_are_named(sound_server: SoundServer):
    done = sound_server.gtcrn("live", "--input", "gramophone")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "gtcrn: no input device 'gramophone': see 'gtcrn devices'"
    )


def test_changed_defaults_are_noticed(monkeypatch: pytest.MonkeyPatch):
    lines = "import time\nfor n in 'aab': print(n, flush=True)\ntime.sleep(60)"
    monkeypatch.setattr(portaudio_streams, "WATCHER", [sys.executable, "-c", lines])
    watcher = DefaultWatcher()
    try:
        wait_for(watcher.changed)
        assert not watcher.changed()
    finally:
        watcher.close()
