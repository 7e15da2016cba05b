"""PulseAudio and PipeWire through `pactl`: devices that PortAudio does not list, virtual cables.

On Linux PortAudio sees one device, "pulse" or "default", behind which the sound server has many.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DeviceError, UserError

Kind = Literal["source", "sink"]

PATIENCE_S = 3.0  # a server that does not answer by then is treated as absent

VIRTUAL_SINK = "gtcrn"
VIRTUAL_SOURCE = "gtcrn_microphone"
VIRTUAL_DESCRIPTION = "gtcrn microphone"


@dataclass(frozen=True)
class PulseDevice:
    """A source or sink of the sound server.

    Attributes
    ----------
    name, description
        For the server and for people.
    sample_rate, channels
        Its own.
    port
        What is plugged in: ``analog-output-headphones``; empty for virtual devices.
    virtual
        There is no hardware behind it: a virtual cable, or one end of it.
    default
        The server's default.
    """

    name: str
    description: str
    kind: Kind
    sample_rate: int
    channels: int
    port: str
    virtual: bool
    default: bool


def devices(kind: Kind) -> list[PulseDevice]:
    """What the server has; empty without a server or `pactl`."""
    listing = _pactl("--format=json", "list", f"{kind}s")
    default = (_pactl(f"get-default-{kind}") or "").strip()
    try:
        entries = json.loads(listing or "[]")
    except ValueError:  # a pactl from before 2022, which knows no JSON
        return []
    return [_device(entry, kind, default) for entry in entries]


def add_virtual_microphone() -> list[str]:
    """Make a cable whose one end we play into and whose other end is a microphone to choose.

    The second module is there because many programs do not offer a sink's monitor as a microphone.

    Returns
    -------
    The server's ids of the modules made, for `remove_modules`; empty if it is there already.

    Raises
    ------
    UserError
        There is no `pactl`, or no server that answers it.
    """
    if shutil.which("pactl") is None:
        raise UserError(
            "a virtual microphone needs pactl: sudo apt install pulseaudio-utils "
            "(other systems: see 'gtcrn doctor')"
        )
    if any(sink.name == VIRTUAL_SINK for sink in devices("sink")):
        return []
    described = f"device.description='{VIRTUAL_DESCRIPTION}'"
    modules = [
        ("module-null-sink", f"sink_name={VIRTUAL_SINK}", f'sink_properties="{described}"'),
        (
            "module-remap-source",
            f"master={VIRTUAL_SINK}.monitor",
            f"source_name={VIRTUAL_SOURCE}",
            f'source_properties="{described}"',
        ),
    ]
    made: list[str] = []
    for module in modules:
        number = _pactl("load-module", *module)
        if number is None:
            remove_modules(made)
            raise DeviceError(
                "the sound server made no virtual microphone: does 'pactl info' work?"
            )
        made.append(number.strip())
    return made


def virtual_microphone_modules() -> list[str]:
    """The ids of the modules that `add_virtual_microphone` made, in this or another process."""
    ours = (f"sink_name={VIRTUAL_SINK} ", f"source_name={VIRTUAL_SOURCE} ")
    lines = (_pactl("list", "short", "modules") or "").splitlines()
    return [line.split()[0] for line in lines if any(mark in f"{line} " for mark in ours)]


def remove_modules(modules: list[str]) -> None:
    """Undo `add_virtual_microphone`."""
    for number in reversed(modules):
        _pactl("unload-module", number)


def _pactl(*arguments: str) -> str | None:
    """What pactl says; None if it is not there or fails."""
    if shutil.which("pactl") is None:
        return None
    try:
        done = subprocess.run(
            ["pactl", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _device(entry: dict[str, Any], kind: Kind, default: str) -> PulseDevice:
    _, channels, rate = entry["sample_specification"].split()  # "s16le 2ch 48000Hz"
    return PulseDevice(
        name=entry["name"],
        description=entry.get("description") or entry["name"],
        kind=kind,
        sample_rate=int(rate.removesuffix("Hz")),
        channels=int(channels.removesuffix("ch")),
        port=entry.get("active_port") or "",
        virtual="HARDWARE" not in entry.get("flags", []),
        default=entry["name"] == default,
    )
