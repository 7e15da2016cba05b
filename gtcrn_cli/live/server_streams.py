"""Two streams of the Linux sound server, PulseAudio or PipeWire, that stay where they were put.

Both are opened on a device by name and with the flag that forbids to move them. When that device
goes, the server ends the stream: what is played cannot come out of another one, not even for the
time that it takes to notice.

There is no thread and no callback here: whoever waits for input, in `wait`, does what there is to
do meanwhile. So one thread carries the sound all the way, and is woken once for each block.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..errors import DeviceError
from ..signals import Samples
from .libpulse import (
    CONTEXT_FAILED,
    CONTEXT_READY,
    FLOAT32LE,
    NO_AUTOSPAWN,
    PLAY_FLAGS,
    RECORD_FLAGS,
    STREAM_CREATING,
    STREAM_READY,
    WHATEVER,
    BufferAttributes,
    LibPulse,
    SampleSpec,
)
from .ring import Player, Ring

APPLICATION = "gtcrn live"
OPENING_S = 4.0  # a server that has not opened a stream by then is treated as absent
RESTING = 0.9  # of a block, after one has come
MOST_MESSAGES = 10_000  # at once
EXCESS_S = 0.05  # at least; so much more delay than planned is cut, less is squeezed out
TICK_S = 0.1  # the longest wait for the server to say something
TIMED_S = 0.5  # how often the server's own delay is looked at
BYTES = 4  # of a sample of one channel


@cache
def libpulse() -> LibPulse:
    """The library, loaded once.

    Raises
    ------
    OSError
        It is not installed.
    """
    return LibPulse()


@dataclass(frozen=True)
class StreamPlan:
    """One stream to open.

    Attributes
    ----------
    device, name
        The source or sink, for the server and for people.
    sample_rate, channels
        Of the samples handed over.
    block
        Samples that the server should hand over or ask for at a time.
    kept
        For an output: samples that should at least be with the server.
    most
        For an output: samples that may at most be with it.
    """

    device: str
    name: str
    sample_rate: int
    channels: int
    block: int
    kept: int = 0
    most: int = 0


class Streams:
    """A recording and a playing stream, fed from one thread.

    Parameters
    ----------
    record, play
        What to open; either may be ``None``.
    input
        Where what is recorded goes.
    player
        What fills what is played.

    Raises
    ------
    DeviceError
        The server does not answer or refuses.

    Attributes
    ----------
    latency_s
        Of the input and the output, as the server tells.
    xruns
        How often the server had nothing to play.
    """

    def __init__(
        self,
        record: StreamPlan | None,
        play: StreamPlan | None,
        input: Ring | None,
        player: Player | None,
    ) -> None:
        try:
            self._lib = libpulse()
        except OSError as error:
            raise DeviceError(f"the sound server's library is not there ({error})") from None
        self._plans = (record, play)
        self._input, self._player = input, player
        self.latency_s = [0.0, 0.0]
        self.xruns = 0
        self._silent = self._flushed = self._opened = self._woken = False
        self._underflow = self._left = -1
        self._data, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        if play is not None and player is not None:
            self._frame = BYTES * play.channels
            self._low = play.block
            self._length = play.most
            self._excess = max(round(EXCESS_S * play.sample_rate), play.kept)
            player.buffered = True
        self._failure: str | None = None
        self._context: int | None = None
        self._streams: list[int | None] = [None, None]
        self._opening: list[tuple[int, bytes, str]] = []  # the same, with the devices' names
        self._timed_s = self._turned_s = 0.0
        self._loop: int | None = self._lib.mainloop_new()
        self._freeing = threading.Lock()  # nobody may wake a loop that is freed
        self._connect()
        end_s = time.monotonic() + OPENING_S
        while not self._opened and self._failure is None:
            if time.monotonic() > end_s:
                self._failure = "the sound server does not answer"
            self.wait(TICK_S)
        if self._failure is not None:
            self.close()
            raise DeviceError(self._failure)

    @property
    def failure(self) -> str | None:
        """Why the streams have ended; None while they flow."""
        return self._failure

    def wake(self) -> None:
        """Have `wait` return, from any thread."""
        with self._freeing:
            if self._loop is not None:
                self._woken = True
                self._lib.mainloop_wakeup(self._loop)

    def silence(self) -> None:
        """Play nothing any more, not even what the server has already."""
        self._silent = True
        self.wake()

    def close(self) -> None:
        """End both streams. Does not wait for the server."""
        lib = self._lib
        with self._freeing:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        for stream in self._streams:
            if stream is not None:
                lib.stream_disconnect(stream)
                lib.stream_unref(stream)
        if self._context is not None:
            lib.context_disconnect(self._context)
            lib.context_unref(self._context)
        lib.mainloop_free(loop)

    def wait(self, timeout_s: float) -> bool:
        """Until input has come, somebody wakes us, or the time is up: whether input has come.

        To be called all the time, from one thread.
        """
        lib, loop = self._lib, self._loop
        end_s = time.monotonic() + timeout_s
        self._rest(timeout_s)
        now = time.monotonic()
        while loop is not None and self._failure is None:
            lib.mainloop_prepare(loop, round(1e6 * min(TICK_S, max(0.0, end_s - now))))
            lib.mainloop_poll(loop)
            lib.mainloop_dispatch(loop)
            for _ in range(MOST_MESSAGES):  # all that it has said, or we act on old news
                if lib.mainloop_iterate(loop, 0, None) <= 0:
                    break
            now = time.monotonic()
            if self._turn(now):
                return True
            if self._woken or now >= end_s:
                self._woken = False
                break
        return False

    def _rest(self, most_s: float) -> None:
        """Sleep while nothing can have come yet: the server wakes us for every word it says."""
        plan, ring = self._plans[0], self._input
        if self._opened and plan is not None and ring is not None:
            due_s = ring.touched_s + RESTING * plan.block / plan.sample_rate
            rest_s = min(due_s - time.monotonic(), most_s)
            if rest_s > 0:
                time.sleep(rest_s)

    def _connect(self) -> None:
        lib = self._lib
        properties = lib.proplist_new()
        for name, value in (
            ("application.name", APPLICATION),
            ("application.icon_name", "audio-input-microphone"),
        ):
            lib.proplist_sets(properties, name.encode(), value.encode())
        self._context = lib.context_new_with_proplist(
            lib.mainloop_get_api(self._loop), APPLICATION.encode(), properties
        )
        lib.proplist_free(properties)
        if lib.context_connect(self._context, None, NO_AUTOSPAWN, None) < 0:
            self._failure = "no sound server"

    def _turn(self, now: float) -> bool:
        """Do what there is to do after the server has said something: whether input has come."""
        lib = self._lib
        if self._opened and self._plans[0] is not None and now - self._turned_s < TICK_S:
            readable = lib.stream_readable_size(self._streams[0])
            if not readable and not self._woken:  # it has only asked for more to play
                return False
        self._turned_s = now
        state = lib.context_get_state(self._context)
        if state >= CONTEXT_FAILED:
            self._failure = "the sound server is gone"
            return False
        if state != CONTEXT_READY:
            return False
        if not self._opening:
            self._open()
        if not self._intact():
            return False
        if not self._opened:
            self._start()
            self._opened = True
        came = self._capture()
        self.push()
        if now - self._timed_s > TIMED_S:
            self._timed_s = now
            self._look_at_latency()
        return came

    def _intact(self) -> bool:
        """Whether all streams are open, and on the devices that they were opened on."""
        lib = self._lib
        for stream, device, name in self._opening:
            state = lib.stream_get_state(stream)
            if state == STREAM_READY:
                # The flag forbids it; but what is at stake is a voice on a loudspeaker.
                if lib.stream_get_device_name(stream) == device:
                    continue
                self._failure = f"the sound server moved us away from {name}"
            elif state != STREAM_CREATING:
                self._failure = f"{name} is {'gone' if self._opened else 'not there'}"
            return False
        return True

    def _start(self) -> None:
        """Take what the server has made of our wishes."""
        if self._streams[1] is not None:
            attributes = self._lib.stream_get_buffer_attr(self._streams[1])[0]
            self._length = attributes.tlength // self._frame
            self._low = max(self._low, attributes.minreq // self._frame)

    def _open(self) -> None:
        lib = self._lib
        for side, plan in enumerate(self._plans):
            if plan is None:
                continue
            spec = SampleSpec(FLOAT32LE, plan.sample_rate, plan.channels)
            stream = lib.stream_new(self._context, APPLICATION.encode(), ctypes.byref(spec), None)
            size = BYTES * plan.channels
            device = plan.device.encode()
            if side == 0:
                attributes = BufferAttributes(
                    WHATEVER, WHATEVER, WHATEVER, WHATEVER, size * plan.block
                )
                lib.stream_connect_record(stream, device, ctypes.byref(attributes), RECORD_FLAGS)
            else:
                attributes = BufferAttributes(
                    WHATEVER, size * plan.most, size * plan.block, size * plan.block, WHATEVER
                )
                lib.stream_connect_playback(
                    stream, device, ctypes.byref(attributes), PLAY_FLAGS, None, None
                )
            self._streams[side] = stream
            self._opening.append((stream, device, plan.name))

    def _capture(self) -> bool:
        plan, stream, lib, ring = self._plans[0], self._streams[0], self._lib, self._input
        came = False
        if plan is None or ring is None:
            return came
        while lib.stream_readable_size(stream):
            lib.stream_peek(stream, ctypes.byref(self._data), ctypes.byref(self._size))
            if not self._size.value:
                break
            if self._data.value is None:  # a hole: the server lost some
                samples = np.zeros(self._size.value // BYTES, np.float32)
                self.xruns += 1
            else:
                samples = np.frombuffer(
                    ctypes.string_at(self._data.value, self._size.value), np.float32
                )
            ring.write(samples.reshape(-1, plan.channels))
            lib.stream_drop(stream)
            came = True
        if came:
            ring.touched_s = time.monotonic()
        return came

    def push(self) -> None:
        """Hand over all that is ready to be played; silence, or a fade to it, if too little is."""
        plan, player, lib = self._plans[1], self._player, self._lib
        stream = self._streams[1]
        if plan is None or player is None or self._failure is not None or not self._opened:
            return
        writable = lib.stream_writable_size(stream) // self._frame
        if writable > self._length:  # an error, or a server that wants more than it said
            return
        queued = self._length - writable
        now = time.monotonic()
        if self._silent:
            self._write(stream, np.zeros((max(0, plan.kept - queued), plan.channels), np.float32))
            return
        underflow = lib.stream_get_underflow_index(stream)
        if underflow != self._underflow:
            self._underflow = underflow
            self.xruns += player.playing
        if player.playing and queued <= 0:
            player.ran_dry()
        if not player.playing:
            missing = plan.kept - queued
            if missing > 0:
                self._write(stream, np.zeros((missing, plan.channels), np.float32))
                queued += missing
            ready = min(player.ring.fill, player.start_at)
            if ready < player.start_at or queued > plan.kept + self._low:
                ready = 0
        elif queued + player.ring.fill > plan.kept + player.start_at + self._excess:
            # The input came in a burst: its server was held up, the output's was not.
            ready = 0
            out = np.empty((self._low, plan.channels), np.float32)
            player.cut(out)
            self._write(stream, out)
            queued += self._low
        else:
            ready = min(player.ring.fill, writable)
            if queued + ready < self._low:
                ready = max(self._low, plan.kept) - queued  # more than there is: it fades
        if ready > 0:
            out = np.empty((ready, plan.channels), np.float32)
            player.play(out, now)
            self._write(stream, out)
            queued += ready
        if writable != self._left:  # the server has played something
            player.ring.touched_s = now
        self._left = lib.stream_writable_size(stream) // self._frame
        player.queued = queued
        if player.playing:
            player.left_over(queued + player.ring.fill - self._low)

    def _write(self, stream: int | None, out: Samples) -> None:
        lib = self._lib
        if self._silent and not self._flushed:
            self._flushed = True
            lib.operation_unref(lib.stream_flush(stream, None, None))
        if out.size:
            lib.stream_write(stream, out.ctypes.data, out.nbytes, None, 0, 0)

    def _look_at_latency(self) -> None:
        latency_us, negative = ctypes.c_uint64(), ctypes.c_int()
        for side, stream in enumerate(self._streams):
            if stream is None or self._lib.stream_get_latency(
                stream, ctypes.byref(latency_us), ctypes.byref(negative)
            ):
                continue
            latency_s = 0.0 if negative.value else latency_us.value / 1e6
            if side == 1 and self._player is not None and self._plans[1] is not None:
                latency_s -= self._player.queued / self._plans[1].sample_rate  # counted elsewhere
            self.latency_s[side] = max(0.0, latency_s)
