"""Ogg and FLAC: where the recordings begin that a file may be joined from, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from .views import bytes_at, size_of

STEP_BYTES = 1 << 20  # read at once in a search
OGG_HEAD_BYTES = 27
IS_CONTINUED, IS_FIRST, IS_LAST = 1, 2, 4  # flags of an Ogg page
FLAC_BEGINS = tuple(b"fLaC" + bytes([last, 0, 0, 34]) for last in (0, 0x80))


@dataclass(frozen=True)
class Link:
    """One recording in a file.

    Attributes
    ----------
    start, end
        In bytes.
    is_cut
        Whether it ends within a page.
    has_end
        Whether an end mark is there.
    """

    start: int
    end: int
    is_cut: bool = False
    has_end: bool = True


def ogg_links(file: BinaryIO) -> list[Link]:
    """Walk through the pages of an Ogg file; a link begins where streams begin after pages that
    go on with others. Empty if there is no page.
    """
    end = size_of(file)
    links: list[Link] = []
    start: int | None = None
    beginning = False
    ended: set[int] = set()
    streams: set[int] = set()
    page_end = 0
    for at, size, flags, serial in _ogg_pages(file, end):
        if flags & IS_FIRST:
            if not beginning:
                if start is not None:
                    links.append(Link(start, at, False, streams <= ended))
                start, streams, ended = at, set(), set()
            beginning = True
            streams.add(serial)
        else:
            beginning = False
        if flags & IS_LAST:
            ended.add(serial)
        page_end = at + size
    tail = bytes_at(file, page_end, OGG_HEAD_BYTES)
    is_cut = page_end > end or (0 < len(tail) < OGG_HEAD_BYTES and b"OggS".startswith(tail[:4]))
    if start is not None:
        links.append(Link(start, end, is_cut, streams <= ended))
    return links


def _ogg_pages(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Place, size in bytes, flags and serial number of each page; damage is passed over."""
    at = 0
    while at + OGG_HEAD_BYTES <= end:
        head = bytes_at(file, at, OGG_HEAD_BYTES)
        if head[:4] != b"OggS":
            found = _search(file, at, end, (b"OggS",))
            if found is None:
                return
            at = found
            continue
        count = head[26]
        table = file.read(count)
        size = OGG_HEAD_BYTES + count + sum(table)
        if len(table) < count:
            size = end - at + 1  # not whole
        yield at, size, head[5], int.from_bytes(head[14:18], "little")
        at += size


def flac_links(file: BinaryIO) -> list[Link]:
    """Where FLAC streams begin in a file; the first may stand behind an ID3 tag."""
    end = size_of(file)
    starts = []
    at = _search(file, 0, end, FLAC_BEGINS)
    while at is not None:
        starts.append(at)
        at = _search(file, at + 42, end, FLAC_BEGINS)
    return [Link(start, stop) for start, stop in pairwise([*starts, end])]


def flac_length(file: BinaryIO, link: Link) -> tuple[int | None, dict[int, bytes]]:
    """The number of samples that STREAMINFO tells, and patches that make it unknown."""
    at = link.start + 21  # where the 36 bits are, behind 4 bits of another field
    data = bytes_at(file, at, 5)
    if len(data) < 5:
        return None, {}
    length = (data[0] & 0x0F) << 32 | int.from_bytes(data[1:], "big")
    return length or None, {at: bytes([data[0] & 0xF0, 0, 0, 0, 0])}


def _search(file: BinaryIO, start: int, end: int, words: tuple[bytes, ...]) -> int | None:
    """The first place of one of `words`, all of the same length."""
    overlap = len(words[0]) - 1
    while start < end:
        data = bytes_at(file, start, STEP_BYTES)
        found = [at for at in map(data.find, words) if at >= 0]
        if found:
            return start + min(found)
        if len(data) < STEP_BYTES:
            return None
        start += len(data) - overlap
    return None
