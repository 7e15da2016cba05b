"""Where the sound of `gtcrn live` goes, on real servers: where the user said, and nowhere else.

These tests wait most of the time, so each runs on all servers at once.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.live_process import Listener, LiveProcess, speak
from support.sound_server import BUILT_IN, MICROPHONE, RATE, SPEAKER, SoundServer, on_each

pytestmark = pytest.mark.soundserver

BETWEEN = ("--input", f"{MICROPHONE}.monitor", "--output", SPEAKER, "--strength", "0")


class Desk:
    """A sound server and what a test starts there, which ends with the test."""

    def __init__(self, server: SoundServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        folder.mkdir()
        self._lives: list[LiveProcess] = []
        self._listeners: list[Listener] = []
        self._speakers: list[subprocess.Popen] = []

    def live(self, *arguments: str) -> LiveProcess:
        """Start `gtcrn live`."""
        self._lives.append(LiveProcess(self.server, *arguments))
        return self._lives[-1]

    def listen(self, sink: str) -> Listener:
        """Record what a device plays."""
        self._listeners.append(Listener(self.server, sink, self.folder))
        return self._listeners[-1]

    def speak(self) -> None:
        """Have somebody speak from now on."""
        self._speakers.append(speak(self.server, self.folder))

    def close(self) -> None:
        for live in self._lives:
            live.kill()
        for listener in self._listeners:
            listener.close()
        for speaker in self._speakers:
            speaker.kill()
            speaker.wait()


def at_every_desk(
    test: Callable[[Desk], None],
) -> Callable[[list[SoundServer], Path], None]:
    """The test, run on all sound servers of this machine at once."""

    def run(sound_servers: list[SoundServer], tmp_path: Path) -> None:
        def at_one(server: SoundServer) -> None:
            desk = Desk(server, tmp_path / server.name)
            try:
                test(desk)
            finally:
                desk.close()

        on_each(sound_servers, at_one)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def loudest(listener: Listener) -> float:
    return float(np.abs(listener.heard()).max(initial=0))


def ours(server: SoundServer) -> list[str]:
    """The virtual devices that are there."""
    devices = server.listing("sinks") + server.listing("sources")
    return sorted(device["name"] for device in devices if "gtcrn" in device["name"])


@at_every_desk
def test_a_headset_that_is_unplugged_is_waited_for_in_silence(desk: Desk):
    server = desk.server
    loudspeaker, headset = desk.listen(BUILT_IN), desk.listen(SPEAKER)
    desk.speak()
    live = desk.live(*BETWEEN)
    live.wait_until_running()
    headset.wait_for_sound()
    server.unplug(SPEAKER)
    assert "is gone" in live.wait_for_note("waiting for a device")
    time.sleep(1.0)  # the server has had time to move what it moves
    assert server.played_on() <= {MICROPHONE}
    headset.close()
    server.plug(SPEAKER)
    headset = desk.listen(SPEAKER)
    status = live.wait_until_running()
    assert status["reopened"] == 1
    assert server.played_on() == {MICROPHONE, SPEAKER}
    headset.wait_for_sound()
    assert len(loudspeaker.heard()) > RATE
    assert loudest(loudspeaker) == 0
    live.end()


@at_every_desk
def test_a_microphone_that_is_unplugged_is_not_replaced(desk: Desk):
    live = desk.live(*BETWEEN)
    live.wait_until_running()
    desk.server.unplug(MICROPHONE)
    live.wait_for_note("waiting for a device")
    time.sleep(0.5)
    assert desk.server.recorded_from() == set()
    desk.server.plug(MICROPHONE)
    live.wait_until_running()
    assert desk.server.recorded_from() == {f"{MICROPHONE}.monitor"}
    live.end()


@at_every_desk
def test_a_stream_is_not_moved_by_others(desk: Desk):
    server = desk.server
    loudspeaker, headset = desk.listen(BUILT_IN), desk.listen(SPEAKER)
    desk.speak()
    live = desk.live(*BETWEEN)
    live.wait_until_running()
    headset.wait_for_sound()
    sinks = {sink["index"]: sink["name"] for sink in server.listing("sinks")}
    (stream,) = [s for s in server.listing("sink-inputs") if sinks[s["sink"]] == SPEAKER]
    server.run("pactl", "move-sink-input", str(stream["index"]), BUILT_IN, check=False)
    time.sleep(1.0)
    assert len(loudspeaker.heard()) > RATE
    assert loudest(loudspeaker) == 0
    live.end()


@at_every_desk
def test_another_default_is_followed_only_on_request(desk: Desk):
    stays, follows = desk.live(), desk.live("--follow-default")
    for live in (stays, follows):
        live.wait_until_running()
    desk.server.set_default("sink", SPEAKER)
    follows.wait_for_note("going on with")
    follows.wait_until_running()
    assert desk.server.played_on() == {BUILT_IN, SPEAKER}
    follows.end()
    assert desk.server.played_on() == {BUILT_IN}
    assert stays.end()["reopened"] == 0


@at_every_desk
def test_the_virtual_microphone_is_one_and_comes_and_goes(desk: Desk):
    server = desk.server
    live = desk.live("--virtual-mic")
    live.wait_until_running()
    (microphone,) = [s for s in server.listing("sources") if s["name"] == "gtcrn_microphone"]
    assert microphone["sample_specification"] == "float32le 1ch 48000Hz"
    assert microphone["properties"]["device.class"] == "sound"  # neither "monitor" nor "filter"
    assert microphone["properties"]["gtcrn.process"] == str(live.process.pid)
    assert server.played_on() == {"gtcrn"}

    second = server.gtcrn("live", "--virtual-mic")  # fails, and leaves the first alone
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        "gtcrn: the virtual microphone is taken by another 'gtcrn live' "
        f"(process {live.process.pid}): end that first"
    )
    assert server.played_on() == {"gtcrn"}
    assert live.end()["reopened"] == 0
    assert ours(server) == []


@at_every_desk
def test_eight_channels_without_names_are_opened(desk: Desk):
    eight = "gtcrn_eight"  # the server forgets what is called like that before the next test
    desk.server.plug(eight, ",".join(f"aux{n}" for n in range(8)))
    live = desk.live(
        *("--input", f"{eight}.monitor", "--input-channels", "8", "--output", SPEAKER),
        *("--output-channels", "1"),
    )
    live.wait_until_running()
    assert desk.server.recorded_from() == {f"{eight}.monitor"}
    live.end()


@at_every_desk
def test_our_own_microphone_is_never_the_input(desk: Desk):
    server = desk.server
    first = desk.live("--virtual-mic")
    first.wait_until_running()
    first.kill()  # leaves its devices behind
    server.set_default("source", "gtcrn_microphone")
    again = desk.live("--virtual-mic")
    again.wait_until_running()
    recorded = server.recorded_from() - {"gtcrn.monitor"}  # by the virtual microphone itself
    assert recorded == {f"{MICROPHONE}.monitor"}
    again.end()
    assert ours(server) == []


@at_every_desk
def test_it_is_refused_as_input_by_name(desk: Desk):
    assert desk.server.gtcrn("doctor", "--virtual-mic", "add").returncode == 0
    refused = desk.server.gtcrn("live", "--input", "gtcrn_microphone", "--output", SPEAKER)
    assert refused.returncode == 1
    assert "it would hear itself" in refused.stderr.splitlines()[-1]
    assert desk.server.gtcrn("doctor", "--virtual-mic", "remove").returncode == 0


@at_every_desk
def test_a_closed_terminal_leaves_nothing_behind(desk: Desk):
    recording = desk.folder / "out.wav"
    live = desk.live("--virtual-mic", "--record-output", str(recording))
    live.wait_until_running()
    live.process.send_signal(signal.SIGHUP)
    live.end(signal.SIGHUP)  # the shell says it, too
    assert ours(desk.server) == []
    assert list(desk.folder.iterdir()) == [recording]
    assert soundfile.info(recording).frames > 0


@pytest.mark.parametrize("half", ["sink_name=gtcrn ", "source_name=gtcrn_microphone "])
def test_half_a_virtual_microphone_is_made_whole(half: str, sound_servers: list[SoundServer]):
    def mend(server: SoundServer) -> None:
        def add() -> str:
            done = server.gtcrn("doctor", "--virtual-mic", "add")
            assert done.returncode == 0
            return done.stderr

        assert 'choose "gtcrn microphone"' in add()
        for line in server.pactl("list", "short", "modules").splitlines():
            if half in f"{line} ":
                server.pactl("unload-module", line.split()[0])
        add()
        assert ours(server) == ["gtcrn", "gtcrn.monitor", "gtcrn_microphone"]
        assert "it is there already" in add()
        # Without its sink the source would have the voice as it is.
        assert server.recorded_from() <= {"gtcrn.monitor"}
        assert "removed" in server.gtcrn("doctor", "--virtual-mic", "remove").stderr
        assert "there was none" in server.gtcrn("doctor", "--virtual-mic", "remove").stderr

    on_each(sound_servers, mend)


@at_every_desk
def test_a_server_that_hangs_is_waited_for(desk: Desk):
    live = desk.live("--virtual-mic")
    try:
        live.wait_until_running()
        desk.server.signal(signal.SIGSTOP)
        live.wait_for_note("the sound server does not answer: waiting for a device")
        desk.server.signal(signal.SIGCONT)
        assert live.wait_until_running()["reopened"] == 1
        desk.server.signal(signal.SIGSTOP)
        live.end()  # in good order, not by a signal
    finally:
        desk.server.signal(signal.SIGCONT)


@at_every_desk
def test_a_server_that_dies_is_waited_for(desk: Desk):
    recording = desk.folder / "out.wav"
    live = desk.live(*BETWEEN, "--record-output", str(recording))
    live.wait_until_running()
    desk.server.kill()
    live.wait_for(lambda event: event.get("state") == "waiting")
    desk.server.start()
    live.wait_until_running()
    assert desk.server.played_on() == {SPEAKER}
    status = live.end(signal.SIGINT)
    assert status["reopened"] == 1
    assert soundfile.info(recording).frames > 0
