"""Which sound devices there are, and what they can do: through PortAudio.

On Linux PortAudio sees little more than the sound server; what that has is added from `pulse`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..enhancement.stft import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from ..errors import DeviceError, UserError
from . import pulse

Side = Literal["input", "output"]

USUAL_RATES_HZ = (48_000, 44_100, 32_000, 16_000, 96_000, 192_000, 24_000, 22_050, 8_000)
PREFERRED_HOSTS = ("Windows WASAPI", "Core Audio", "PulseAudio", "ALSA")  # of devices named alike
PULSE_GATEWAYS = ("pulse", "pipewire", "default")  # what PortAudio calls the sound server on Linux
CABLE_NAMES = ("blackhole", "cable input", "cable output", "vb-audio", "loopback", "soundflower")
OS_RELEASE = Path("/etc/os-release")


@dataclass(frozen=True)
class Device:
    """A device as `gtcrn devices` lists it.

    Attributes
    ----------
    index
        PortAudio's, or beyond those for devices of the Linux sound server.
    name, host
        For people.
    inputs, outputs
        Channels.
    sample_rate
        Its own, in Hz.
    default_input, default_output
        The system's defaults.
    virtual
        A virtual cable or one end of it: no hardware.
    pulse
        The sound server's name of it.
    port
        What is plugged in, where the sound server tells.
    """

    index: int
    name: str
    host: str
    inputs: int
    outputs: int
    sample_rate: int
    default_input: bool = False
    default_output: bool = False
    virtual: bool = False
    pulse: str | None = None
    port: str = ""

    def channels(self, side: Side) -> int:
        """How many it has on that side."""
        return self.inputs if side == "input" else self.outputs

    def is_default(self, side: Side) -> bool:
        """Whether the system takes it if nobody says otherwise."""
        return self.default_input if side == "input" else self.default_output


def portaudio() -> Any:
    """The module `sounddevice`.

    Raises
    ------
    UserError
        The PortAudio library is not there; says how to install it on this system.
    """
    try:
        import sounddevice
    except (OSError, ImportError) as error:
        raise UserError(
            f"live sound needs the PortAudio library ({error}): {install_hint()}"
        ) from None
    return sounddevice


def install_hint() -> str:
    """How to get PortAudio on this system."""
    system = platform.system()
    if system == "Linux":
        return _linux_install_hint()
    if system == "Darwin":
        return "brew install portaudio"
    return "pip install --force-reinstall sounddevice"  # its wheels for Windows bring the library


def _linux_install_hint() -> str:
    text = OS_RELEASE.read_text() if OS_RELEASE.exists() else ""
    family = " ".join(line for line in text.splitlines() if line.startswith(("ID=", "ID_LIKE=")))
    for distribution, command in (
        ("debian", "sudo apt install libportaudio2"),
        ("fedora", "sudo dnf install portaudio"),
        ("rhel", "sudo dnf install portaudio"),
        ("arch", "sudo pacman -S portaudio"),
        ("suse", "sudo zypper install libportaudio2"),
        ("alpine", "sudo apk add portaudio"),
    ):
        if distribution in family:
            return command
    return "install it with your package manager (libportaudio2 or portaudio)"


def list_devices() -> list[Device]:
    """All that PortAudio lists, and on Linux what the sound server has behind its one device."""
    sd = portaudio()
    hosts = [host["name"] for host in sd.query_hostapis()]
    default_input, default_output = sd.default.device
    listed = []
    for number, facts in enumerate(sd.query_devices()):
        name = facts["name"]
        listed.append(
            Device(
                number,
                name,
                hosts[facts["hostapi"]],
                facts["max_input_channels"],
                facts["max_output_channels"],
                int(facts["default_samplerate"]),
                number == default_input,
                number == default_output,
                any(cable in name.lower() for cable in CABLE_NAMES),
            )
        )
    return _with_sound_server(listed) if any(map(_is_gateway, listed)) else listed


def _is_gateway(device: Device) -> bool:
    return device.host == "ALSA" and device.name in PULSE_GATEWAYS


def _with_sound_server(listed: list[Device]) -> list[Device]:
    sources, sinks = pulse.devices("source"), pulse.devices("sink")
    source = next((s for s in sources if s.default), None)
    if source is not None:
        rate = source.sample_rate  # the gateway itself takes any
        listed = [replace(d, sample_rate=rate) if _is_gateway(d) else d for d in listed]
    for number, device in enumerate(sources + sinks, start=len(listed)):
        is_source = device.kind == "source"
        listed.append(
            Device(
                number,
                device.description,
                "PulseAudio",
                device.channels if is_source else 0,
                0 if is_source else device.channels,
                device.sample_rate,
                default_input=is_source and device.default,
                default_output=device.default and not is_source,
                virtual=device.virtual,
                pulse=device.name,
                port=device.port,
            )
        )
    return listed


def find(listed: list[Device], wanted: str | None, side: Side) -> Device:
    """The device with that index, or that (part of a) name; the default if nothing is wanted.

    Raises
    ------
    DeviceError
        There is none, or several.
    """
    able = [device for device in listed if device.channels(side)]
    if wanted is None:
        for device in able:
            if device.is_default(side):
                return device
        raise DeviceError(f"this system has no default {side} device: see 'gtcrn devices'")
    if wanted.isdecimal():
        found = [device for device in able if device.index == int(wanted)]
    else:
        exact = [d for d in able if wanted in (d.name, d.pulse)]
        text = wanted.lower()
        found = exact or [
            d for d in able if text in d.name.lower() or text in (d.pulse or "").lower()
        ]
    if not found:
        raise DeviceError(f"no {side} device {wanted!r}: see 'gtcrn devices'")
    if len({(device.name, device.pulse) for device in found}) > 1:
        names = ", ".join(f"{device.index} {device.pulse or device.name}" for device in found)
        raise DeviceError(f"several {side} devices match {wanted!r}: {names}")
    return min(found, key=_host_rank)


def behind(listed: list[Device], device: Device, side: Side) -> Device:
    """The device itself; for "default" and the like the one that the sound server means by it."""
    if _is_gateway(device):
        for candidate in listed:
            if candidate.pulse is not None and candidate.is_default(side):
                return candidate
    return device


def _host_rank(device: Device) -> int:
    hosts = PREFERRED_HOSTS
    return hosts.index(device.host) if device.host in hosts else len(hosts)


def howl_risk(source: Device, sink: Device) -> str | None:
    """Why the speaker might be heard by the microphone; None if nothing hints at it."""
    if source.pulse is not None and source.pulse == f"{sink.pulse}.monitor":
        return f"{source.name} records what {sink.name} plays: it will howl"
    if source.virtual or sink.virtual:
        return None
    worn = ("headphone", "headset", "airpods", "earphone", "buds", "hands-free")
    if any(word in f"{sink.name} {sink.port}".lower() for word in worn):
        return None
    speaker = "speaker" in f"{sink.name} {sink.port}".lower()
    if (speaker and _maker(source) == _maker(sink)) or source.name == sink.name:
        return (
            f"{source.name} and {sink.name} look like one machine's microphone and speaker: "
            "use headphones, or it may howl"
        )
    return None


def _maker(device: Device) -> str:
    """What the names of one machine's devices share: "MacBook Pro", "(Realtek Audio)"."""
    if device.pulse is not None:  # alsa_input.pci-0000_00_1f.3.analog-stereo
        return ".".join(device.pulse.split(".")[1:-1])
    if "(" in device.name:
        return device.name[device.name.index("(") :]
    words = ("microphone", "speakers", "speaker", "array", "mic", "internal", "built-in")
    return " ".join(word for word in device.name.lower().split() if word not in words)


