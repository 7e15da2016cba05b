"""Two streams of the Linux sound server, PulseAudio or PipeWire, that stay where they were put.

Both are opened on a device by name and with the flag that forbids to move them. When that device
goes, the server ends the stream: what is played cannot come out of another one, not even for the
time that it takes to notice.

There is no thread and no callback here: whoever waits for input, in `wait`, does what there is to
do meanwhile. So one thread carries the sound all the way, and is woken once for each hop: what the
server says before is read together, when it is foreseen that the hop is complete.

All calls of libpulse are here, with the C types that they take, hence the length.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..errors import DeviceError
from ..signals import Samples
from .libpulse import (
    AIFF_CHANNELS,
    CONTEXT_FAILED,
    CONTEXT_READY,
    FLOAT32LE,
    MOST_CHANNELS,
    NO_AUTOSPAWN,
    NO_REMAP_CHANNELS,
    PLAY_FLAGS,
    RECORD_FLAGS,
    STREAM_CREATING,
    STREAM_READY,
    WHATEVER,
    BufferAttributes,
    ChannelMap,
    LibPulse,
    SampleSpec,
)
from .ring import Player, Ring

APPLICATION = "gtcrn live"
OPENING_S = 4.0  # a server that has not opened a stream by then is treated as absent
LEAN_S = 25e-6  # how much earlier sound is expected after some that was there already
LATER_S = 400e-6  # how much later after some that was not: so 16 of 17 are there
MOST_MESSAGES = 10_000  # at once
EXCESS_S = 0.05  # at least; so much more delay than planned is cut, less is squeezed out
TICK_S = 0.1  # the longest wait for the server to say something
LOST_S = 0.02  # sound that is later than that keeps another time from now on
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
    needed
        For an input: samples that are of use at a time, a number of blocks.
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
    needed: int = 0
    kept: int = 0
    most: int = 0


class Arrivals:
    """Foresees when a device will have handed over as much as is needed.

    A device's clock is steady; when its sound comes to us is not. It is expected when most of it
    was there so far: a little earlier each time that it was there already, and by more later when
    it had to be waited for.

    Parameters
    ----------
    period_s
        How long what is needed lasts.

    Attributes
    ----------
    due_s
        When it should be there.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self.due_s = 0.0

    def note(self, now_s: float, awaited: bool, times: int = 1) -> None:
        """It is there, some times over; `awaited`: it came just now, while somebody waited."""
        due_s = self.due_s + (times - 1) * self._period_s  # of the last of them
        if not awaited:
            came_s = min(now_s, due_s - LEAN_S)
        elif now_s - due_s > LOST_S or now_s < due_s:  # much later, or many at once
            came_s = now_s
        else:
            came_s = due_s + LATER_S
        self.due_s = came_s + self._period_s


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
        self._timed_s = self._turn_s = 0.0
        self._low_s = math.inf
        period_s = 0.0 if record is None else (record.needed or record.block) / record.sample_rate
        self._arrivals = Arrivals(period_s)
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
        """Until enough input has come, somebody wakes us, or the time is up: whether it has come.

        To be called all the time, from one thread.
        """
        lib, loop = self._lib, self._loop
        end_s = time.monotonic() + timeout_s
        self._rest(timeout_s)
        awaited = False
        while loop is not None and self._failure is None:
            for _ in range(MOST_MESSAGES):  # all that it has said, or we act on old news
                if lib.mainloop_iterate(loop, 0, None) <= 0:
                    break
            now = time.monotonic()
            if self._turn(now, awaited):
                return True
            if self._woken or now >= end_s:
                self._woken = False
                break
            lib.mainloop_prepare(loop, round(1e6 * min(TICK_S, end_s - now)))
            lib.mainloop_poll(loop)
            lib.mainloop_dispatch(loop)
            awaited = True
        return False

    def _rest(self, most_s: float) -> None:
        """Sleep while there is nothing to do yet: the server wakes us for every word it says."""
        if self._opened and self._plans[0] is not None:
            rest_s = min(min(self._arrivals.due_s, self._low_s) - time.monotonic(), most_s)
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

    def _turn(self, now: float, awaited: bool) -> bool:
        """Do what there is to do after the server has said something: whether to go on with it."""
        lib, recorded = self._lib, self._plans[0]
        if self._opened and recorded is not None and now < min(self._turn_s, self._low_s):
            readable = lib.stream_readable_size(self._streams[0])
            if not readable and not self._woken:  # it has only asked for more to play
                return False
        self._turn_s = now + TICK_S
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
        enough = self._capture(awaited)
        if enough:
            self._notice_gap()  # before it is decided how much of what has come is still of use
        if now - self._timed_s > TIMED_S:
            self._timed_s = now
            self._look_at_latency()
        if not enough or recorded is None or not recorded.needed:
            self.push()  # else whoever takes it hands over what comes of it
        return enough

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
            if plan.channels > MOST_CHANNELS:
                self._failure = f"the sound server has no streams of {plan.channels} channels"
                return
            spec = SampleSpec(FLOAT32LE, plan.sample_rate, plan.channels)
            channels, remap = ChannelMap(), 0
            known = lib.channel_map_init_auto(ctypes.byref(channels), plan.channels, AIFF_CHANNELS)
            if not known:  # no speakers have names then: first to first, second to second
                lib.channel_map_init_extend(ctypes.byref(channels), plan.channels, AIFF_CHANNELS)
                remap = NO_REMAP_CHANNELS
            stream = lib.stream_new(
                *(self._context, APPLICATION.encode(), ctypes.byref(spec), ctypes.byref(channels))
            )
            size = BYTES * plan.channels
            device = plan.device.encode()
            if side == 0:
                attributes = BufferAttributes(
                    WHATEVER, WHATEVER, WHATEVER, WHATEVER, size * plan.block
                )
                flags = RECORD_FLAGS | remap
                lib.stream_connect_record(stream, device, ctypes.byref(attributes), flags)
            else:
                attributes = BufferAttributes(
                    WHATEVER, size * plan.most, size * plan.block, size * plan.block, WHATEVER
                )
                lib.stream_connect_playback(
                    stream, device, ctypes.byref(attributes), PLAY_FLAGS | remap, None, None
                )
            self._streams[side] = stream
            self._opening.append((stream, device, plan.name))

    def _capture(self, awaited: bool) -> bool:
        """Take what has been recorded: whether some has come and enough waits."""
        plan, stream, lib, ring = self._plans[0], self._streams[0], self._lib, self._input
        if plan is None or ring is None:
            return False
        pieces = []
        while lib.stream_readable_size(stream):
            lib.stream_peek(stream, ctypes.byref(self._data), ctypes.byref(self._size))
            size = self._size.value
            if not size:
                break
            if self._data.value is None:  # a hole: the server lost some
                pieces.append(bytes(size))
                self.xruns += 1
            else:
                pieces.append(ctypes.string_at(self._data.value, size))
            lib.stream_drop(stream)
        if not pieces:
            return False
        ring.write(np.frombuffer(b"".join(pieces), np.float32).reshape(-1, plan.channels))
        ring.touched_s = time.monotonic()
        if ring.fill < plan.needed:
            return False
        times = ring.fill // plan.needed if plan.needed else 1
        self._arrivals.note(ring.touched_s, awaited, times)
        return True

    def _notice_gap(self) -> None:
        player, stream = self._player, self._streams[1]
        if player is None or stream is None or not player.playing or player.ring.fill:
            return
        if self._lib.stream_writable_size(stream) // self._frame == self._length:
            player.ran_dry()

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
        self._low_s = math.inf  # when there may be too little left
        if player.playing:
            player.left_over(queued + player.ring.fill - self._low)
            self._low_s = now + (queued - self._low) / plan.sample_rate

    def _write(self, stream: int | None, out: Samples) -> None:
        lib = self._lib
        if self._silent and not self._flushed:
            self._flushed = True
            lib.operation_unref(lib.stream_flush(stream, None, None))
        if out.size:
            lib.stream_write(stream, out.ctypes.data, out.nbytes, None, 0, 0)
            lib.mainloop_iterate(self._loop, 0, None)  # it is only sent now

    def _look_at_latency(self) -> None:
        """Of the devices alone: what waits in between is counted elsewhere.

        libpulse's own sum of both is the time that it foresees, and far off for long after a stall.
        """
        for side, stream in enumerate(self._streams):
            if stream is not None and (info := self._lib.stream_get_timing_info(stream)):
                told = info[0].source_usec if side == 0 else info[0].sink_usec
                self.latency_s[side] = told / 1e6
