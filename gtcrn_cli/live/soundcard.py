"""Sound cards, through PortAudio: which there are, and a pair of streams between two of them.

The input and the output are streams of their own, so that they can be different devices. Their
callbacks only copy, into one `Ring` and out of another; what happens in between is the matter of
`worker.Worker`.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..enhancement.stft import STFT
from ..errors import DeviceError, UserError
from ..signals import Samples
from . import pulse
from .devices import (
    Device,
    End,
    Side,
    agree_on_rates,
    behind,
    find,
    howl_risk,
    list_devices,
    portaudio,
    portaudio_index,
    refresh,
    routed,
)
from .ring import Player, Ring

RING_S = 4.0
MOST_WAITING_S = 0.25  # in either ring, beyond what has to wait there
FADE_S = 0.005
SILENT_S = 5.0  # without a callback for so long, a device is gone (a null sink may rest for 2 s)
CLOSING_S = 5.0  # a driver that has not closed a stream by then never will
WATCH_S = 2.0  # how often the default devices are looked at
WATCHER = [sys.executable, "-c", f"from {__name__} import print_defaults; print_defaults()"]


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
        How many to open.
    virtual_mic
        Play into a virtual microphone, made for the time (Linux).
    follow_default
        Move to another device when the system's default changes.
    """

    input: str | None = None
    output: str | None = None
    sample_rate: int | None = None
    block_ms: float = 10.0
    latency_ms: float | None = None
    input_channels: int | None = None
    output_channels: int | None = None
    virtual_mic: bool = False
    follow_default: bool = False


