"""What `gtcrn live` shows, and the keys it listens to."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from .live import Session, Status

LOWEST_DB = -60.0  # the left end of a meter
LOUD_DB, CLIPPING_DB = -18.0, -6.0  # where a meter turns yellow and red
METER_WIDTH = 40
STRENGTH_STEP = 0.05
NOTES_SHOWN = 3

KEYS = {
    " ": "bypass",
    "m": "mute",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\xe0H": "up",  # as Windows has the arrows
    "\xe0P": "down",
    "r": "record",
    "q": "quit",
}


class View(Protocol):
    """A way to show how a session goes. Used as a context."""

    period_s: float  # between two calls of show

    def show(self, status: Status) -> None:
        """How it goes now."""
        ...

    def note(self, text: str) -> None:
        """Something has happened; called from any thread."""
        ...

    def end(self, status: Status) -> None:
        """The last one: how it went."""
        ...

    def __enter__(self) -> View: ...

    def __exit__(self, *error: object) -> None: ...


def watch(session: Session, view: View, duration_s: float | None = None) -> None:
    """Run a session, and show it, until the user or a signal ends it or the time is up.

    Raises
    ------
    UserError
        A device is not there, or its driver hangs.
    """
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        if stopped.is_set():  # asked twice: whatever it is that hangs
            raise KeyboardInterrupt
        stopped.set()

    previous = {which: signal.signal(which, stop) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        with view, pressed_keys() as keys:
            try:
                session.start()
                _follow(session, view, keys, stopped, duration_s)
                status = session.status()
            finally:
                session.stop()
            view.end(status)
    except BrokenPipeError:  # who read our lines has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


def _follow(
    session: Session,
    view: View,
    keys: Keys,
    stopped: threading.Event,
    duration_s: float | None,
) -> None:
    tick_s = min(0.1, view.period_s)  # how soon a key is answered
    start_s = shown_s = time.monotonic()
    while session.running and not stopped.wait(tick_s):
        now = time.monotonic()
        for key in keys.read():
            if key == "quit":
                return
            _turn(session, key)
            shown_s = 0.0
        if now - shown_s >= view.period_s - tick_s / 2:
            shown_s = now
            view.show(session.status())
        if duration_s is not None and now - start_s >= duration_s:
            return


def _turn(session: Session, key: str) -> None:
    controls = session.controls
    if key == "bypass":
        controls.bypass = not controls.bypass
    elif key == "mute":
        controls.mute = not controls.mute
    elif key == "record":
        session.toggle_recording()
    else:
        controls.change_strength(STRENGTH_STEP if key == "up" else -STRENGTH_STEP)


class Keys:
    """The keys pressed on a terminal; none where there is no terminal."""

    def __init__(self, file: int | None = None) -> None:
        self._file = file

    def read(self) -> list[str]:
        """The names of the keys pressed since the last call, as `KEYS` has them."""
        if self._file is None:
            return []
        return list(_keys_in(self._pressed()))

    def _pressed(self) -> str:
        import select

        assert self._file is not None
        if not select.select([self._file], [], [], 0)[0]:
            return ""
        return os.read(self._file, 256).decode(errors="replace")


class WindowsKeys(Keys):
    """The same for a Windows console."""

    def __init__(self) -> None:
        super().__init__(0)

    def _pressed(self) -> str:
        import msvcrt

        text = ""
        while msvcrt.kbhit():  # type: ignore[attr-defined]
            text += msvcrt.getwch()  # type: ignore[attr-defined]
        return text


def _keys_in(text: str) -> Iterator[str]:
    while text:
        for sequence, name in KEYS.items():
            if text.startswith((sequence, sequence.upper())):
                yield name
                text = text[len(sequence) :]
                break
        else:
            text = text[1:]


@contextmanager
def pressed_keys() -> Iterator[Keys]:
    """Listen to the terminal's keys, one by one and without showing them."""
    if not sys.stdin or not sys.stdin.isatty():
        yield Keys()
    elif os.name == "nt":
        yield WindowsKeys()
    elif os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():  # a background job may not
        yield Keys()
    else:
        import termios
        import tty

        file = sys.stdin.fileno()
        before = termios.tcgetattr(file)
        try:
            tty.setcbreak(file)
            yield Keys(file)
        finally:
            termios.tcsetattr(file, termios.TCSADRAIN, before)


class Silent(AbstractContextManager["Silent"]):
    """Shows nothing."""

    period_s = 1.0

    def show(self, status: Status) -> None:
        """See `View`."""

    def note(self, text: str) -> None:
        """See `View`."""

    def end(self, status: Status) -> None:
        """See `View`."""

    def __exit__(self, *error: object) -> None:
        """See `View`."""


class Plain(Silent):
    """A line a second on stdout, for logs; notes on stderr."""

    def show(self, status: Status) -> None:
        """See `View`."""
        print(line_of(status), flush=True)

    def note(self, text: str) -> None:
        """See `View`."""
        print(f"gtcrn: {text}", file=sys.stderr, flush=True)

    def end(self, status: Status) -> None:
        """See `View`."""
        print(f"gtcrn: {summary_of(status)}", file=sys.stderr)


class JsonLines(Silent):
    """The same as JSON objects, a line each, notes among them."""

    def show(self, status: Status) -> None:
        """See `View`."""
        self._print("status", status.to_dict())

    def note(self, text: str) -> None:
        """See `View`."""
        self._print("note", {"text": text})

    def end(self, status: Status) -> None:
        """See `View`."""
        self._print("end", status.to_dict())

    def _print(self, event: str, facts: dict[str, Any]) -> None:
        print(json.dumps({"event": event, "time_s": round(time.time(), 3)} | facts), flush=True)


class Screen(Silent):
    """One screen of meters and figures on the terminal, ten times a second."""

    period_s = 0.1

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
        """See `View`."""
        assert self._live is not None
        self._live.update(picture(status, list(self._notes)), refresh=True)

    def note(self, text: str) -> None:
        """See `View`."""
        self._notes.append(f"{time.strftime('%H:%M:%S')} {text}")

    def end(self, status: Status) -> None:
        """See `View`."""
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


def picture(status: Status, notes: list[str]) -> RenderableType:
    """The screen."""
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

    bar = Text()
    length, peak = place(level_db), place(peak_db) - 1
    for cell in range(METER_WIDTH):
        db = LOWEST_DB + (cell + 1) / METER_WIDTH * -LOWEST_DB
        style = "green" if db <= LOUD_DB else "yellow" if db <= CLIPPING_DB else "red"
        if cell < length:
            bar.append("█", style)
        elif cell == peak:
            bar.append("▌", f"bold {style}")
        else:
            bar.append("·", "dim")
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
