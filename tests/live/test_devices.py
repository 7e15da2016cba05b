"""Devices are found by what users call them, open at rates they share, and do not howl unwarned."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.sound_server import BUILT_IN, MICROPHONE, SPEAKER, SoundServer

from gtcrn_cli.errors import DeviceError, UserError
from gtcrn_cli.live import devices
from gtcrn_cli.live.devices import Device, agree_on_rates, find, howl_risk, portaudio

LISTED = [
    Device(0, "MacBook Pro Microphone", "Core Audio", 1, 0, 48_000, default_input=True),
    Device(1, "MacBook Pro Speakers", "Core Audio", 0, 2, 48_000, default_output=True),
    Device(2, "USB Headset", "MME", 1, 2, 44_100),
    Device(3, "USB Headset", "Windows WASAPI", 1, 2, 48_000),
    Device(4, "BlackHole 2ch", "Core Audio", 2, 2, 48_000, virtual=True),
    Device(5, "Studio", "PulseAudio", 2, 0, 48_000, pulse="alsa_input.usb-1.analog"),
    Device(6, "Studio", "PulseAudio", 2, 0, 48_000, pulse="alsa_input.usb-2.analog"),
    Device(
        7,
        "Podcaster",
        "PipeWire",
        0,
        2,
        48_000,
        pulse="alsa_output.rode.analog",
        port="analog-output-headphones",
        port_description="Headphones",
    ),
    Device(
        8,
        "Monitor of Podcaster",
        "PipeWire",
        2,
        0,
        48_000,
        virtual=False,
        pulse="alsa_output.rode.analog.monitor",
        monitor_of="alsa_output.rode.analog",
    ),
    Device(9, "Podcaster", "PipeWire", 1, 0, 48_000, pulse="alsa_input.rode.mono"),
    Device(10, "gtcrn microphone", "PipeWire", 1, 0, 48_000, pulse="gtcrn_microphone", ours=True),
]


@pytest.mark.parametrize(
    ("wanted", "side", "index"),
    [
        (None, "input", 0),
        (None, "output", 1),
        ("4", "input", 4),
        ("blackhole", "output", 4),
        ("macbook", "input", 0),  # the speakers have no input
        ("usb headset", "output", 3),  # twice the same device: by the better host API
        ("usb-2", "input", 6),
        ("rode", "input", 9),  # not what the output of that name plays
        ("podcaster", "input", 9),
        ("monitor of pod", "input", 8),  # unless it is asked for
        ("headphones", "output", 7),  # what is plugged in
    ],
)
def test_a_device_is_found(wanted: str | None, side: devices.Side, index: int):
    assert find(LISTED, wanted, side).index == index


@pytest.mark.parametrize(
    ("wanted", "side", "message"),
    [
        ("gramophone", "input", "no input device 'gramophone': see 'gtcrn devices'"),
        ("1", "input", "no input device '1'"),
        ("gtcrn", "input", "it would hear itself"),
        ("10", "input", "it would hear itself"),
        ("studio", "input", "several input devices match 'studio': 5 alsa_input.usb-1.analog, 6"),
    ],
)
def test_no_device_or_several_are_told(wanted: str, side: devices.Side, message: str):
    with pytest.raises(DeviceError, match=message):
        find(LISTED, wanted, side)


def test_a_system_without_devices_is_told():
    with pytest.raises(DeviceError, match="no default input device"):
        find([], None, "input")


@dataclass
class FakeEnd:
    device: Device
    rates: list[int]
    asked: list[int] = field(default_factory=list)

    def opens(self, sample_rate: int) -> bool:
        self.asked.append(sample_rate)
        return sample_rate in self.rates


@pytest.mark.parametrize(
    ("input_rates", "output_rates", "agreed"),
    [
        ([48_000, 44_100], [48_000, 44_100], (48_000, 48_000)),  # the microphone's own
        ([48_000, 44_100], [44_100], (44_100, 44_100)),  # the speaker's own
        ([48_000, 16_000], [16_000], (16_000, 16_000)),  # a common one
        ([48_000], [44_100], (48_000, 44_100)),  # none: a converter in between
    ],
)
def test_rates_are_agreed_on(input_rates, output_rates, agreed):
    source, sink = FakeEnd(LISTED[3], input_rates), FakeEnd(LISTED[2], output_rates)
    assert agree_on_rates(source, sink) == agreed


def test_a_rate_that_cannot_be_had_is_told():
    source, sink = FakeEnd(LISTED[3], [48_000]), FakeEnd(LISTED[2], [44_100])
    with pytest.raises(DeviceError, match="USB Headset does not open at 44100 Hz"):
        agree_on_rates(source, sink, 44_100)
    with pytest.raises(DeviceError, match="does another program use it"):
        agree_on_rates(source, FakeEnd(LISTED[2], []))


def pulse_device(name: str, port: str = "", virtual: bool = False) -> Device:
    return Device(9, name, "PulseAudio", 1, 1, 48_000, virtual=virtual, pulse=name, port=port)


@pytest.mark.parametrize(
    ("source", "sink", "warns"),
    [
        (LISTED[0], LISTED[1], True),
        (LISTED[0], LISTED[4], False),  # into a virtual cable
        (LISTED[3], LISTED[3], False),  # a headset
        (Device(0, "Microphone (Realtek(R) Audio)", "MME", 2, 0, 48_000),
         Device(1, "Speakers (Realtek(R) Audio)", "MME", 0, 2, 48_000), True),
        (Device(0, "Microphone (USB Camera)", "MME", 2, 0, 48_000),
         Device(1, "Speakers (Realtek(R) Audio)", "MME", 0, 2, 48_000), False),
        (pulse_device("alsa_input.pci-0.analog-stereo", "analog-input-internal-mic"),
         pulse_device("alsa_output.pci-0.analog-stereo", "analog-output-speaker"), True),
        (pulse_device("alsa_input.pci-0.analog-stereo", "analog-input-internal-mic"),
         pulse_device("alsa_output.pci-0.analog-stereo", "analog-output-headphones"), False),
        (replace(pulse_device("cable.monitor"), monitor_of="cable"),
         pulse_device("cable", virtual=True), True),
    ],
)  # fmt: skip
def test_a_howl_is_foreseen(source: Device, sink: Device, warns: bool):
    assert (howl_risk(source, sink) is not None) == warns


@pytest.mark.parametrize(
    ("release", "hint"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "sudo apt install libportaudio2"),
        ("ID=fedora\n", "sudo dnf install portaudio"),
        ("ID=arch\n", "sudo pacman -S portaudio"),
        ("ID=haiku\n", "package manager"),
    ],
)
def test_without_portaudio_it_is_said_how_to_get_it(
    release: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = builtins.__import__

    def without(name: str, *rest):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "os-release").write_text(release)
    monkeypatch.setattr(devices, "OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    with pytest.raises(UserError, match=hint):
        portaudio()


def test_a_portaudio_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    class PortAudioError(Exception):
        pass

    def broken(name: str, *rest):
        if name == "sounddevice":
            raise PortAudioError("Error initializing PortAudio: Unanticipated\nhost error")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    with pytest.raises(UserError, match=r"^PortAudio cannot start .*asoundrc") as raised:
        portaudio()
    assert "\n" not in str(raised.value)


def test_devices_lists_what_the_sound_server_has(sound_server: SoundServer):
    listed = json.loads(sound_server.gtcrn("devices", "--json", check=True).stdout)
    by_name = {device["pulse"]: device for device in listed}
    assert by_name[f"{MICROPHONE}.monitor"]["default_input"]
    assert by_name[BUILT_IN]["default_output"]
    assert by_name[SPEAKER]["outputs"] == 1
    assert by_name[SPEAKER]["virtual"]
    assert by_name[SPEAKER]["host"] == sound_server.name
    assert by_name[f"{MICROPHONE}.monitor"]["sample_rate"] == 48_000
    assert not by_name[f"{MICROPHONE}.monitor"]["virtual"]
    assert [device["index"] for device in listed] == list(range(len(listed)))
    # The ways that ALSA has to the server are not offered: what comes there may be moved.
    assert not {"default", "pulse"} & {d["name"] for d in listed if d["host"] == "ALSA"}
    table = sound_server.gtcrn("devices", check=True).stdout
    for words in (
        "default input",
        "virtual cable",
        f"{MICROPHONE}.monitor",
        "what an output plays",
    ):
        assert words in table


@pytest.mark.soundserver
def test_a_sound_server_needs_no_portaudio(sound_server: SoundServer, tmp_path: Path):
    """ALSA's configuration is broken, so PortAudio cannot start."""
    broken = tmp_path / "asound.conf"
    broken.write_text("pcm.!default { type")
    environment = sound_server.env | {"ALSA_CONFIG_PATH": str(broken)}
    done = sound_server.gtcrn("devices", "--json", env=environment)
    assert done.returncode == 0
    assert SPEAKER in done.stdout
