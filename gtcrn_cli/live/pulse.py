"""What the Linux sound server has, PulseAudio or PipeWire: devices, defaults, our own microphone.

`pulsectl` asks it. Each question has a thread and a connection of its own and a time limit: a
server that hangs must not take us with it. All questions are in this one file, hence its length.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from ..errors import DeviceError

Kind = Literal["source", "sink"]
T = TypeVar("T")

PATIENCE_S = 3.0  # a server that does not answer by then is treated as absent
RESTING_S = 0.03  # events come in groups: so long after the first they are looked at together
NO_ANSWER = "the sound server does not answer"
LISTENING_S = 0.25  # so soon a watcher that is to end does
AGAIN_S = 1.0  # how often a lost connection is tried again
ASKING = "gtcrn"  # how we introduce ourselves

VIRTUAL_SINK = "gtcrn"
VIRTUAL_SOURCE = "gtcrn_microphone"
VIRTUAL_DESCRIPTION = "gtcrn microphone"
OWNER = "gtcrn virtual microphone"  # the name of the connection of whoever plays into it
PROCESS, KEPT = "gtcrn.process", "gtcrn.kept"  # properties of it: who made it, and whether it stays
BEFORE: dict[Kind, str] = {"source": "gtcrn.default_source", "sink": "gtcrn.default_sink"}
VISIBLE_S = 2.0  # PipeWire answers before it shows what it has made
RATE = 48_000


@dataclass(frozen=True)
class PulseDevice:
    """A source or sink of the sound server.

    Attributes
    ----------
    name, description
        For the server and for people.
    sample_rate, channels
        Its own.
    port, port_description
        What is plugged in, for the server ("analog-output-headphones") and for people
        ("Headphones"); empty for virtual devices.
    monitor_of
        The sink whose sound this source is; empty for other sources.
    virtual
        There is no hardware behind it: a virtual cable, or one end of it.
    default
        The server's default.
    ours
        One of the two ends of our virtual microphone.
    identity
        What tells it from all others, also after it was unplugged and has come back.
    properties
        As the server has them.
    module
        The server's number of the module that made it.
    """

    name: str
    description: str
    kind: Kind
    sample_rate: int
    channels: int
    port: str = ""
    port_description: str = ""
    monitor_of: str = ""
    virtual: bool = False
    default: bool = False
    ours: bool = False
    identity: str = ""
    properties: dict[str, str] = field(default_factory=dict, hash=False)
    module: int = -1


@dataclass(frozen=True)
class Snapshot:
    """All that a server has at one moment."""

    name: str
    devices: tuple[PulseDevice, ...]

    @property
    def on_pipewire(self) -> bool:
        """Whether the server is PipeWire's."""
        return "PipeWire" in self.name

    def find(self, name: str, kind: Kind) -> PulseDevice | None:
        """The device of that name."""
        return next((d for d in self.devices if (d.name, d.kind) == (name, kind)), None)

    def default(self, kind: Kind) -> PulseDevice | None:
        """The default device; never our own microphone, but what was the default before it.

        Without that it is the only real device there is, or none.
        """
        device = next((d for d in self.devices if d.kind == kind and d.default), None)
        if device is None or not device.ours:
            return device
        before = self.find(device.properties.get(BEFORE[kind], ""), kind)
        if before is not None and not before.ours:
            return before
        real = [d for d in self.devices if d.kind == kind and not d.virtual and not d.monitor_of]
        return real[0] if len(real) == 1 else None


def available() -> bool:
    """Whether this system has what it takes to ask a sound server."""
    return _pulsectl() is not None


@cache
def _pulsectl() -> Any:
    """The module, or None where there is no libpulse."""
    try:
        import pulsectl
    except (ImportError, OSError):
        return None
    return pulsectl


_asking: list[threading.Thread] = []  # those that have not got an answer yet


def ask(question: Callable[[Any], T]) -> T | None:
    """What `question` returns when called with a connection; None without a server.

    Raises
    ------
    DeviceError
        There is a server, but it does not answer.
    """
    pulsectl = _pulsectl()
    _asking[:] = [thread for thread in _asking if thread.is_alive()]
    if pulsectl is None:
        return None
    if _asking and not _answered(_asking[0]):
        raise DeviceError(NO_ANSWER)
    answers: list[T] = []

    def run() -> None:
        with suppress(pulsectl.PulseError, pulsectl.PulseDisconnected):
            connection = pulsectl.Pulse(ASKING, connect=False)
            try:
                connection.connect()
                answers.append(question(connection))
            finally:
                connection.close()

    thread = threading.Thread(target=run, name="asking the sound server", daemon=True)
    thread.start()
    if not _answered(thread):
        _asking.append(thread)
        raise DeviceError(NO_ANSWER)
    return answers[0] if answers else None