class Pair:
    """An open input and an open output, running, with a ring each.

    Parameters
    ----------
    listed
        The devices that there are.
    wanted
        Which of them, and how.

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

    def __init__(self, listed: list[Device], wanted: Wanted) -> None:
        self._sd = portaudio()
        source, sink = find(listed, wanted.input, "input"), find(listed, wanted.output, "output")
        meant = behind(listed, source, "input"), behind(listed, sink, "output")
        self.names = (meant[0].name, meant[1].name)
        self.notes = [risk] if (risk := howl_risk(*meant)) else []
        ends = (
            _end(source, "input", wanted.input_channels or 1),
            _end(sink, "output", wanted.output_channels or min(2, sink.outputs)),
        )
        self.sample_rate, self.output_rate = agree_on_rates(*ends, wanted.sample_rate)
        self.input = Ring(int(RING_S * self.sample_rate), ends[0].channels)
        enhanced = Ring(int(RING_S * self.output_rate), min(end.channels for end in ends))
        self.player = Player(enhanced, fade=int(FADE_S * self.output_rate))
        self.device_xruns = 0
        self.device_latency_s = [0.0, 0.0]
        self._arrived = threading.Event()
        self._streams: list[Any] = []
        buffers = self._plan(ends[1], wanted)
        try:
            self._open(ends[0], wanted, max(_lowest_latency_s(ends[0]), buffers.input_s))
            self._open(ends[1], wanted, buffers.device_s)
            self._started_s = self.now()
            for stream in self._streams:
                stream.start()
        except self._sd.PortAudioError as error:
            self.close()
            reason = str(error).split(" [")[0]  # without PortAudio's number
            raise DeviceError(f"cannot open {' and '.join(self.names)}: {reason}") from None

    def _plan(self, sink: End, wanted: Wanted) -> Buffers:
        """Say how much sound may wait where."""
        block_s = wanted.block_ms / 1000
        latency_s = None if wanted.latency_ms is None else wanted.latency_ms / 1000
        hop_s = STFT(self.sample_rate).hop / self.sample_rate
        buffers = plan_buffers(block_s, hop_s, _lowest_latency_s(sink), latency_s)
        if latency_s is not None and latency_s < buffers.latency_s - 0.001:
            self.notes.append(
                f"a latency of {wanted.latency_ms:.0f} ms cannot be had: "
                f"{1000 * buffers.latency_s:.0f} ms is the least here (less with a smaller --block)"
            )
        most_s = max(MOST_WAITING_S, 4 * block_s)
        self.most_input = int(most_s * self.sample_rate)
        self.player.start_at = int(buffers.waiting_s * self.output_rate)
        self.player.spare = int(buffers.spare_s * self.output_rate)
        self.player.most = int((buffers.waiting_s + most_s) * self.output_rate)
        return buffers

    def _open(self, end: End, wanted: Wanted, latency_s: float) -> None:
        is_input = end.side == "input"
        sample_rate = self.sample_rate if is_input else self.output_rate
        with routed(end.device, end.side):
            stream = (self._sd.InputStream if is_input else self._sd.OutputStream)(
                sample_rate,
                round(wanted.block_ms / 1000 * sample_rate),
                portaudio_index(end.device),
                end.channels,
                "float32",
                latency=latency_s,
                callback=self._on_input if is_input else self._on_output,
            )
        self._streams.append(stream)

    def _on_input(self, block: Samples, count: int, times: Any, flags: Any) -> None:
        self.input.write(block)
        self.input.touched_s = self.now()
        recorded_s = times.currentTime - times.inputBufferAdcTime - count / self.sample_rate
        self.device_latency_s[0] = max(0.0, recorded_s)
        self.device_xruns += bool(flags.input_overflow)
        self._arrived.set()

    def _on_output(self, block: Samples, count: int, times: Any, flags: Any) -> None:
        self.player.play(block, self.now())
        self.device_latency_s[1] = max(0.0, times.outputBufferDacTime - times.currentTime)
        self.device_xruns += bool(flags.output_underflow)

    def now(self) -> float:
        """Seconds of the clock that `Ring.touched_s` is told in."""
        return time.monotonic()

    def wait(self, timeout_s: float) -> None:
        """Until input has come, or the time is up."""
        self._arrived.wait(timeout_s)
        self._arrived.clear()

    def problem(self) -> str | None:
        """What has become of the devices; None while all is well."""
        now = self.now()
        for name, stream, ring in zip(
            self.names, self._streams, (self.input, self.player.ring), strict=True
        ):
            try:
                active = stream.active
            except self._sd.PortAudioError:
                active = False
            if not active or now - max(self._started_s, ring.touched_s) > SILENT_S:
                return f"{name} is gone"
        return None

    def close(self) -> None:
        """Stop and let go of the devices.

        Raises
        ------
        UserError
            A driver hangs; nothing can be opened any more in this process.
        """

        def close_all() -> None:
            for stream in self._streams:
                with suppress(self._sd.PortAudioError):
                    stream.close()

        closing = threading.Thread(target=close_all, daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        if closing.is_alive():
            atexit.unregister(self._sd._exit_handler)  # it would hang likewise
            raise HangingError(f"the driver of {' or '.join(self.names)} hangs: start again")


class HangingError(UserError):
    """A driver does not come back; only a new process can use it again."""


@dataclass(frozen=True)
class Buffers:
    """How much sound waits where, in seconds.

    Attributes
    ----------
    input_s
        At most, in the input device's own buffer; usually nothing is.
    device_s
        In the output device's own buffer.
    waiting_s
        In the ring before the output, when it starts.
    spare_s
        How much of that is left after the worst that is usual.
    latency_s
        From microphone to speaker, all in all.
    """

    input_s: float
    device_s: float
    waiting_s: float
    spare_s: float
    latency_s: float


def plan_buffers(
    block_s: float, hop_s: float, lowest_s: float, latency_s: float | None = None
) -> Buffers:
    """Buffers that are safe, or that make up the latency wanted.

    A callback must find a block in the ring, also when the input came just too late to complete
    a hop and was a block short of the next: a hop and two blocks. Two blocks more are for callbacks
    and for us to be late ourselves; who wants less latency does without. What is wanted beyond is
    shared by the ring, which covers for us, and the devices' buffers, which cover for callbacks.

    Parameters
    ----------
    block_s, hop_s
        How much a callback takes, and the Enhancer.
    lowest_s
        What the output device's driver calls its low latency.
    latency_s
        What the user wants, from microphone to speaker.
    """
    needed_s, spare_s = hop_s + 2 * block_s, 2 * block_s
    device_s = max(2 * block_s, lowest_s)
    # On the average the input waits for half of a block and of a hop; the Enhancer holds a hop.
    total_s = (block_s + hop_s) / 2 + hop_s + needed_s + spare_s + device_s
    extra_s = 0.0 if latency_s is None else max(latency_s - total_s, -spare_s)
    more_s = max(0.0, extra_s)
    return Buffers(
        input_s=(5 * block_s) + 0.2 * more_s,  # drivers hand it over in quarters: 5 % on average
        device_s=device_s + 0.45 * more_s,
        waiting_s=needed_s + spare_s + (0.5 * more_s if extra_s > 0 else extra_s),
        spare_s=spare_s + min(0.0, extra_s),
        latency_s=total_s + extra_s,
    )


def _lowest_latency_s(end: End) -> float:
    facts = portaudio().query_devices(portaudio_index(end.device))
    return float(facts[f"default_low_{end.side}_latency"])


def _end(device: Device, side: Side, channels: int) -> End:
    if channels > device.channels(side):
        raise UserError(
            f"{device.name} has {device.channels(side)} {side} channels, not {channels}"
        )
    return End(device, side, channels)


class SoundCard:
    """Opens the devices that the user wants, again and again when they come and go."""

    def __init__(self, wanted: Wanted) -> None:
        output = pulse.VIRTUAL_SINK if wanted.virtual_mic else wanted.output
        self._wanted = replace(wanted, output=output)
        self._modules: list[str] = []
        self._defaults: DefaultWatcher | None = None
        self._opened_before = False

    def open(self) -> Pair:
        """Open both devices.

        Raises
        ------
        DeviceError
            One is not there, or does not open.
        """
        if self._wanted.virtual_mic:
            self._modules = pulse.add_virtual_microphone() or self._modules
        if self._wanted.follow_default and self._defaults is None:
            self._defaults = DefaultWatcher()
        if self._opened_before:
            refresh()
        self._opened_before = True
        return Pair(list_devices(), self._wanted)

    def moved(self) -> bool:
        """Whether the system has another default device now, which we are to follow."""
        return self._defaults is not None and self._defaults.changed()

    def close(self) -> None:
        """Undo what was set up around the streams."""
        if self._modules:  # but not what has got their numbers since, if the server was restarted
            ours = pulse.virtual_microphone_modules()
            pulse.remove_modules([number for number in self._modules if number in ours])
        if self._defaults is not None:
            self._defaults.close()


class DefaultWatcher:
    """Notices when the system's default devices change.

    PortAudio looks at the system only when it starts, which it cannot while streams are open. So a
    process of its own looks, and prints what it sees.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            WATCHER,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen.append(line)

    def changed(self) -> bool:
        """Whether the defaults are others than at the last call that said so."""
        seen = list(self._seen)
        if len(seen) < 2:
            return False
        self._seen[: len(seen) - 1] = []
        return any(line != seen[0] for line in seen)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def print_defaults() -> None:
    """For ever print the names of the default devices, a line each time."""
    sd = portaudio()
    while True:
        refresh()
        names = [_name_of_default(sd, side) for side in ("input", "output")]
        try:
            print(json.dumps(names), flush=True)
        except BrokenPipeError:
            return
        time.sleep(WATCH_S)


def _name_of_default(sd: Any, side: Side) -> str:
    try:
        return sd.query_devices(kind=side)["name"]
    except (sd.PortAudioError, ValueError):
        return ""