@dataclass(frozen=True)
class End:
    """One end of the way that sound takes: a side of a device, and how many channels of it."""

    device: Device
    side: Side
    channels: int

    def opens(self, sample_rate: int) -> bool:
        """Whether the device opens at that rate."""
        if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
            return False
        sd = portaudio()
        check = sd.check_input_settings if self.side == "input" else sd.check_output_settings
        with routed(self.device, self.side):
            try:
                check(
                    portaudio_index(self.device), self.channels, "float32", samplerate=sample_rate
                )
            except sd.PortAudioError:
                return False
        return True


def agree_on_rates(source: End, sink: End, wanted_hz: int | None = None) -> tuple[int, int]:
    """The rates to open input and output at: one that both can do, if there is one.

    Raises
    ------
    DeviceError
        One does not open at the rate wanted, or at any.
    """
    if wanted_hz is not None:
        for end in (source, sink):
            if not end.opens(wanted_hz):
                raise DeviceError(
                    f"{end.device.name} does not open at {wanted_hz} Hz: leave out --rate"
                )
        return wanted_hz, wanted_hz
    for rate in (source.device.sample_rate, sink.device.sample_rate, *USUAL_RATES_HZ):
        if source.opens(rate) and sink.opens(rate):
            return rate, rate
    return _own_rate(source), _own_rate(sink)


def _own_rate(end: End) -> int:
    for rate in (end.device.sample_rate, *USUAL_RATES_HZ):
        if end.opens(rate):
            return rate
    raise DeviceError(f"{end.device.name} does not open: does another program use it?")


def portaudio_index(device: Device) -> int:
    """What PortAudio opens: for a device of the sound server, the way to the server."""
    if device.pulse is None:
        return device.index
    sd = portaudio()
    gateways = {facts["name"]: n for n, facts in enumerate(sd.query_devices())}
    return next(gateways[name] for name in PULSE_GATEWAYS if name in gateways)


@contextmanager
def routed(device: Device, side: Side) -> Iterator[None]:
    """The sound server connects a new stream to the device that these variables name."""
    variable = "PULSE_SOURCE" if side == "input" else "PULSE_SINK"
    before = os.environ.get(variable)
    if device.pulse is not None:
        os.environ[variable] = device.pulse
    try:
        yield
    finally:
        if device.pulse is not None:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before


def refresh() -> None:
    """Have PortAudio look again which devices there are: it does so only when it starts."""
    sd = portaudio()
    sd._terminate()
    sd._initialize()
