"""Streams through PortAudio: on macOS and Windows, and for ALSA and JACK on Linux."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import DeviceError, UserError
from ..signals import Samples
from .devices import End, Side, portaudio, refresh
from .ring import Player, Ring

BLOCK_S, LOW_LATENCY_BLOCK_S = 0.010, 0.005  # that we have PortAudio hand over at a time
JACK = "JACK Audio Connection Kit"  # as PortAudio calls it
CLOSING_S = 5.0  # a driver that has not closed a stream by then never will
WATCH_S = 2.0  # how often the default devices are looked at
WATCHER = [sys.executable, "-c", f"from {__name__} import print_defaults; print_defaults()"]


class PortAudioStreams:
    """An input, an output, or both, whose callbacks copy to and from rings.

    Attributes
    ----------
    latency_s
        Of the input and the output, as the driver tells.
    xruns
        Faults that the driver reports.
    """

    def __init__(self, input: Ring, player: Player, arrived: Callable[[], None]) -> None:
        self._sd = portaudio()
        self._input, self._player, self._arrived = input, player, arrived
        self._streams: dict[Side, Any] = {}
        self._names: list[str] = []
        self._input_rate = 0
        self.latency_s = [0.0, 0.0]
        self.xruns = 0

    def open_input(self, end: End, sample_rate: int, block: int, buffered_s: float) -> None:
        """Open the input; the driver may hold `buffered_s` of it.

        Raises
        ------
        DeviceError
            It does not open.
        """
        self._input_rate = sample_rate
        latency_s = max(lowest_latency_s(end), buffered_s)
        self._open(self._sd.InputStream, end, sample_rate, block, latency_s, self._on_input)

    def open_output(self, end: End, sample_rate: int, block: int, buffered_s: float) -> None:
        """Open the output in the same way."""
        self._open(self._sd.OutputStream, end, sample_rate, block, buffered_s, self._on_output)

    def _open(
        self, kind: Any, end: End, sample_rate: int, block: int, latency_s: float, callback: Any
    ) -> None:
        try:
            self._streams[end.side] = kind(
                sample_rate,
                block,
                end.device.portaudio,
                end.channels,
                "float32",
                latency=latency_s,
                callback=callback,
            )
        except self._sd.PortAudioError as error:
            raise DeviceError(_reason(error)) from None
        self._names.append(end.device.name)

    def start(self) -> None:
        """Let the sound flow.

        Raises
        ------
        DeviceError
            A device does not start.
        """
        try:
            for stream in self._streams.values():
                stream.start()
        except self._sd.PortAudioError as error:
            raise DeviceError(_reason(error)) from None

    def _on_input(self, block: Samples, count: int, times: Any, flags: Any) -> None:
        ring = self._input
        ring.write(block)
        ring.touched_s = time.monotonic()
        recorded_s = times.currentTime - times.inputBufferAdcTime - count / self._input_rate
        self.latency_s[0] = max(0.0, recorded_s)
        self.xruns += bool(flags.input_overflow)
        self._arrived()

    def _on_output(self, block: Samples, count: int, times: Any, flags: Any) -> None:
        self._player.play(block, time.monotonic())
        self.latency_s[1] = max(0.0, times.outputBufferDacTime - times.currentTime)
        self.xruns += bool(flags.output_underflow)

    @property
    def closed(self) -> list[bool]:
        """Whether the driver has given up the input, the output."""
        return [self._closed("input"), self._closed("output")]

    def _closed(self, side: Side) -> bool:
        stream = self._streams.get(side)
        if stream is None:
            return False
        try:
            return not stream.active
        except self._sd.PortAudioError:
            return True

    def close(self) -> None:
        """Stop and let go of the devices.

        Raises
        ------
        HangingError
            The driver does not come back.
        """

        def close_all() -> None:
            for stream in self._streams.values():
                with suppress(self._sd.PortAudioError):
                    stream.close()

        closing = threading.Thread(target=close_all, daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        if closing.is_alive():
            atexit.unregister(self._sd._exit_handler)  # it would hang likewise
            raise HangingError(f"the driver of {' or '.join(self._names)} hangs: start again")


class HangingError(UserError):
    """A driver does not come back; only a new process can use it again."""


def _reason(error: Exception) -> str:
    return str(error).split(" [")[0]  # without PortAudio's number


def lowest_latency_s(end: End) -> float:
    """What the driver calls the low latency of that device."""
    facts = portaudio().query_devices(end.device.portaudio)
    return float(facts[f"default_low_{end.side}_latency"])


def jack_period_s(end: End) -> float:
    """How much JACK hands over and takes at a time: the same for all its devices."""
    facts = portaudio().query_devices(end.device.portaudio)
    latencies_s = [facts["default_low_input_latency"], facts["default_low_output_latency"]]
    return float(min(filter(None, latencies_s), default=BLOCK_S))


class DefaultWatcher:
    """Notices when the system's default devices change, where there is no sound server to ask.

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
