"""The keys pressed while a session runs, by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


class Keys:
    """The keys pressed on a terminal; none where there is no terminal."""

    def __init__(self, file: int | None = None) -> None:
        self._file = file

    @property
    def listening(self) -> bool:
        """Whether there is a terminal."""
        return self._file is not None

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
    """The keys pressed in a Windows console."""

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
