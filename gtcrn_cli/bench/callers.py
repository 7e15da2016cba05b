"""Many callers on one core: how many times real time, and how long one waits for a block."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..enhancement.engines import load_engine
from ..enhancement.pcm import FULL_SCALE, PcmStream
from ..markdown import table
from ..network.checkpoint import load_model
from .results import HopTimes

BLOCK_MS = 10  # what telephony and voice agents hand around
RATES_HZ = (8_000, 16_000, 48_000)


@dataclass(frozen=True)
class Callers:
    """What was measured at one sample rate.

    Attributes
    ----------
    count
        Callers, each a stream of 16-bit PCM with a state of its own.
    speed
        Times real time of all of them together.
    push
        Of one block of one caller.
    """

    sample_rate: int
    count: int
    speed: float
    push: HopTimes

    @property
    def round_ms(self) -> float:
        """How long a block of every caller takes, one after another: the last one waits for it."""
        return self.count * BLOCK_MS / self.speed


def measure(model: str, count: int, seconds: float, sample_rate: int) -> Callers:
    """Push blocks of 10 ms for `count` callers in turn, on this thread.

    Raises
    ------
    UserError
        There is no such model.
    """
    engine = load_engine(load_model(model))
    callers = [PcmStream(sample_rate, engine=engine) for _ in range(count)]
    size = sample_rate * BLOCK_MS // 1000
    ticks = max(1, round(seconds * 1000 / BLOCK_MS))
    noise = np.random.default_rng(0).normal(0, 0.05 * FULL_SCALE, (16, size)).astype("<i2")
    blocks = [block.tobytes() for block in noise]
    took_s = []
    start = time.perf_counter()
    for tick in range(ticks):
        block = blocks[tick % len(blocks)]
        for caller in callers:
            before = time.perf_counter()
            caller.push(block)
            took_s.append(time.perf_counter() - before)
    elapsed_s = time.perf_counter() - start
    speed = count * ticks * BLOCK_MS / 1000 / elapsed_s
    return Callers(sample_rate, count, round(speed, 1), HopTimes.of(took_s))


def to_table(measured: list[Callers]) -> str:
    """The figures as a Markdown table."""
    head = [f"callers, blocks of {BLOCK_MS} ms", "Hz", "x real time, together"]
    head += ["a round of all: ms", "a push: p50 µs", "p99", "max"]
    rows = [
        [
            str(one.count),
            f"{one.sample_rate:,}",
            f"{one.speed:.0f}",
            f"{one.round_ms:.1f}",
            *(f"{us:.0f}" for us in (one.push.p50, one.push.p99, one.push.max)),
        ]
        for one in measured
    ]
    return table(head, rows)
