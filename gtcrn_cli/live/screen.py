"""What `gtcrn live` shows on a terminal: meters and figures, five times a second."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from .views import Silent, clock, dropped_ms, summary_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from .status import Status


LOWEST_DB = -60.0  # the left end of a meter
LOUD_DB, CLIPPING_DB = -18.0, -6.0  # where a meter turns yellow and red
METER_WIDTH = 40
NOTES_SHOWN = 3


class Screen(Silent):
    """One screen of meters and figures on the terminal, five times a second."""

    period_s = 0.2  # to print it takes longer than to enhance what is heard meanwhile

    def __init__(self) -> None:
        from rich.live import Live

        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._hushed = hush_drivers()
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        from rich.console import Console
        from rich.live import Live

        terminal = self._hushed.__enter__()
        self._live = Live(
            console=Console(file=terminal),
            auto_refresh=False,
            transient=True,
            redirect_stderr=False,
        )
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._live is not None
        self._live.__exit__(None, None, None)
        self._hushed.__exit__(None, None, None)
        for note in self._notes:
            print(f"gtcrn: {note}", file=sys.stderr)

    def show(self, status: Status) -> None:
        """See `StatusView`."""
        assert self._live is not None
        self._live.update(picture(status, list(self._notes)), refresh=True)

    def note(self, text: str) -> None:
        """See `StatusView`."""
        self._notes.append(f"{time.strftime('%H:%M:%S')} {text}")

    def end(self, status: Status) -> None:
        """See `StatusView`."""
        self._notes.append(summary_of(status))


@contextmanager
def hush_drivers() -> Iterator[TextIO]:
    """ALSA and PortAudio write to stderr from C, across the screen. Yields the true stderr."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(nowhere, 2)
    try:
        with os.fdopen(os.dup(saved), "w", encoding="utf-8") as terminal:
            yield terminal
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def picture(status: Status, notes: list[str]) -> RenderableType:
    """Draw what the terminal shows: names, meters, figures, notes and keys."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [_meters(status), Text(), _figures(status), Text()]
    parts += [Text(f"{note}", style="yellow", overflow="ellipsis", no_wrap=True) for note in notes]
    parts += [Text(), _help(status)] if notes else [_help(status)]
    title = "[bold]gtcrn live[/bold]"
    if status.state == "waiting":
        title += " [black on yellow] waiting for a device [/]"
    for flag, style in (("bypass", "black on yellow"), ("mute", "white on red")):
        if getattr(status, flag):
            title += f" [{style}] {flag.upper()} [/]"
    if status.recording:
        title += " [bold red]● REC[/]"
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        subtitle=clock(status.uptime_s),
        subtitle_align="right",
        padding=(1, 2),
        width=78,
    )


def _meters(status: Status) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=3)
    grid.add_column(width=16, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=METER_WIDTH)
    grid.add_column(width=8, justify="right")
    for side, device, level_db, peak_db in (
        ("in", status.input, status.level_in_db, status.peak_in_db),
        ("out", status.output, status.level_out_db, status.peak_out_db),
    ):
        number = f"{level_db:.0f} dB" if level_db > LOWEST_DB else "-"
        grid.add_row(Text(side, style="bold"), Text(device), meter(level_db, peak_db), Text(number))
    return grid


def meter(level_db: float, peak_db: float) -> Text:
    """A bar from -60 to 0 dB, green to red, with a mark where the held peak is."""
    from rich.text import Text

    def place(db: float) -> int:
        share = (min(db, 0.0) - LOWEST_DB) / -LOWEST_DB
        return max(0, round(share * METER_WIDTH))

    length, peak = place(level_db), place(peak_db) - 1

    def cell(number: int) -> tuple[str, str]:
        db = LOWEST_DB + (number + 1) / METER_WIDTH * -LOWEST_DB
        style = "green" if db <= LOUD_DB else "yellow" if db <= CLIPPING_DB else "red"
        if number < length:
            return "█", style
        return ("▌", f"bold {style}") if number == peak else ("·", "dim")

    bar = Text()
    for (text, style), alike in groupby(map(cell, range(METER_WIDTH))):  # few are fast to print
        bar.append(text * len(list(alike)), style)
    return bar


def _figures(status: Status) -> Table:
    from rich.table import Table
    from rich.text import Text

    counters = status.counters
    lost = counters.underruns + counters.overruns + counters.late_frames + counters.device_xruns
    grid = Table.grid(padding=(0, 3))
    for _ in range(3):
        grid.add_column(width=22)

    def cell(name: str, value: str, style: str = "bold") -> Text:
        return Text().append(f"{name} ", "dim").append(value, style)

    load = status.frame_ms / status.hop_ms
    late = "bold" if load < 0.5 else "bold red"
    grid.add_row(
        cell("removed", f"{status.removed_db:.0f} dB"),
        cell("strength", "bypassed" if status.bypass else f"{100 * status.strength:.0f} %"),
        cell("load", f"{status.frame_ms:.2f} of {status.hop_ms:.0f} ms", late),
    )
    grid.add_row(
        cell("latency", f"{status.latency_ms:.0f} ms" if status.latency_ms else "-"),
        cell("drift", f"{status.drift_ppm:+.0f} ppm"),
        cell("p99", f"{status.p99_ms:.2f} ms"),
    )
    bad = "bold" if not lost else "bold red"
    grid.add_row(
        cell("drops", f"{dropped_ms(status):.0f} ms", bad),
        cell("gaps", f"{counters.underruns}", bad),
        cell("late frames", f"{counters.late_frames}", bad),
    )
    return grid


def _help(status: Status) -> Text:
    from rich.text import Text

    line = Text()
    for key, what in (
        ("space", "bypass"),
        ("m", "mute"),
        ("↑↓", "strength"),
        ("r", "stop" if status.recording else "record"),
        ("q", "quit"),
    ):
        line.append(f" {key} ", "reverse").append(f" {what}   ")
    return line