def _answered(thread: threading.Thread) -> bool:
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def snapshot() -> Snapshot | None:
    """What the server has; None without a server."""
    return ask(look)


def look(connection: Any) -> Snapshot:
    """The same through a connection there is."""
    server = connection.server_info()
    defaults = {"source": server.default_source_name, "sink": server.default_sink_name}
    sinks = [_device(info, "sink", defaults) for info in connection.sink_list()]
    sources = [_device(info, "source", defaults) for info in connection.source_list()]
    return Snapshot(server.server_name, tuple(sources + sinks))


def _device(info: Any, kind: Kind, defaults: dict[str, str]) -> PulseDevice:
    properties = dict(info.proplist)
    port = info.port_active
    monitor_of = "" if kind == "sink" else info.monitor_of_sink_name or ""
    ours = info.name in (VIRTUAL_SINK, VIRTUAL_SOURCE) or monitor_of == VIRTUAL_SINK
    bluetooth = "bluez" in info.name or properties.get("device.bus") == "bluetooth"
    address = properties.get("api.bluez5.address") or properties.get("device.string", "")
    hardware = 0x4  # PA_SINK_HARDWARE and PA_SOURCE_HARDWARE
    return PulseDevice(
        name=info.name,
        description=info.description or info.name,
        kind=kind,
        sample_rate=info.sample_spec.rate,
        channels=info.sample_spec.channels,
        port=port.name if port else "",
        port_description=(port.description or port.name) if port else "",
        monitor_of=monitor_of,
        virtual=not _flags(info) & hardware and not monitor_of,
        default=info.name == defaults[kind],
        ours=ours,
        # The name of a Bluetooth headset changes with its profile.
        identity=f"bluetooth {address}" if bluetooth and address and not monitor_of else info.name,
        properties=properties,
        module=info.owner_module,
    )


def _flags(info: Any) -> int:
    flags = info.flags
    return flags if isinstance(flags, int) else int(getattr(flags, "_c_val", 0))


def require() -> None:
    """See that there can be a virtual microphone.

    Raises
    ------
    DeviceError
        There is no server that answers, or nothing to ask it with.
    """
    if not available():
        raise DeviceError(
            "a virtual microphone needs the sound server's library: sudo apt install libpulse0 "
            "(other systems: see 'gtcrn doctor')"
        )
    if snapshot() is None:
        raise DeviceError("a virtual microphone needs a sound server: PulseAudio or PipeWire")


def add_virtual_microphone(kept: bool = False) -> bool:
    """Make a cable whose one end we play into and whose other end is a microphone to choose.

    The other end is a source of its own because many programs do not offer a sink's monitor as a
    microphone. What is there already is used; half of it is made whole.

    Parameters
    ----------
    kept
        It is to stay when nobody plays into it any more.

    Returns
    -------
    Whether something had to be made.

    Raises
    ------
    DeviceError
        There is no server that answers, or it refuses.
    """
    require()
    pulsectl = _pulsectl()

    def make(connection: Any) -> bool | str:
        try:
            return _make(connection, kept)
        except (pulsectl.PulseError, DeviceError) as error:
            return str(error)

    made = ask(make)
    if made is None:
        raise DeviceError("the sound server is gone")
    if isinstance(made, str):
        raise DeviceError(f"the sound server makes no virtual microphone: {made}")
    return made


def _make(connection: Any, kept: bool) -> bool:
    before = look(connection)
    sink = before.find(VIRTUAL_SINK, "sink")
    source = before.find(VIRTUAL_SOURCE, "source")
    if source is not None and (sink is None or not _fed_by_us(connection, source)):
        # Without our sink the server may have it record the real microphone.
        connection.module_unload(source.module)
        source = None
    if sink is not None and source is not None:
        return False
    defaults = {kind: before.default(kind) for kind in BEFORE}
    common = {
        "device.description": VIRTUAL_DESCRIPTION,
        PROCESS: str(os.getpid()),
        KEPT: "1" if kept else "",
    } | {BEFORE[kind]: device.name if device else "" for kind, device in defaults.items()}
    shape = f"rate={RATE} channels=1 channel_map=mono"
    if sink is None:
        properties = _written(common | {"device.class": "sound"})
        connection.module_load(
            "module-null-sink",
            f"sink_name={VIRTUAL_SINK} format=float32le {shape} sink_properties={properties}",
        )
    properties = _written(
        common
        | {
            "device.class": "sound",  # not "filter", which some programs leave out
            "device.icon_name": "audio-input-microphone",
            "device.form_factor": "microphone",
        }
    )
    connection.module_load(
        "module-remap-source",
        f"master={VIRTUAL_SINK}.monitor source_name={VIRTUAL_SOURCE} format=float32le {shape} "
        f"master_channel_map=mono remix=no source_properties={properties}",
    )
    end_s = time.monotonic() + VISIBLE_S
    while True:
        after = look(connection)
        if after.find(VIRTUAL_SINK, "sink") and after.find(VIRTUAL_SOURCE, "source"):
            return True
        if time.monotonic() > end_s:
            raise DeviceError("the sound server has made a virtual microphone that is not there")
        time.sleep(0.02)


