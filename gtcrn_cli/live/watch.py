"""A session from its start to its end, with keys, signals and a view."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from .keys import Keys, pressed_keys
from .views import StatusView

if TYPE_CHECKING:
    from .session import Session


STRENGTH_STEP = 0.05
KEY_S = 0.1  # how soon a key is answered
LOOK_S = 0.5  # and how soon the end of a session is noticed where there are no keys


def watch(
    session: Session,
    view: StatusView,
    duration_s: float | None = None,
    notes: SimpleQueue[str] | None = None,
) -> None:
    """Run a session, and show it, until the user or a signal ends it or the time is up.

    However it ends, and be it that the terminal is closed or the user logs out, the session is
    stopped in good order: recordings are finished, the virtual microphone is removed.

    Parameters
    ----------
    session, view
        What runs, and what shows it.
    duration_s
        How long; until it is ended if ``None``.
    notes
        What the session has to tell. It is shown from here: whoever reads may let a line wait, and
        sound must not wait for that.

    Raises
    ------
    UserError
        A device is not there, or its driver hangs.
    """
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        # The user asks twice: something hangs. Systems repeat the other signals without a reason.
        if stopped.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    told: SimpleQueue[str] = SimpleQueue() if notes is None else notes
    previous = {which: signal.signal(which, stop) for which in _signals()}
    try:
        with view, pressed_keys() as keys:
            try:
                session.start()
                _follow(session, view, keys, stopped, duration_s, told)
                status = session.status()
            finally:
                try:
                    session.stop()
                finally:  # also where that fails: a note may say where a recording was kept
                    _tell(told, view)
            view.end(status)
    except OSError as error:  # who read our lines has left, or the terminal was closed
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


def _signals() -> list[signal.Signals]:
    """Those that ask a program to end, on this system."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _follow(
    session: Session,
    view: StatusView,
    keys: Keys,
    stopped: threading.Event,
    duration_s: float | None,
    notes: SimpleQueue[str],
) -> None:
    tick_s = min(KEY_S if keys.listening else LOOK_S, view.period_s)
    shown_s = now = time.monotonic()
    end_s = math.inf if duration_s is None else now + duration_s
    while session.running and not stopped.wait(max(0.0, min(tick_s, end_s - now))):
        now = time.monotonic()
        _tell(notes, view)
        for key in keys.read():
            if key == "quit":
                return
            _turn(session, key)
            shown_s = 0.0
        if now - shown_s >= view.period_s - tick_s / 2:
            shown_s = now
            view.show(session.status())
        if now >= end_s:
            return


def _tell(notes: SimpleQueue[str], view: StatusView) -> None:
    while not notes.empty():
        view.note(notes.get())


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
