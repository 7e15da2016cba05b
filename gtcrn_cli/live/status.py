"""How a session goes: what the user can turn, what was counted, how loud it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..enhancement.enhancer import Settings
from ..signals import SILENCE_DB, Samples

METER_S = 0.3  # time constant of the level meters
REMOVED_S = 1.0  # and of "dB removed", which is about noise, not about syllables
HOLD_S = 1.5  # how long a peak is held
FALL_DB_S = 20.0  # and how fast it falls then
TIMED_FRAMES = 4096  # of which the 99th percentile is told: the last minute


@dataclass
class Controls:
    """What the user can turn while it runs. Written by one thread, read by the worker."""

    settings: Settings
    bypass: bool = False
    mute: bool = False

    @property
    def effective(self) -> Settings:
        """Bypass is strength 0: the same path, so it stays aligned and cross-fades over a hop."""
        return replace(self.settings, strength=0.0) if self.bypass else self.settings

    def change_strength(self, by: float) -> None:
        """Turn the strength up or down, within 0-1."""
        strength = min(1.0, max(0.0, round(self.settings.strength + by, 2)))
        self.settings = replace(self.settings, strength=strength)


@dataclass
class Counters:
    """What went wrong so far.

    Attributes
    ----------
    overruns
        How often more input or output was waiting than may wait.
    underruns
        How often the output had nothing to play.
    dropped
        Samples lost that way.
    late_frames
        Frames that took longer than a hop lasts.
    device_xruns
        Faults that a device's driver reported.
    frames
        Frames in all.
    """

    overruns: int = 0
    underruns: int = 0
    dropped: int = 0
    late_frames: int = 0
    device_xruns: int = 0
    frames: int = 0

    def __add__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] + theirs[name] for name in mine})

    def __sub__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] - theirs[name] for name in mine})


class FrameTimes:
    """How long the last frames took.

    Attributes
    ----------
    frames
        How many there were in all.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._seconds = np.zeros(TIMED_FRAMES)

    def add(self, seconds: float) -> None:
        """Count in a frame."""
        self._seconds[self.frames % TIMED_FRAMES] = seconds
        self.frames += 1

    def mean_and_p99_ms(self) -> tuple[float, float]:
        """The mean and the 99th percentile; 0 without a frame."""
        seconds = self._seconds[: min(self.frames, TIMED_FRAMES)]
        if not len(seconds):
            return 0.0, 0.0
        return 1000 * float(seconds.mean()), 1000 * float(np.percentile(seconds, 99))


class Meter:
    """Level and held peak of a signal."""

    def __init__(self) -> None:
        self.level = 0.0  # mean square
        self.slow = 0.0  # the same over a longer time
        self.peak = 0.0
        self._held_s = 0.0

    def add(self, block: Samples, seconds: float) -> None:
        """Count in a block that lasts `seconds`."""
        power = float(np.vdot(block, block)) / max(1, block.size)
        if not math.isfinite(power):  # no sound: the Enhancer takes silence for it, too
            return
        self.level += (1 - math.exp(-seconds / METER_S)) * (power - self.level)
        self.slow += (1 - math.exp(-seconds / REMOVED_S)) * (power - self.slow)
        self._held_s += seconds
        if self._held_s > HOLD_S:
            self.peak *= 10 ** (-FALL_DB_S * seconds / 20)
        peak = float(np.abs(block).max(initial=0))
        if peak >= self.peak:
            self.peak, self._held_s = peak, 0.0


@dataclass(frozen=True)
class Status:
    """All there is to show about a running session. Times in ms unless the name says otherwise."""

    state: str  # "running" or "waiting" for a device
    uptime_s: float
    input: str
    output: str
    sample_rate: int
    level_in_db: float
    peak_in_db: float
    level_out_db: float
    peak_out_db: float
    removed_db: float
    frame_ms: float  # the mean time that a frame takes
    p99_ms: float  # and the time that 99 of 100 stay below
    hop_ms: float  # the time there is
    latency_ms: float  # from microphone to speaker, as far as the drivers tell
    headroom_ms: float  # the least that waited for the output in the last second
    drift_ppm: float
    strength: float
    bypass: bool
    mute: bool
    recording: bool
    reopened: int
    counters: Counters

    def to_dict(self) -> dict[str, Any]:
        """Plain data, rounded to what means something."""
        facts = asdict(self)
        facts |= facts.pop("counters")
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in facts.items()}


def _db(power: float) -> float:
    return max(SILENCE_DB, 10 * math.log10(max(power, 1e-30)))
