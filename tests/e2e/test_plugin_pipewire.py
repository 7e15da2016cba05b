"""The plugin as a virtual microphone of a real PipeWire: `gtcrn plugin --install`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import soxr
from support.sound_server import MICROPHONE, RATE, PipeWire

from gtcrn_cli import enhance
from gtcrn_cli.errors import MissingExtraError
from gtcrn_cli.plugin.build import find_compiler
from gtcrn_cli.signals import Samples, lag

pytestmark = [pytest.mark.soundserver, pytest.mark.slow]
QUANTUM = 1024  # samples; the server's, as its configuration in the tests has it


@pytest.fixture
def server() -> Iterator[PipeWire]:
    """A server that is not running yet, in a home of its own."""
    server = PipeWire()
    try:
        if (missing := server.why_unavailable()) is not None:
            pytest.skip(missing)
        try:
            find_compiler()
        except MissingExtraError as error:
            pytest.skip(str(error))
        yield server
    finally:
        server.close()


def test_sound_comes_out_enhanced_one_window_later(server: PipeWire, noisy: Samples):
    """What the microphone gives and what the plugin makes of it, recorded side by side."""
    done = server.gtcrn("plugin", "--install")
    assert done.returncode == 0, done.stderr
    server.start()
    server.until(lambda: any(s["name"] == "gtcrn_plugin" for s in server.listing("sources")))

    samples = soxr.resample(noisy[:64_000, 0], 16_000, RATE)
    soundfile.write(server.folder / "noisy.wav", samples, RATE, "FLOAT")
    server.pactl(
        *("load-module", "module-null-sink", "sink_name=both", f"rate={RATE}"),
        *("format=float32le", "channels=2", "channel_map=front-left,front-right"),
    )
    server.until(lambda: "both:playback_FR" in server.run("pw-link", "-i").stdout)
    server.run("pw-link", f"{MICROPHONE}:monitor_MONO", "both:playback_FL")
    server.run("pw-link", "gtcrn_plugin:capture_MONO", "both:playback_FR")
    with (server.folder / "both.raw").open("wb") as file:
        recorder = server.popen(
            *("parec", "--device=both.monitor", "--format=float32le"),
            *(f"--rate={RATE}", "--channels=2"),
            stdout=file,
        )
        try:
            server.until(lambda: (server.folder / "both.raw").stat().st_size > 0)
            server.run("paplay", f"--device={MICROPHONE}", str(server.folder / "noisy.wav"))
            time.sleep(0.5)
        finally:
            recorder.terminate()
            recorder.wait()

    bytes_recorded = (server.folder / "both.raw").read_bytes()
    both = np.frombuffer(bytes_recorded[: len(bytes_recorded) // 8 * 8], np.float32)
    microphone, plugin = both.reshape(-1, 2).T
    expected = enhance(samples, RATE)
    begin = lag(plugin, expected, len(plugin))
    latency = begin - lag(microphone, samples, len(microphone))
    assert 0.032 * RATE <= latency <= 0.032 * RATE + QUANTUM
    # The frames of a stream that has long been running begin elsewhere than those of a file, so
    # that the masks differ; what is not enhanced agrees far less.
    length = min(len(expected), len(plugin) - begin)

    def agreement_db(heard: Samples) -> float:
        difference = heard[:length] - expected[:length]
        return float(10 * np.log10(np.mean(expected[:length] ** 2) / np.mean(difference**2)))

    assert agreement_db(plugin[begin:]) > 20
    assert agreement_db(samples) < 15

    server.kill()
    done = server.gtcrn("plugin", "--remove")
    assert done.returncode == 0, done.stderr
    assert not list((server.folder / ".ladspa").iterdir())
