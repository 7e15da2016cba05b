"""Ways to show how a session goes: not at all, in lines of text, in lines of JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .status import Status


class StatusView(Protocol):
    """A way to show how a session goes. Used as a context."""

    period_s: float  # between two calls of show

    def show(self, status: Status) -> None:
        """How it goes now."""
        ...

    def note(self, text: str) -> None:
        """Something has happened."""
        ...

    def end(self, status: Status) -> None:
        """The last one: how it went."""
        ...

    def __enter__(self) -> StatusView: ...

    def __exit__(self, *error: object) -> None: ...


class Silent(AbstractContextManager["Silent"]):
    """Shows nothing."""

    period_s = 1.0

    def show(self, status: Status) -> None:
        """See `StatusView`."""

    def note(self, text: str) -> None:
        """See `StatusView`."""

    def end(self, status: Status) -> None:
        """See `StatusView`."""

    def __exit__(self, *error: object) -> None:
        """See `StatusView`."""


class Plain(Silent):
    """A line a second on stdout, for logs; notes on stderr."""

    def show(self, status: Status) -> None:
        """See `StatusView`."""
        print(line_of(status), flush=True)

    def note(self, text: str) -> None:
        """See `StatusView`."""
        print(f"gtcrn: {text}", file=sys.stderr, flush=True)

    def end(self, status: Status) -> None:
        """See `StatusView`."""
        print(f"gtcrn: {summary_of(status)}", file=sys.stderr)


class JsonLines(Silent):
    """The same as JSON objects, a line each, notes among them."""

    def show(self, status: Status) -> None:
        """See `StatusView`."""
        self._print("status", status.to_dict())

    def note(self, text: str) -> None:
        """See `StatusView`."""
        self._print("note", {"text": text})

    def end(self, status: Status) -> None:
        """See `StatusView`."""
        self._print("end", status.to_dict())

    def _print(self, event: str, facts: dict[str, Any]) -> None:
        print(json.dumps({"event": event, "time_s": round(time.time(), 3)} | facts), flush=True)


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def dropped_ms(status: Status) -> float:
    """How much sound was lost."""
    return 1000 * status.counters.dropped / status.sample_rate


def line_of(status: Status) -> str:
    """A status in one line."""
    counters = status.counters
    marks = [name for name in ("bypass", "mute", "recording") if getattr(status, name)]
    return (
        f"{clock(status.uptime_s)} {status.state} in {status.level_in_db:.0f} dB "
        f"out {status.level_out_db:.0f} dB removed {status.removed_db:.0f} dB "
        f"load {status.frame_ms:.2f}/{status.hop_ms:.0f} ms latency {status.latency_ms:.0f} ms "
        f"drift {status.drift_ppm:+.0f} ppm gaps {counters.underruns} "
        f"dropped {dropped_ms(status):.0f} ms" + "".join(f" {mark}" for mark in marks)
    )


def summary_of(status: Status) -> str:
    """How a session went, in one line."""
    counters = status.counters
    text = (
        f"{clock(status.uptime_s)} of sound, latency {status.latency_ms:.0f} ms, "
        f"{status.p99_ms:.2f} ms for 99 % of the frames, {counters.underruns} gaps, "
        f"{dropped_ms(status):.0f} ms dropped"
    )
    return text + (": a longer --latency would help" if counters.underruns else "")
