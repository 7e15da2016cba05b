"""A part of a file, with other words in its header, as a file that libsndfile can read."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import BinaryIO, Protocol

TAG_BYTES = 128  # decoders of MPEG look for tags in the last so many bytes


class Readable(Protocol):
    """What can be read from any place."""

    def seek(self, offset: int, /) -> int:
        """Move to a place, in bytes from the start."""
        ...

    def read(self, count: int, /) -> bytes:
        """The next bytes, at most `count`; fewer only at the end."""
        ...


class View:
    """Bytes of an open file from `start` to `end`, some of them replaced.

    Headers can be wrong about the length of what follows, and libsndfile reads no further than
    they say. A view puts them right for it, and the file stays as it is.

    Parameters
    ----------
    file
        Open, seekable, binary. Several views may share it.
    start, end
        In bytes.
    patches
        What to read instead, by its place in `file`.
    claimed_end
        Where the view says that it ends, if that is later than `end`: a decoder that guesses a
        length from the size of the file then reads to the true end. The last bytes before it are
        zeros.

    Attributes
    ----------
    trouble
        The error that the operating system had for a read, which counts as the end.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        end: int,
        patches: Mapping[int, bytes] | None = None,
        claimed_end: int | None = None,
    ) -> None:
        self._file = file
        self._start = start
        self._size = end - start
        self._claimed = max(self._size, (claimed_end or end) - start)
        self._patches = {at - start: new for at, new in (patches or {}).items()}
        self._patched_up_to = max((at + len(n) for at, n in self._patches.items()), default=0)
        self._position = 0
        self.trouble: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another place of the part, as `io.RawIOBase.seek` does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        """The place from which the next read begins."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as there is content; C calls it, so errors go to `trouble`."""
        at, wanted = self._position, len(buffer)
        count = max(0, min(wanted, self._size - at))
        if count:
            try:
                self._file.seek(self._start + at)
                data = self._file.read(count)
            except OSError as error:
                self.trouble = error
                return 0
            count = len(data)
            if at < self._patched_up_to:
                data = self._with_patches(data, at)
            buffer[:count] = data
        elif self._claimed > self._size and at >= self._claimed - TAG_BYTES:
            count = min(wanted, self._claimed - at)
            buffer[:count] = bytes(count)
        self._position += count
        return count

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def _with_patches(self, data: bytes, at: int) -> bytes:
        patched = bytearray(data)
        for place, new in self._patches.items():
            for i, byte in enumerate(new, place - at):
                if 0 <= i < len(patched):
                    patched[i] = byte
        return bytes(patched)


def size_of(file: BinaryIO | View) -> int:
    """In bytes; the position is lost."""
    return file.seek(0, io.SEEK_END)


def bytes_at(file: Readable, position: int, count: int) -> bytes:
    """`count` bytes of a buffered file, fewer at its end."""
    file.seek(position)
    return file.read(count)
