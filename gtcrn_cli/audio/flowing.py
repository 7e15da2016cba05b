"""Bytes that come and go through pipes: waited for, looked at ahead, kept, written whole.

Whoever made a pipe may have set it not to wait. Then a read that finds nothing is no end, and a
write that finds no room is no failure.
"""

from __future__ import annotations

import os
import select
import tempfile
from pathlib import Path
from typing import IO, BinaryIO, cast

IN_MEMORY_BYTES = 1 << 20  # of what is looked at ahead: more goes to a temporary file
PIECE_BYTES = 1 << 16


class Flow:
    """What comes from an unbuffered file, in the pieces in which it comes.

    Parameters
    ----------
    file
        Open for reading; a read of it returns what is there and does not wait for more.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before: IO[bytes] | None = None  # what was looked at, and is to come yet

    def read(self, count: int) -> bytes:
        """At most `count` bytes, at least one; none only at the end."""
        if self._before is not None:
            if data := self._before.read(count):
                return data
            self._before = None
        while True:
            # None where there is nothing yet, which the types of the library do not tell.
            some: bytes | None = self._file.read(count)
            if some is not None:
                return some
            select.select([self._file], [], [])

    def read_exactly(self, count: int) -> bytes:
        """As many bytes; fewer only at the end."""
        data = b""
        while len(data) < count and (more := self.read(count - len(data))):
            data += more
        return data

    def go_on_with(self, before: IO[bytes]) -> None:
        """Let the bytes of another file come before all else."""
        if self._before is not None:
            at = before.tell()
            before.seek(0, 2)
            while data := self._before.read(PIECE_BYTES):
                before.write(data)
            before.seek(at)
        self._before = before


class Ahead:
    """What is to come, to look at from any place, as far as it is asked for.

    Parameters
    ----------
    flow
        Where it comes from; left as it is by `give_back` only.
    start
        The place of the first byte.
    """

    def __init__(self, flow: Flow, start: int = 0) -> None:
        self._flow = flow
        self._seen: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="gtcrn-")  # noqa: SIM115
        self._seen.write(bytes(start))
        self._start = self._end = self._at = start

    def seek(self, offset: int) -> int:
        """Move to a place."""
        self._at = offset
        return offset

    def read(self, count: int) -> bytes:
        """The next bytes; fewer than `count` only at the end."""
        while self._end < self._at + count:
            data = self._flow.read(min(PIECE_BYTES, self._at + count - self._end))
            if not data:
                break
            self._seen.seek(self._end)
            self._seen.write(data)
            self._end += len(data)
        self._seen.seek(self._at)
        data = self._seen.read(count)
        self._at += len(data)
        return data

    def give_back(self, place: int | None = None) -> None:
        """Let the flow go on from `place`, or from the first byte."""
        self._seen.seek(self._start if place is None else place)
        self._flow.go_on_with(self._seen)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write to a file without a buffer, which may take only a part at once, or nothing yet.

    What a buffer still holds is written when it goes, even after a signal has ended the work: that
    would wait for ever where nobody reads.
    """
    left = memoryview(data)
    while left:
        written: int | None = file.write(left)
        if written is None:
            select.select([], [file], [])
        else:
            left = left[written:]


def temporary_file() -> IO[bytes]:
    """A file for as long as it is open. Where it can be opened again without one it has no name, so
    that nothing is left of it however this process ends.
    """
    if _open_files().is_dir():
        return tempfile.TemporaryFile(prefix="gtcrn-")
    return cast("IO[bytes]", tempfile.NamedTemporaryFile(prefix="gtcrn-"))


def path_of(file: IO[bytes]) -> Path | None:
    """A path by which an open file can be opened again, here and in processes that are started from
    here; ``None`` where the system has none.
    """
    path = _open_files() / str(file.fileno())
    if os.access(path, os.R_OK):
        return path
    # Windows opens no temporary file twice; and the name of stdin is a number.
    return Path(file.name) if isinstance(file.name, str) and os.name != "nt" else None


def _open_files() -> Path:
    """Where Linux has the open files of this process, by number."""
    return Path(f"/proc/{os.getpid()}/fd")
