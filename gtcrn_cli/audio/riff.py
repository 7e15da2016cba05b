"""What a WAV holds besides its sound: broadcast facts, markers, loops, text.

It goes along as it is. Length and start of the sound stay, so markers and time references stay
true.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# What describes the samples as they are laid down, or only fills: the output has its own.
OWN = frozenset((b"fmt ", b"data", b"fact", b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64", b"PEAK"))
OF_LEVELS = frozenset((b"levl", b"wavl", b"slnt"))  # pictures of the old samples: wrong now
MOST_CHUNKS = 1000
LONGEST = 256 << 20  # bytes of one chunk: a longer one is damage
LARGEST_32 = 0xFFFF_FFFF


class Chunk(NamedTuple):
    """A piece of a RIFF file: its name, and where its content is."""

    name: bytes
    at: int
    size: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Those of a WAV or RF64, as far as they make sense; none of another file."""
    file.seek(0, 2)
    end = file.tell()
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    at, data_size = 12, None
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"ds64":
            data_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"data" and size == LARGEST_32 and data_size is not None:
            size = data_size
        if at + 8 + size > end or not all(0x20 <= byte < 0x7F for byte in name):
            return
        if name in (b"RIFF", b"RF64", b"BW64", b"FORM"):
            return  # another recording, of those that the file is joined from
        yield Chunk(name, at + 8, size)
        at += 8 + size + size % 2


def extras(path: Path) -> list[Chunk]:
    """What there is in a WAV besides its sound."""
    with path.open("rb") as file:
        return [chunk for chunk in chunks(file) if chunk.name not in OWN]


def copy_extras(source: Path, target: Path) -> list[str]:
    """Append what is besides the sound in one WAV to another; says what had to be left out."""
    found = extras(source)
    left_out = [chunk for chunk in found if chunk.name in OF_LEVELS or chunk.size > LONGEST]
    kept = [chunk for chunk in found if chunk not in left_out]
    if kept:
        with source.open("rb") as old, target.open("r+b") as new:
            room = LARGEST_32 if new.read(4) == b"RIFF" else 1 << 62
            new.seek(0, 2)
            new.write(b"\0" * (new.tell() % 2))
            for chunk in kept:
                if new.tell() + chunk.size + 16 > room:
                    left_out.append(chunk)
                    continue
                new.write(chunk.name + struct.pack("<I", chunk.size))
                old.seek(chunk.at)
                shutil.copyfileobj(_Section(old, chunk.size), new)
                new.write(b"\0" * (chunk.size % 2))
            _write_size(new)
    return said(left_out)


def contents(path: Path, kept: list[Chunk]) -> Iterator[bytes]:
    """These chunks of a file, as they are laid down."""
    with path.open("rb") as file:
        for chunk in kept:
            file.seek(chunk.at)
            yield chunk.name + struct.pack("<I", chunk.size) + file.read(chunk.size)
            yield bytes(chunk.size % 2)


def said(left_out: list[Chunk]) -> list[str]:
    """One note on what does not go along."""
    names = sorted({chunk.name.decode("ascii").strip() for chunk in left_out})
    return [f"left out of the output: the chunks {', '.join(names)}"] if names else []


def _write_size(file: BinaryIO) -> None:
    """Let the header of a WAV or RF64 tell how long the file is now."""
    size = file.seek(0, 2) - 8
    file.seek(0)
    if file.read(4) == b"RIFF":
        file.seek(4)
        file.write(struct.pack("<I", size))
    else:  # in the first field of its ds64 chunk
        file.seek(20)
        file.write(struct.pack("<Q", size))


class _Section:
    """So many bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
