"""A pair of devices, open and running, and how it comes about: `SoundCard` finds and opens them.

The input and the output are streams of their own, so that they can be different devices, each
reached through the Linux sound server or through PortAudio. What carries the sound only copies,
into one `Ring` and out of another; what happens in between is the matter of `worker.Worker`.

Where the sound goes is decided here. A device that was named, or was the default at the start,
stays the one: when it goes, there is silence until it is back. Only ``--follow-default`` moves on.
Which device is the right one, and what follows when it goes, belong together, hence the length.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from ..enhancement.stft import STFT
from ..errors import DeviceError
from . import pulse
from .buffers import (
    KEPT_BLOCKS,
    LOW_LATENCY_BLOCKS,
    SERVER_BLOCKS,
    Buffers,
    plan_buffers,
    plan_server_buffers,
)
from .devices import (
    GATEWAYS,
    KIND_OF_SIDE,
    Device,
    End,
    Side,
    agree_on_rates,
    find,
    howl_risk,
    portaudio_devices,
    refresh,
    server_devices,
)
from .portaudio_streams import (
    BLOCK_S,
    JACK,
    LOW_LATENCY_BLOCK_S,
    DefaultWatcher,
    PortAudioStreams,
    jack_period_s,
    lowest_latency_s,
)
from .regulator import MOST_LENGTHENED_S
from .ring import Player, Ring
from .server_streams import StreamPlan, Streams

RING_S = 4.0
MOST_WAITING_S = 0.25  # in either ring, beyond what has to wait there
FADE_S = 0.005
SILENT_S = 5.0  # without sound for so long, a device is gone (a null sink may rest for 2 s)


@dataclass(frozen=True)
class Wanted:
    """Which devices to use, and how. ``None`` leaves the choice to us.

    Attributes
    ----------
    input, output
        Index or part of a name.
    sample_rate
        In Hz, of both.
    block_ms
        How much a device hands over at a time.
    latency_ms
        The delay to aim for, from microphone to speaker.
    input_channels, output_channels
        How many to open. Where they differ, the mean of the input's is played on all outputs.
    virtual_mic
        Play into a virtual microphone, made for the time (Linux).
    follow_default
        Move to another device when the system's default changes.
    low_latency
        As little delay as the devices allow, at the price of gaps on a busy machine.
    """

    input: str | None = None
    output: str | None = None
    sample_rate: int | None = None
    block_ms: float | None = None
    latency_ms: float | None = None
    input_channels: int | None = None
    output_channels: int | None = None
    virtual_mic: bool = False
    follow_default: bool = False
    low_latency: bool = False


class SoundCardPair:
    """An open input and an open output, running, with a ring each.

    Parameters
    ----------
    source, sink
        The devices.
    wanted
        How to use them.

    Attributes
    ----------
    input
        Samples from the microphone; never more than `most_input` should be left waiting.
    player
        Plays what is written to its ring.
    sample_rate, output_rate
        In Hz, of the two rings.
    names
        Of the two devices.
    notes
        What the user should know.
    device_latency_s
        Of the input and the output, as the driver tells: beyond what waits in the rings.
    device_xruns
        Faults that the driver reports.
    """

    def __init__(self, source: Device, sink: Device, wanted: Wanted) -> None:
        self.source, self.sink = source, sink
        self.names = (source.name, sink.name)
        self.notes = [risk] if (risk := howl_risk(source, sink)) else []
        if sink.host == "ALSA" and sink.name in GATEWAYS:
            self.notes.append(
                f"where ALSA's {sink.name!r} leads is up to the system: name a device to be sure"
            )
        ends = (
            _end(source, "input", wanted.input_channels or 1),
            _end(sink, "output", wanted.output_channels or min(2, sink.outputs)),
        )
        self.sample_rate, self.output_rate = agree_on_rates(*ends, wanted.sample_rate)
        self.input = Ring(int(RING_S * self.sample_rate), ends[0].channels)
        # Nobody can say which of three is for which of two: all are mixed, and heard everywhere.
        alike = ends[0].channels == ends[1].channels
        enhanced = Ring(int(RING_S * self.output_rate), ends[0].channels if alike else 1)
        self.player = Player(enhanced, fade=int(FADE_S * self.output_rate))
        self._arrived = threading.Event()
        self._displaced: str | None = None
        self._hop_s = STFT(self.sample_rate).hop / self.sample_rate
        blocks_s = [_block_s(end, self._hop_s, wanted) for end in ends]
        buffers = self._plan(ends[1], max(blocks_s), wanted)
        self._server: Streams | None = None
        self._portaudio: PortAudioStreams | None = None
        self._started_s = self.now()
        try:
            self._open(ends, blocks_s, buffers)
        except DeviceError as error:
            self.close()
            raise DeviceError(f"cannot open {' and '.join(self.names)}: {error}") from None

    def _plan(self, sink: End, block_s: float, wanted: Wanted) -> Buffers:
        """Say how much sound may wait where."""
        latency_s = None if wanted.latency_ms is None else wanted.latency_ms / 1000
        kept = LOW_LATENCY_BLOCKS if wanted.low_latency else KEPT_BLOCKS
        if sink.device.pulse is not None:
            buffers = plan_server_buffers(block_s, self._hop_s, kept, latency_s)
        elif sink.device.host == JACK:  # its callbacks are as regular; what a server has queued
            buffers = plan_server_buffers(block_s, self._hop_s, kept, latency_s)
            kept_s = buffers.device_s  # waits in the ring
            buffers = replace(buffers, device_s=block_s, waiting_s=buffers.waiting_s + kept_s)
        else:
            if wanted.low_latency and latency_s is None:
                latency_s = 0.0
            buffers = plan_buffers(block_s, self._hop_s, lowest_latency_s(sink), latency_s)
        if wanted.latency_ms is not None and buffers.latency_s > wanted.latency_ms / 1000 + 0.001:
            self.notes.append(
                f"a latency of {wanted.latency_ms:.0f} ms cannot be had: "
                f"{1000 * buffers.latency_s:.0f} ms is the least here (less with a smaller --block)"
            )
        most_s = max(MOST_WAITING_S, 4 * block_s)
        if sink.device.pulse is not None:  # if more has come, the output has run dry meanwhile
            most_s = self._hop_s + buffers.waiting_s + buffers.device_s + 2 * block_s
        self.most_input = int(most_s * self.sample_rate)
        self.player.start_at = int(buffers.waiting_s * self.output_rate)
        self.player.spare = int(buffers.spare_s * self.output_rate)
        self.player.most = int((buffers.waiting_s + most_s) * self.output_rate)
        return buffers

    def _open(self, ends: tuple[End, End], blocks_s: list[float], buffers: Buffers) -> None:
        record = play = None
        rates = (self.sample_rate, self.output_rate)
        blocks = [round(block_s * rate) for block_s, rate in zip(blocks_s, rates, strict=True)]
        source, sink = self.source, self.sink
        if source.pulse is not None:
            hop = round(self._hop_s * rates[0])
            record = StreamPlan(
                source.pulse, source.name, rates[0], ends[0].channels, blocks[0], needed=hop
            )
        if sink.pulse is not None:
            kept = round(buffers.device_s * rates[1])
            most = kept + 2 * self.player.start_at + 4 * blocks[1]
            most += round(MOST_LENGTHENED_S * rates[1])
            play = StreamPlan(
                *(sink.pulse, sink.name, rates[1], ends[1].channels, blocks[1]),
                kept=kept,
                most=most,
            )
        if record is None or play is None:
            self._portaudio = PortAudioStreams(self.input, self.player, self._has_arrived)
            if record is None:
                self._portaudio.open_input(ends[0], rates[0], blocks[0], buffers.input_s)
            if play is None:
                self._portaudio.open_output(ends[1], rates[1], blocks[1], buffers.device_s)
        if record is not None or play is not None:
            self._server = Streams(record, play, self.input, self.player)
        self._started_s = self.now()
        if self._portaudio is not None:
            self._portaudio.start()

    @property
    def device_latency_s(self) -> list[float]:
        """Of the input and the output, as the driver tells."""
        parts = [part for part in (self._server, self._portaudio) if part is not None]
        return [sum(part.latency_s[side] for part in parts) for side in (0, 1)]

    @property
    def device_xruns(self) -> int:
        """Faults that the driver reports."""
        parts = [part for part in (self._server, self._portaudio) if part is not None]
        return sum(part.xruns for part in parts)

    def now(self) -> float:
        """Seconds of the clock that `Ring.touched_s` is told in."""
        return time.monotonic()

    def wait(self, timeout_s: float) -> None:
        """Until input has come, or the time is up; feeds the sound server meanwhile."""
        server = self._server
        if server is None:
            self._arrived.wait(timeout_s)
            self._arrived.clear()
        elif server.failure is None:
            server.wait(timeout_s)
        else:
            time.sleep(timeout_s)

    def wake(self) -> None:
        """Hand on what waits for the output; PortAudio fetches it by itself."""
        if self._server is not None:
            self._server.push()

    def _has_arrived(self) -> None:
        self._arrived.set()
        if self._server is not None:
            self._server.wake()

    def silence(self, why: str) -> None:
        """Play nothing any more: the sound would go where it was not asked for."""
        if self._displaced is None:
            self._displaced = why
            if self._server is not None:
                self._server.silence()

    def look(self, seen: pulse.Snapshot) -> None:
        """See what has become of the output: unplugged headphones turn it into a loudspeaker."""
        device = seen.find(self.sink.pulse or "", "sink")
        if device is not None and is_louder(self.sink, device):
            self.silence(
                f"{self.sink.port_description} was unplugged "
                f"(it would go on with {device.port_description})"
            )

    def problem(self) -> str | None:
        """What has become of the devices; None while all is well."""
        if self._displaced is not None:
            return self._displaced
        if self._server is not None and (why := self._server.failure) is not None:
            return why
        now = self.now()
        rings = (self.input, self.player.ring)
        idle_s = [now - max(self._started_s, ring.touched_s) for ring in rings]
        if self._portaudio is None and max(idle_s) > SILENT_S and min(idle_s) > SILENT_S / 2:
            return "the sound server does not answer"
        closed = self._portaudio.closed if self._portaudio is not None else [False, False]
        for side in (0, 1):
            if closed[side] or idle_s[side] > SILENT_S:
                return f"{self.names[side]} is gone"
        return None

    def close(self) -> None:
        """Stop and let go of the devices.

        Raises
        ------
        UserError
            A driver hangs; nothing can be opened any more in this process.
        """
        for part in (self._server, self._portaudio):
            if part is not None:
                part.close()


def is_louder(before: Device, now: pulse.PulseDevice) -> bool:
    """Whether the output `before` was heard by its user alone, or is another, and is not now."""
    if not before.port or now.port == before.port:
        return False
    return not replace(before, port=now.port, port_description=now.port_description, name="").worn


def expected_latency_ms(device: Device, low_latency: bool = False) -> float:
    """The delay from microphone to speaker where both are like this device."""
    wanted = Wanted(low_latency=low_latency)
    hop_s = STFT(device.sample_rate).hop / device.sample_rate
    side: Side = "input" if device.inputs else "output"
    block_s = _block_s(End(device, side, 1), hop_s, wanted)
    if device.pulse is not None or device.host == JACK:
        kept = LOW_LATENCY_BLOCKS if low_latency else KEPT_BLOCKS
        return 1000 * plan_server_buffers(block_s, hop_s, kept).latency_s
    return 1000 * plan_buffers(block_s, hop_s, 0.0, 0.0 if low_latency else None).latency_s


def _block_s(end: End, hop_s: float, wanted: Wanted) -> float:
    device = end.device
    if wanted.block_ms is not None:
        return wanted.block_ms / 1000
    if device.pulse is not None:
        blocks = SERVER_BLOCKS["PipeWire"] if wanted.low_latency else SERVER_BLOCKS[device.host]
        return hop_s / blocks
    if device.host == JACK:
        return jack_period_s(end)
    return LOW_LATENCY_BLOCK_S if wanted.low_latency else BLOCK_S


def _end(device: Device, side: Side, channels: int) -> End:
    if channels > device.channels(side):  # a headset that is back may have fewer than before
        raise DeviceError(
            f"{device.name} has {device.channels(side)} {side} channels, not {channels}"
        )
    return End(device, side, channels)


class SoundCard:
    """Opens the devices that the user wants, again and again when they come and go.

    Parameters
    ----------
    wanted
        Which, and how.
    endless
        Allow an input that records what the output plays.
    """

    def __init__(self, wanted: Wanted, endless: bool = False) -> None:
        output = pulse.VIRTUAL_SINK if wanted.virtual_mic else wanted.output
        self._wanted = replace(wanted, output=output)
        self._endless = endless
        self._chosen: dict[Side, Device] = {}
        self._pair: SoundCardPair | None = None
        self._owner = False
        self._watcher: pulse.Watcher | None = None
        self._defaults: DefaultWatcher | None = None
        self._portaudio_used = self._served = False

    def open(self) -> SoundCardPair:
        """Open both devices.

        Raises
        ------
        DeviceError
            One is not there, or does not open.
        """
        self._pair = None
        if self._wanted.virtual_mic:
            self._claim_virtual_microphone()
        listed = server_devices()
        if not listed and self._served:
            raise DeviceError("the sound server is gone")
        self._served = bool(listed)
        if listed and self._watcher is None:
            self._watcher = pulse.Watcher(pulse.ASKING, self._changed)
        source = self._choose("input", listed)
        sink = self._choose("output", listed)
        if source.monitor_of and source.monitor_of == sink.pulse and not self._endless:
            raise DeviceError(
                f"{source.name} records what {sink.name} plays, in an endless circle: "
                "choose another input or output"
            )
        if self._wanted.follow_default and not listed and self._defaults is None:
            self._defaults = DefaultWatcher()
        pair = SoundCardPair(source, sink, self._wanted)
        self._chosen = {"input": source, "output": sink}
        self._pair = pair
        if self._watcher is not None and self._watcher.latest is not None:
            self._changed(self._watcher.latest)  # it may have changed while the pair was opened
        return pair

    def moved(self) -> bool:
        """Whether the system has another default device now, which we are to follow."""
        if self._defaults is not None:
            return self._defaults.changed()
        watcher = self._watcher
        if not self._wanted.follow_default or watcher is None or watcher.latest is None:
            return False
        for side, kind in KIND_OF_SIDE.items():
            default = watcher.latest.default(kind)
            if self._follows(side) and default and default.name != self._chosen[side].pulse:
                return True
        return False

    def close(self) -> None:
        """Undo what was set up around the streams."""
        if self._owner:
            with suppress(DeviceError):  # without a server that answers there is none any more
                pulse.remove_virtual_microphone()
        for watcher in (self._watcher, self._defaults):
            if watcher is not None:
                watcher.close()

    def _claim_virtual_microphone(self) -> None:
        """Make it if it is not there, unless another process plays into it."""
        pulse.require()
        if self._watcher is None:
            self._watcher = pulse.Watcher(pulse.OWNER, self._changed)
        if (rival := self._watcher.rival()) is not None:
            raise DeviceError(
                f"the virtual microphone is taken by another 'gtcrn live' (process {rival}): "
                "end that first"
            )
        self._owner = True
        pulse.add_virtual_microphone()

    def _follows(self, side: Side) -> bool:
        return self._wanted.follow_default and self._name(side) is None

    def _name(self, side: Side) -> str | None:
        return self._wanted.input if side == "input" else self._wanted.output

    def _choose(self, side: Side, listed: list[Device]) -> Device:
        """The device to open now: the one chosen before, if there was one and we do not follow."""
        chosen = self._chosen.get(side)
        if chosen is None or self._follows(side):
            return self._find(side, listed)
        if chosen.pulse is None:
            listed = self._with_portaudio(listed)
        for device in listed:
            if device.identity == chosen.identity and device.channels(side):
                if device.pulse is not None and side == "output" and _is_other_port(chosen, device):
                    raise DeviceError(f"{chosen.port_description} is not plugged in")
                return device
        raise DeviceError(f"{chosen.name} is not there")

    def _find(self, side: Side, listed: list[Device]) -> Device:
        wanted = self._name(side)
        if side == "output" and self._wanted.virtual_mic:  # by its exact name
            for device in listed:
                if device.pulse == wanted and device.outputs:
                    return device
        if listed:
            try:
                return find(listed, wanted, side)
            except DeviceError:
                # It may be one that only PortAudio knows, but not a default.
                if wanted is None or (wanted.isdecimal() and int(wanted) < len(listed)):
                    raise
                if any(wanted in (d.name, d.pulse) for d in listed):
                    raise
        return find(self._with_portaudio(listed), wanted, side)

    def _with_portaudio(self, listed: list[Device]) -> list[Device]:
        if self._portaudio_used:
            refresh()
        self._portaudio_used = True
        found = portaudio_devices(listed)
        return (listed or server_devices()) + found  # looking may have started a server

    def _changed(self, seen: pulse.Snapshot) -> None:
        """Called by the watcher when the server's devices have changed."""
        pair = self._pair
        if pair is not None and not self._follows("output"):
            pair.look(seen)


def _is_other_port(before: Device, now: Device) -> bool:
    return bool(before.port) and now.port != before.port and not replace(now, name="").worn
