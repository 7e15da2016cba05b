"""Which sound devices there are, and what they can do.

On Linux with a sound server, PulseAudio or PipeWire, those are the server's; everywhere else, and
for ALSA and JACK beside a server, those that PortAudio lists.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..enhancement.stft import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from ..errors import DeviceError, UserError
from . import pulse

Side = Literal["input", "output"]

USUAL_RATES_HZ = (48_000, 44_100, 32_000, 16_000, 96_000, 192_000, 24_000, 22_050, 8_000)
PREFERRED_HOSTS = (  # of devices named alike
    "Windows WASAPI",
    "Core Audio",
    "PipeWire",
    "PulseAudio",
    "JACK Audio Connection Kit",
    "ALSA",
)
GATEWAYS = ("pulse", "pipewire", "default")  # what ALSA calls the way to the sound server
CABLE_NAMES = ("blackhole", "cable input", "cable output", "vb-audio", "loopback", "soundflower")
WORN = ("headphone", "headset", "airpods", "earphone", "buds", "hands-free", "hands_free")
OS_RELEASE = Path("/etc/os-release")
KIND_OF_SIDE: dict[Side, pulse.Kind] = {"input": "source", "output": "sink"}


@dataclass(frozen=True)
class Device:
    """A device as `gtcrn devices` lists it.

    Attributes
    ----------
    index
        By which the user may choose it.
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
        The sound server's name of it; None for what PortAudio opens.
    port, port_description
        What is plugged in, where the sound server tells: "analog-output-headphones", "Headphones".
    monitor_of
        The server's name of the output whose sound this input is; empty for others.
    ours
        One end of our own virtual microphone.
    identity
        What it is known by after it was unplugged and has come back.
    portaudio
        PortAudio's number of it.
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
    port_description: str = ""
    monitor_of: str = ""
    ours: bool = False
    identity: str = ""
    portaudio: int | None = None

    def channels(self, side: Side) -> int:
        """How many it has on that side."""
        return self.inputs if side == "input" else self.outputs

    def is_default(self, side: Side) -> bool:
        """Whether the system takes it if nobody says otherwise."""
        return self.default_input if side == "input" else self.default_output

    @property
    def worn(self) -> bool:
        """Whether only its user hears it: headphones."""
        names = f"{self.name} {self.port} {self.port_description}".lower()
        return any(word in names for word in WORN)


def portaudio() -> Any:
    """The module `sounddevice`.

    Raises
    ------
    UserError
        The PortAudio library is not there, or cannot start; says what to do about it.
    """
    try:
        import sounddevice
    except (OSError, ImportError) as error:
        raise UserError(
            f"live sound needs the PortAudio library ({error}): {install_hint()}"
        ) from None
    except Exception as error:  # PortAudioError, of the module that could not be imported
        raise UserError(_cannot_start(error)) from None
    return sounddevice


def _cannot_start(error: Exception) -> str:
    reason = " ".join(str(error).split())
    hint = ": is the ALSA configuration (~/.asoundrc, /etc/asound.conf) in order?"
    return f"PortAudio cannot start ({reason}){hint if platform.system() == 'Linux' else ''}"


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
    """All devices: those of the sound server, if there is one, and those that PortAudio lists.

    Raises
    ------
    UserError
        There is neither a sound server nor PortAudio.
    """
    listed = server_devices()
    try:
        return listed + portaudio_devices(listed)
    except UserError:
        if listed:
            return listed
        raise


def server_devices(seen: pulse.Snapshot | None = None) -> list[Device]:
    """Those of the sound server; none without one.

    Parameters
    ----------
    seen
        What it has, if that was asked already.
    """
    seen = seen or (pulse.snapshot() if platform.system() == "Linux" else None)
    if seen is None:
        return []
    host = "PipeWire" if seen.on_pipewire else "PulseAudio"
    defaults = [seen.default(kind) for kind in ("source", "sink")]
    return [
        Device(
            index,
            device.description,
            host,
            device.channels if device.kind == "source" else 0,
            device.channels if device.kind == "sink" else 0,
            device.sample_rate,
            device is defaults[0],
            device is defaults[1],
            device.virtual,
            device.name,
            device.port,
            device.port_description,
            device.monitor_of,
            device.ours,
            device.identity,
        )
        for index, device in enumerate(seen.devices)
    ]