def _written(properties: dict[str, str]) -> str:
    """As an argument of a module; both servers understand it."""
    written = " ".join(f"{name}='{value}'" for name, value in properties.items() if value)
    return f'"{written}"'


def _fed_by_us(connection: Any, source: PulseDevice) -> bool:
    """Whether our source takes its sound from our sink."""
    outputs = connection.source_output_list()
    feeding = [output for output in outputs if output.owner_module == source.module]
    monitor = f"{VIRTUAL_SINK}.monitor"
    names = {s.index: s.name for s in connection.source_list()}
    if any(names.get(output.source) != monitor for output in feeding):
        return False
    module = next((m for m in connection.module_list() if m.index == source.module), None)
    return module is None or f"master={monitor}" in (module.argument or "")


def remove_virtual_microphone(also_kept: bool = False) -> bool:
    """Undo `add_virtual_microphone`: whether there was something to remove.

    Parameters
    ----------
    also_kept
        Also one that was made to stay.
    """

    def remove(connection: Any) -> bool:
        found = look(connection)
        modules = []
        # The source first: without the sink it would record something else.
        for device in (
            found.find(VIRTUAL_SOURCE, "source"),
            found.find(VIRTUAL_SINK, "sink"),
        ):
            if device is not None and (also_kept or _made_for_the_time(device)):
                modules.append(device.module)
        for module in modules:
            connection.module_unload(module)
        return bool(modules)

    return bool(ask(remove))


def _made_for_the_time(device: PulseDevice) -> bool:
    return PROCESS in device.properties and not device.properties.get(KEPT)


class Watcher:
    """Keeps a connection to the server, and says when something about its devices has changed.

    Parameters
    ----------
    name
        How the connection is called on the server. `OWNER` claims the virtual microphone.
    changed
        Called from the watcher's thread with what the server has now.
    """

    def __init__(self, name: str, changed: Callable[[Snapshot], None]) -> None:
        self._name = name
        self._changed = changed
        self._closing = threading.Event()
        self._connected = threading.Event()
        self.latest: Snapshot | None = None
        self._thread = threading.Thread(target=self._run, name="watching the server", daemon=True)
        self._thread.start()

    def rival(self) -> str | None:
        """The process that claimed the virtual microphone before us; None if nobody did."""
        if not self._connected.wait(PATIENCE_S):
            return None
        clients = ask(_owners) or []
        ours = [index for index, process in clients if process == str(os.getpid())]
        first = min(clients, default=None)
        return first[1] if first and ours and first[0] < min(ours) else None

    def close(self) -> None:
        """Let go of the connection; a server that hangs keeps it until the process ends."""
        self._closing.set()
        self._thread.join(2 * LISTENING_S)

    def _run(self) -> None:
        pulsectl = _pulsectl()
        if pulsectl is None:
            return
        while not self._closing.is_set():
            connection = pulsectl.Pulse(self._name, connect=False)
            try:
                connection.connect()
                self._watch(connection)
            except (pulsectl.PulseError, pulsectl.PulseDisconnected):
                self._connected.clear()
            finally:
                connection.close()
            self._closing.wait(AGAIN_S)

    def _watch(self, connection: Any) -> None:
        pending = [True]
        connection.event_mask_set("sink", "source", "server", "card")
        connection.event_callback_set(lambda event: pending.append(True))
        while not self._closing.is_set():
            if pending:
                pending.clear()
                self.latest = look(connection)
                self._connected.set()
                self._changed(self.latest)
            connection.event_listen(timeout=LISTENING_S if not pending else RESTING_S)


def _owners(connection: Any) -> list[tuple[int, str]]:
    """Who claims the virtual microphone, by the server's number of the connection."""
    return [
        (client.index, client.proplist.get("application.process.id", "?"))
        for client in connection.client_list()
        if client.name == OWNER or client.proplist.get("application.name") == OWNER
    ]
