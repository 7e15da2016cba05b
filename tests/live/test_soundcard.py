"""Which device is opened, again and again, and what silences the output: on devices made up here.

What real servers do is in `tests/e2e/test_live_routing.py`; they have no jacks without hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gtcrn_cli.errors import DeviceError
from gtcrn_cli.live import soundcard
from gtcrn_cli.live.devices import server_devices
from gtcrn_cli.live.pulse import PulseDevice, Snapshot
from gtcrn_cli.live.soundcard import SoundCard, Wanted

MICROPHONE = PulseDevice(
    "alsa_input.usb-mic", "USB Microphone", "source", 48_000, 1, identity="mic", default=True
)
HEADPHONES = PulseDevice(
    "alsa_output.pci.analog",
    "Built-in Audio",
    "sink",
    48_000,
    2,
    port="analog-output-headphones",
    port_description="Headphones",
    identity="built-in",
    default=True,
)
UNPLUGGED = PulseDevice(
    "alsa_output.pci.analog",
    "Built-in Audio",
    "sink",
    48_000,
    2,
    port="analog-output-speaker",
    port_description="Speaker",
    identity="built-in",
    default=True,
)
USB_HEADSET = PulseDevice(
    "alsa_output.usb-headset", "USB Headset", "sink", 48_000, 2, identity="headset"
)
USB_SPEAKER = PulseDevice(
    "alsa_output.usb-speaker", "USB Speaker", "sink", 48_000, 2, identity="speaker"
)
MUSIC = PulseDevice("bluez_sink.11.a2dp", "Buds", "sink", 48_000, 2, identity="bluetooth 11")
CALL = PulseDevice("bluez_sink.11.handsfree", "Buds", "sink", 16_000, 1, identity="bluetooth 11")


class FakeStreams:
    """Stands for the streams of a server."""

    opened: list[FakeStreams] = []  # noqa: RUF012

    def __init__(self, record, play, input, player) -> None:
        self.device = play.device
        self.silenced = False
        self.failure = None
        self.latency_s, self.xruns = [0.0, 0.0], 0
        self.opened.append(self)

    def silence(self) -> None:
        self.silenced = True

    def close(self) -> None:
        pass


class FakeWatcher:
    """Stands for the connection to a server that sees all changes."""

    latest: Snapshot | None = None

    def __init__(self, name: str, changed: Callable[[Snapshot], None]) -> None:
        FakeWatcher.changed = staticmethod(changed)

    def close(self) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the server has."""
    now: list[Snapshot] = []
    monkeypatch.setattr(FakeStreams, "opened", [])
    monkeypatch.setattr(FakeWatcher, "latest", None)
    monkeypatch.setattr(soundcard, "Streams", FakeStreams)
    monkeypatch.setattr(soundcard.pulse, "Watcher", FakeWatcher)
    monkeypatch.setattr(soundcard, "server_devices", lambda: server_devices(now[-1]))
    monkeypatch.setattr(soundcard, "portaudio_devices", lambda beside: [])
    monkeypatch.setattr(soundcard, "refresh", lambda: None)

    def has(*devices: PulseDevice) -> None:
        now.append(Snapshot("PulseAudio (on PipeWire 1.0)", devices))
        FakeWatcher.latest = now[-1]
        if FakeStreams.opened:
            FakeWatcher.changed(now[-1])

    return has


def test_headphones_pulled_out_of_the_jack_are_silence(server):
    server(MICROPHONE, HEADPHONES)
    card = SoundCard(Wanted())
    pair = card.open()
    assert pair.problem() is None
    server(MICROPHONE, UNPLUGGED)
    assert FakeStreams.opened[0].silenced
    assert pair.problem() == "Headphones was unplugged (it would go on with Speaker)"
    with pytest.raises(DeviceError, match="Headphones is not plugged in"):
        card.open()
    server(MICROPHONE, HEADPHONES)
    assert card.open().problem() is None


def test_headphones_plugged_in_are_no_reason_to_stop(server):
    server(MICROPHONE, UNPLUGGED)
    pair = SoundCard(Wanted()).open()
    server(MICROPHONE, HEADPHONES)
    assert pair.problem() is None


def test_who_follows_the_default_follows_its_jack(server):
    server(MICROPHONE, HEADPHONES)
    pair = SoundCard(Wanted(follow_default=True)).open()
    server(MICROPHONE, UNPLUGGED)
    assert pair.problem() is None


def test_headphones_that_were_named_are_silenced_though_the_microphone_follows(server):
    server(MICROPHONE, HEADPHONES)
    pair = SoundCard(Wanted(output="built-in", follow_default=True)).open()
    server(MICROPHONE, UNPLUGGED)
    assert FakeStreams.opened[0].silenced
    assert pair.problem() == "Headphones was unplugged (it would go on with Speaker)"


def test_a_headset_that_is_back_with_fewer_channels_is_waited_for(server):
    server(MICROPHONE, HEADPHONES, MUSIC)
    card = SoundCard(Wanted(output="buds", output_channels=2))
    card.open()
    server(MICROPHONE, HEADPHONES, CALL)
    with pytest.raises(DeviceError, match="has 1 output channels, not 2"):
        card.open()
    server(MICROPHONE, HEADPHONES, MUSIC)
    assert card.open().sink.pulse == MUSIC.name


@pytest.mark.parametrize(("inputs", "carried"), [(1, 1), (2, 2), (4, 1)])
def test_channels_are_mixed_unless_as_many_are_played(inputs: int, carried: int, server):
    server(replace(MICROPHONE, channels=4), HEADPHONES)
    pair = SoundCard(Wanted(input_channels=inputs, output_channels=2)).open()
    assert (pair.input.channels, pair.player.ring.channels) == (inputs, carried)


@pytest.mark.parametrize("name", ["usb", None])
def test_a_device_that_is_gone_is_not_replaced_by_another(name: str | None, server):
    if name is None:
        server(MICROPHONE, HEADPHONES, USB_SPEAKER)
    else:
        server(MICROPHONE, HEADPHONES, USB_HEADSET)
    card = SoundCard(Wanted(output=name))
    first = card.open().sink.pulse
    server(MICROPHONE, USB_SPEAKER)  # of a fitting name, or the default now
    with pytest.raises(DeviceError, match="is not there"):
        card.open()
    assert [streams.device for streams in FakeStreams.opened] == [first]


def test_a_bluetooth_headset_is_known_in_its_other_profile(server):
    server(MICROPHONE, HEADPHONES, MUSIC)
    card = SoundCard(Wanted(output="buds"))
    assert card.open().sink.pulse == MUSIC.name
    server(MICROPHONE, HEADPHONES, CALL)
    assert card.open().sink.pulse == CALL.name


def test_an_endless_circle_is_refused(server):
    monitor = PulseDevice(
        "monitor", "Monitor", "source", 48_000, 2, monitor_of=HEADPHONES.name, default=True
    )
    server(monitor, HEADPHONES)
    with pytest.raises(DeviceError, match="endless circle"):
        SoundCard(Wanted()).open()
    SoundCard(Wanted(), endless=True).open()