def portaudio_devices(beside: list[Device]) -> list[Device]:
    """What PortAudio lists, numbered from where the devices `beside` end.

    The ways that ALSA has to a sound server are left out: the server moves what comes that way to
    another device whenever it likes. Without a server ALSA's default is a device as any other.

    Raises
    ------
    UserError
        The library is not there or cannot start.
    """
    sd = portaudio()
    hosts = [host["name"] for host in sd.query_hostapis()]
    default_input, default_output = (None, None) if beside else sd.default.device
    hidden = GATEWAYS if beside else GATEWAYS[:2] if pulse.available() else ()
    listed: list[Device] = []
    for number, facts in enumerate(sd.query_devices()):
        name, host = facts["name"], hosts[facts["hostapi"]]
        if host == "ALSA" and name in hidden:
            continue
        listed.append(
            Device(
                len(beside) + len(listed),
                name,
                host,
                facts["max_input_channels"],
                facts["max_output_channels"],
                int(facts["default_samplerate"]),
                number == default_input,
                number == default_output,
                any(cable in name.lower() for cable in CABLE_NAMES),
                identity=f"{host} {name}",
                portaudio=number,
            )
        )
    return listed


def find(listed: list[Device], wanted: str | None, side: Side) -> Device:
    """The device with that index, or that (part of a) name; the default if nothing is wanted.

    A real input goes before what an output of that name plays. Our own virtual microphone is never
    an input.

    Raises
    ------
    DeviceError
        There is none, or several.
    """
    able = [device for device in listed if device.channels(side)]
    if wanted is None:
        return _default(able, side)
    if wanted.isdecimal():
        found = [device for device in able if device.index == int(wanted)]
    else:
        exact = [d for d in able if wanted in (d.name, d.pulse)]
        found = exact or [d for d in able if wanted.lower() in _called(d)]
        if side == "input":
            found = [d for d in found if not d.monitor_of] or found
            found = [d for d in found if not d.ours] or found
    if not found:
        raise DeviceError(f"no {side} device {wanted!r}: see 'gtcrn devices'")
    if len({(device.name, device.pulse) for device in found}) > 1:
        names = ", ".join(f"{device.index} {device.pulse or device.name}" for device in found)
        raise DeviceError(f"several {side} devices match {wanted!r}: {names}")
    device = min(found, key=_host_rank)
    if device.ours and side == "input":
        raise DeviceError(
            f"{device.name} carries what 'gtcrn live' makes: it would hear itself; "
            "choose the real microphone (see 'gtcrn devices')"
        )
    return device


def _default(able: list[Device], side: Side) -> Device:
    for device in able:
        if device.is_default(side):
            return device
    if side == "input" and any(device.ours for device in able):
        raise DeviceError(
            "the default input is gtcrn's own virtual microphone: choose the real one with "
            "--input (see 'gtcrn devices')"
        )
    raise DeviceError(f"this system has no default {side} device: see 'gtcrn devices'")


def _called(device: Device) -> str:
    """All that it goes by, in small letters."""
    return "\n".join((device.name, device.pulse or "", device.port_description)).lower()


def _host_rank(device: Device) -> int:
    hosts = PREFERRED_HOSTS
    return hosts.index(device.host) if device.host in hosts else len(hosts)


def howl_risk(source: Device, sink: Device) -> str | None:
    """Why the speaker might be heard by the microphone; None if nothing hints at it."""
    if source.monitor_of and source.monitor_of == sink.pulse:
        return f"{source.name} records what {sink.name} plays: it will howl"
    if source.virtual or source.monitor_of or sink.virtual or sink.worn:
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
        if self.device.pulse is not None:  # the server converts
            return True
        sd = portaudio()
        check = sd.check_input_settings if self.side == "input" else sd.check_output_settings
        try:
            check(self.device.portaudio, self.channels, "float32", samplerate=sample_rate)
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


def refresh() -> None:
    """Have PortAudio look again which devices there are: it does so only when it starts.

    Raises
    ------
    DeviceError
        It cannot start again.
    """
    sd = portaudio()
    sd._terminate()
    try:
        sd._initialize()
    except sd.PortAudioError as error:
        raise DeviceError(_cannot_start(error)) from None
