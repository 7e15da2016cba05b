"""A session from its start to its end, with keys, signals and a view."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from .keys import Keys, pressed_keys
from .views import View

if TYPE_CHECKING:
    from .session import Session


STRENGTH_STEP = 0.05


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
