"""What a benchmark measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

OURS = "gtcrn native"  # how the names of all begin that the others are compared with
SHORT_S = 5  # the file whose time shows how long it takes to start


@dataclass(frozen=True)
class HopTimes:
    """How long one hop or frame takes, in µs."""

    p50: float
    p99: float
    max: float
    mean: float

    @classmethod
    def of(cls, seconds: list[float]) -> HopTimes:
        """Of the seconds that each hop or frame took."""
        us = np.array(seconds) * 1e6
        figures = (*np.percentile(us, [50, 99]), us.max(), us.mean())
        return cls(*(round(float(x), 1) for x in figures))


@dataclass(frozen=True)
class Measurement:
    """What was measured of one baseline.

    Attributes
    ----------
    sample_rate, channels
        Of the sound that it was given.
    network
        One frame through the network alone, where that can be called.
    hop
        One hop of sound through all of it: frame, network, overlap-add.
    hop_ms
        How long a hop lasts.
    file_speed
        Times real time of a whole process that reads, enhances and writes a file.
    short_file_s
        Seconds that such a process takes for 5 s of sound: mostly its start.
    peak_mb
        The most memory that it had.
    problem
        Why there is nothing.
    """

    name: str
    version: str
    sample_rate: int
    channels: int = 1
    latency_ms: float | None = None
    hop_ms: float | None = None
    network: HopTimes | None = None
    hop: HopTimes | None = None
    file_speed: float | None = None
    short_file_s: float | None = None
    peak_mb: float | None = None
    problem: str | None = None

    @property
    def live_speed(self) -> float | None:
        """Times real time, hop by hop: the sound against the time that all of it took."""
        if self.hop is None or self.hop_ms is None:
            return None
        return 1000 * self.hop_ms / self.hop.mean


@dataclass(frozen=True)
class Report:
    """A run of the benchmark."""

    machine: dict[str, Any]
    seconds: float  # of sound in the file
    model: str
    results: list[Measurement]
    absent: list[str] = field(default_factory=list)  # baselines that are not installed

    def to_json(self) -> str:
        """The whole report as JSON."""
        return json.dumps(asdict(self), indent=2)

    def ours_beside(self, other: Measurement) -> Measurement | None:
        """Ours with the same sound as `other`, if both were measured; None for one of ours."""
        if other.problem or other.name.startswith(OURS):
            return None
        for ours in self.results:
            same = (ours.sample_rate, ours.channels) == (other.sample_rate, other.channels)
            if ours.name.startswith(OURS) and same and not ours.problem:
                return ours
        return None
