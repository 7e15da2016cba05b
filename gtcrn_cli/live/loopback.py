"""How long sound takes through `gtcrn live`, measured with clicks.

On a sound server two virtual devices are made for the time, one to be the microphone and one to be
the speaker, and a whole session runs between them. Both are listened to at once, by two streams of
one kind, so that what the listening takes is the same on both sides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..enhancement.engines import Engine
from ..enhancement.enhancer import Settings
from ..errors import DeviceError, UserError
from ..signals import Samples
from . import pulse
from .ring import Player, Ring
from .server_streams import StreamPlan, Streams
from .session import Session
from .soundcard import SoundCard, Wanted

RATE = pulse.RATE
LISTENING_S = 0.5  # until those who listen have started, which holds the server up for a moment
SETTLE_S = 3.5  # until the devices have started and what that costs is no longer counted
CLICKS = 12
APART_S = (0.20, 0.32)  # uneven, so that only one delay fits
BLOCK = 256
LOOK_S = 0.0005  # how long one side is waited for while the other may have something
CLICK_S = 0.01
CLICK_LEVEL = 0.3
CLEAR = 8.0  # times the background: then a peak of the correlation is the click
AROUND_S = 0.25  # of the pieces that tell when a sample was there
TOGETHER_S, STEP_S = 1.0, 0.25  # so much sound with its clicks is looked for together
LONGEST_S = 1.0  # delay


@dataclass(frozen=True)
class Loop:
    """What came of it.

    Attributes
    ----------
    latency_ms
        From click to click; None if none came through.
    gaps
        Times that sound came too late while the clicks passed.
    """

    latency_ms: float | None
    gaps: int


def measure(engine: Engine, wanted: Wanted) -> Loop:
    """Run a session between two virtual devices and have clicks pass through it.

    Raises
    ------
    DeviceError
        There is no sound server, or it makes no virtual devices.
    """
    with _cables() as (microphone, speaker):
        between = replace(wanted, input=f"{microphone}.monitor", output=speaker)
        # With a strength of 0 sound takes the same way, and no click is taken for noise.
        session = Session(SoundCard(between), engine, Settings(strength=0.0), lambda text: None)
        gaps: list[int] = []

        def count() -> None:
            gaps.append(session.status().counters.underruns)

        try:
            session.start()
            time.sleep(SETTLE_S)
            latency_s = click_to_click_s(microphone, speaker, count)
            count()
        finally:
            session.stop()
    return Loop(None if latency_s is None else 1000 * latency_s, gaps[-1] - gaps[0])


@contextmanager
def _cables() -> Iterator[tuple[str, str]]:
    """Two virtual devices, while they are needed."""
    names = [f"gtcrn_loopback_{end}_{os.getpid()}" for end in ("in", "out")]
    shape = f"rate={RATE} format=float32le channels=1 channel_map=mono"
    modules: list[int] = []
    try:
        for name in names:
            modules.append(_load(f"sink_name={name} {shape}"))
        yield names[0], names[1]
    finally:
        for module in modules:
            with suppress(UserError):
                _unload(module)


def _load(arguments: str) -> int:
    module: int | None = pulse.ask(lambda server: server.module_load("module-null-sink", arguments))
    if module is None:
        raise DeviceError("this loopback needs a sound server: give --input and --output")
    return module


def _unload(module: int) -> None:
    pulse.ask(lambda server: server.module_unload(module))


@dataclass(frozen=True)
class Recorded:
    """Samples, and when they came.

    Attributes
    ----------
    samples
        ``[N]``, at `RATE`.
    ends, came_s
        Of each piece that came: the samples so far, and the time.
    """

    samples: Samples
    ends: NDArray[np.int64]
    came_s: NDArray[np.float64]

    def time_s(self, at: int) -> float:
        """When the sample of that index was there.

        A piece comes at once or late, never early: the earliest of those around is the one to go
        by. Only of those around, as a busy machine may have lost sound in between.
        """
        near = np.abs(self.ends - at) <= AROUND_S * RATE
        if not near.any():
            near[np.argmin(np.abs(self.ends - at))] = True
        return float(np.min((self.came_s - self.ends / RATE)[near])) + at / RATE

    def index(self, time_s: float) -> int:
        """Of the sample that was there at that time; the other way round."""
        at = round((time_s - self.time_s(0)) * RATE)
        for _ in range(3):  # each time from nearer by
            at += round((time_s - self.time_s(at)) * RATE)
        return max(0, at)


class _Listener:
    """Records a source, and notes when its pieces came."""

    def __init__(self, source: str, play: Samples | None = None, sink: str = "") -> None:
        self._ring = Ring(60 * RATE, 1)
        self._pieces: list[tuple[int, float]] = []
        player = plan = None
        if play is not None:
            player = Player(Ring(60 * RATE, 1), RATE // 200, len(play), 60 * RATE)
            player.ring.write(play)
            plan = StreamPlan(
                *(sink, "the microphone", RATE, 1, 2 * BLOCK), kept=4 * BLOCK, most=16 * BLOCK
            )
        record = StreamPlan(source, "the listener", RATE, 1, BLOCK)
        self._streams = Streams(record, plan, self._ring, player)

    def look(self) -> None:
        """Take what has come. To be called often."""
        if self._streams.wait(LOOK_S):
            self._pieces.append((self._ring.written, self._ring.touched_s))

    def heard(self) -> Recorded | None:
        """All of it; None if there is nothing."""
        self._streams.close()
        if not self._pieces:
            return None
        ends, came_s = zip(*self._pieces, strict=True)
        samples = self._ring.take(self._ring.fill)[:, 0]
        return Recorded(samples, np.array(ends), np.array(came_s))


def click_to_click_s(
    microphone: str, speaker: str, begin: Callable[[], None] = lambda: None
) -> float | None:
    """Play clicks into one virtual device until they come out of another one: after how long.

    Parameters
    ----------
    microphone, speaker
        The names of two sinks of the sound server; a session runs between them.
    begin
        Called when both are listened to, before the first click.

    Returns
    -------
    The median over the clicks, in seconds; None if none came through.
    """
    rng = np.random.default_rng(0)
    starts = LISTENING_S + np.cumsum(rng.uniform(*APART_S, CLICKS))
    played = np.zeros((int((starts[-1] + 0.5) * RATE), 1), np.float32)
    click = click_sound(RATE)
    for start in (int(at_s * RATE) for at_s in starts):
        played[start : start + len(click), 0] = click
    output = _Listener(f"{speaker}.monitor")
    input = _Listener(f"{microphone}.monitor", played, microphone)

    def listen(seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            output.look()
            input.look()

    listen(LISTENING_S)
    begin()
    listen(len(played) / RATE - LISTENING_S + 1.0)
    heard, sent = output.heard(), input.heard()
    return None if heard is None or sent is None else delay_s(sent, heard)


def delay_s(sent: Recorded, heard: Recorded) -> float | None:
    """How much later the clicks of `sent` are in `heard`: the median, or None if they are not.

    They are looked for a few at a time, so that sound which was lost on either side only spoils
    those around it.
    """
    delays_s = []
    for at in range(0, len(sent.samples), round(STEP_S * RATE)):
        begin = heard.index(sent.time_s(at))
        clicks = sent.samples[at : at + round(TOGETHER_S * RATE)]
        around = heard.samples[begin : begin + round((TOGETHER_S + LONGEST_S) * RATE)]
        if len(around) and (lag := find_click(around, clicks)) is not None:
            delays_s.append(heard.time_s(begin + lag) - sent.time_s(at))
    return float(np.median(delays_s)) if delays_s else None


def find_click(heard: Samples, played: Samples) -> int | None:
    """How many samples later `played` is in `heard`; None if it is not.

    By phase transform (Knapp & Carter 1976), which neither a loud hum nor a room's echo misleads.
    """
    size = 2 * max(len(heard), len(played))
    cross = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size))
    reference = np.abs(np.fft.rfft(played, size))
    weight = reference > 0.1 * reference.max()  # where the click has something to say
    response = np.fft.irfft(cross * weight / (np.abs(cross) + 1e-9 * np.abs(cross).max() + 1e-30))
    response = np.abs(response[: size // 2])
    peak = int(np.argmax(response))
    background = float(np.sqrt(np.mean(response**2)))
    return peak if response[peak] > CLEAR * background > 0 else None


def click_sound(sample_rate: int) -> Samples:
    """A short sweep, 500 Hz to 6 kHz: a click to the ear, with a sharp autocorrelation."""
    time_s = np.arange(round(CLICK_S * sample_rate)) / sample_rate
    highest_hz = min(6000.0, 0.4 * sample_rate)
    phase = 2 * np.pi * (500 * time_s + (highest_hz - 500) / (2 * CLICK_S) * time_s**2)
    return (CLICK_LEVEL * np.sin(phase) * np.hanning(len(time_s))).astype(np.float32)
