"""Where the sound of `gtcrn live` goes, on real servers: where the user said, and nowhere else."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.live_process import Listener, LiveProcess, speak
from support.sound_server import BUILT_IN, MICROPHONE, RATE, SPEAKER, SoundServer, on_each

pytestmark = pytest.mark.soundserver

BETWEEN = ("--input", f"{MICROPHONE}.monitor", "--output", SPEAKER, "--strength", "0")


@pytest.fixture
def live(sound_server: SoundServer) -> Iterator[Callable[..., LiveProcess]]:
    """Starts `gtcrn live`."""
    processes = []

    def start(*arguments: str) -> LiveProcess:
        processes.append(LiveProcess(sound_server, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


@pytest.fixture
def loudspeaker(sound_server: SoundServer, tmp_path: Path) -> Iterator[Listener]:
    """Hears what comes out of the loudspeaker that nobody asked for."""
    listener = Listener(sound_server, BUILT_IN, tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def voice(sound_server: SoundServer, tmp_path: Path) -> Iterator[None]:
    """Somebody speaks."""
    speaker = speak(sound_server, tmp_path)
    yield
    speaker.kill()
    speaker.wait()


def loudest(samples: np.ndarray) -> float:
    return float(np.abs(samples).max(initial=0))


def test_a_headset_that_is_unplugged_is_waited_for_in_silence(
    sound_server: SoundServer, live, loudspeaker: Listener, voice: None, tmp_path: Path
):
    headset = Listener(sound_server, SPEAKER, tmp_path)
    process = live(*BETWEEN)
    process.wait_until_running()
    headset.wait_for_sound()
    sound_server.unplug(SPEAKER)
    assert "is gone" in process.wait_for_note("waiting for a device")
    time.sleep(1.0)  # the server has had time to move what it moves
    assert sound_server.played_on() <= {MICROPHONE}
    headset.close()
    sound_server.plug(SPEAKER)
    headset = Listener(sound_server, SPEAKER, tmp_path)
    status = process.wait_until_running()
    assert status["reopened"] == 1
    assert sound_server.played_on() == {MICROPHONE, SPEAKER}
    headset.wait_for_sound()
    headset.close()
    assert len(loudspeaker.heard()) > RATE
    assert loudest(loudspeaker.heard()) == 0
    process.end()


def test_a_microphone_that_is_unplugged_is_not_replaced(sound_server: SoundServer, live):
    process = live(*BETWEEN)
    process.wait_until_running()
    sound_server.unplug(MICROPHONE)
    process.wait_for_note("waiting for a device")
    time.sleep(0.5)
    assert sound_server.recorded_from() == set()
    sound_server.plug(MICROPHONE)
    process.wait_until_running()
    assert sound_server.recorded_from() == {f"{MICROPHONE}.monitor"}
    process.end()


def test_a_stream_is_not_moved_by_others(
    sound_server: SoundServer, live, loudspeaker: Listener, voice: None, tmp_path: Path
):
    headset = Listener(sound_server, SPEAKER, tmp_path)
    process = live(*BETWEEN)
    process.wait_until_running()
    headset.wait_for_sound()
    sinks = {sink["index"]: sink["name"] for sink in sound_server.listing("sinks")}
    (ours,) = [s for s in sound_server.listing("sink-inputs") if sinks[s["sink"]] == SPEAKER]
    sound_server.run("pactl", "move-sink-input", str(ours["index"]), BUILT_IN, check=False)
    time.sleep(1.0)
    headset.close()
    assert len(loudspeaker.heard()) > RATE
    assert loudest(loudspeaker.heard()) == 0
    process.end()


def test_another_default_is_followed_only_on_request(sound_server: SoundServer, live):
    stays, follows = live(), live("--follow-default")
    for process in (stays, follows):
        process.wait_until_running()
    sound_server.set_default("sink", SPEAKER)
    follows.wait_for_note("going on with")
    follows.wait_until_running()
    assert sound_server.played_on() == {BUILT_IN, SPEAKER}
    follows.end()
    assert sound_server.played_on() == {BUILT_IN}
    assert stays.end()["reopened"] == 0


def names(server: SoundServer, kind: str) -> list[str]:
    return [entry["name"] for entry in server.listing(kind) if "gtcrn" in entry["name"]]


def test_the_virtual_microphone_is_one_and_comes_and_goes(sound_server: SoundServer, live):
    process = live("--virtual-mic")
    process.wait_until_running()
    (microphone,) = [s for s in sound_server.listing("sources") if s["name"] == "gtcrn_microphone"]
    assert microphone["sample_specification"] == "float32le 1ch 48000Hz"
    assert microphone["properties"]["device.class"] == "sound"  # neither "monitor" nor "filter"
    assert microphone["properties"]["gtcrn.process"] == str(process.process.pid)
    assert sound_server.played_on() == {"gtcrn"}

    second = sound_server.gtcrn("live", "--virtual-mic")  # fails, and leaves the first alone
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        "gtcrn: the virtual microphone is taken by another 'gtcrn live' "
        f"(process {process.process.pid}): end that first"
    )
    assert sound_server.played_on() == {"gtcrn"}
    assert process.end()["reopened"] == 0
    assert names(sound_server, "sinks") + names(sound_server, "sources") == []


def test_eight_channels_without_names_are_opened(sound_server: SoundServer, live):
    eight = "gtcrn_eight"  # the server forgets what is called like that before the next test
    sound_server.plug(eight, ",".join(f"aux{n}" for n in range(8)))
    process = live(
        *("--input", f"{eight}.monitor", "--input-channels", "8", "--output", SPEAKER),
        *("--output-channels", "1"),
    )
    process.wait_until_running()
    assert sound_server.recorded_from() == {f"{eight}.monitor"}
    process.end()


def test_our_own_microphone_is_never_the_input(sound_server: SoundServer, live):
    first = live("--virtual-mic")
    first.wait_until_running()
    first.kill()  # leaves its devices behind
    sound_server.set_default("source", "gtcrn_microphone")
    again = live("--virtual-mic")
    again.wait_until_running()
    recorded = sound_server.recorded_from() - {"gtcrn.monitor"}  # by the virtual microphone itself
    assert recorded == {f"{MICROPHONE}.monitor"}
    again.end()
    assert names(sound_server, "sinks") + names(sound_server, "sources") == []


def test_it_is_refused_as_input_by_name(sound_server: SoundServer):
    assert sound_server.gtcrn("doctor", "--virtual-mic", "add").returncode == 0
    refused = sound_server.gtcrn("live", "--input", "gtcrn_microphone", "--output", SPEAKER)
    assert refused.returncode == 1
    assert "it would hear itself" in refused.stderr.splitlines()[-1]
    assert sound_server.gtcrn("doctor", "--virtual-mic", "remove").returncode == 0


def test_a_closed_terminal_leaves_nothing_behind(sound_server: SoundServer, live, tmp_path: Path):
    process = live("--virtual-mic", "--record-output", str(tmp_path / "out.wav"))
    process.wait_until_running()
    process.process.send_signal(signal.SIGHUP)
    process.end(signal.SIGHUP)  # the shell says it, too
    assert names(sound_server, "sinks") + names(sound_server, "sources") == []
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert soundfile.info(tmp_path / "out.wav").frames > 0


@pytest.mark.parametrize("half", ["sink_name=gtcrn ", "source_name=gtcrn_microphone "])
def test_half_a_virtual_microphone_is_made_whole(half: str, sound_server: SoundServer):
    def add() -> str:
        done = sound_server.gtcrn("doctor", "--virtual-mic", "add")
        assert done.returncode == 0
        return done.stderr

    assert 'choose "gtcrn microphone"' in add()
    for line in sound_server.pactl("list", "short", "modules").splitlines():
        if half in f"{line} ":
            sound_server.pactl("unload-module", line.split()[0])
    add()
    assert names(sound_server, "sinks") == ["gtcrn"]
    assert sorted(names(sound_server, "sources")) == ["gtcrn.monitor", "gtcrn_microphone"]
    assert "it is there already" in add()
    # Without its sink the source would have the voice as it is.
    assert sound_server.recorded_from() <= {"gtcrn.monitor"}
    assert "removed" in sound_server.gtcrn("doctor", "--virtual-mic", "remove").stderr
    assert "there was none" in sound_server.gtcrn("doctor", "--virtual-mic", "remove").stderr


def test_a_server_that_hangs_is_waited_for(sound_servers: list[SoundServer]):
    def hang(server: SoundServer) -> None:
        process = LiveProcess(server, "--virtual-mic")
        try:
            process.wait_until_running()
            server.signal(signal.SIGSTOP)
            process.wait_for_note("the sound server does not answer: waiting for a device")
            server.signal(signal.SIGCONT)
            assert process.wait_until_running()["reopened"] == 1
            server.signal(signal.SIGSTOP)
            process.end()  # in good order, not by a signal
        finally:
            server.signal(signal.SIGCONT)
            process.kill()

    on_each(sound_servers, hang)


def test_a_server_that_dies_is_waited_for(sound_server: SoundServer, live, tmp_path: Path):
    process = live(*BETWEEN, "--record-output", str(tmp_path / "out.wav"))
    process.wait_until_running()
    sound_server.kill()
    process.wait_for(lambda event: event.get("state") == "waiting")
    sound_server.start()
    process.wait_until_running()
    assert sound_server.played_on() == {SPEAKER}
    status = process.end(signal.SIGINT)
    assert status["reopened"] == 1
    assert soundfile.info(tmp_path / "out.wav").frames > 0
