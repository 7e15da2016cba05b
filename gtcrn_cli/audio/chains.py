"""Ogg and FLAC: where the recordings begin that a file may be joined from, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
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


def is_same_ogg(one: Path, other: Path) -> bool:
    """Whether two Ogg files are the same but for the numbers of their streams, which are drawn at
    random whenever one is written, and the checksums in which those are.
    """
    with one.open("rb") as first, other.open("rb") as second:
        pages = [_ogg_pages(file, size_of(file)) for file in (first, second)]
        same_so_far = 0
        for page, like in zip_longest(*pages):
            if page is None or like is None or page[:2] != like[:2] or page[0] != same_so_far:
                return False
            at, size, *_ = page
            if _without_numbers(first, at, size) != _without_numbers(second, at, size):
                return False
            same_so_far += size
        return size_of(first) == size_of(second) == same_so_far > 0


def _without_numbers(file: BinaryIO, at: int, size: int) -> bytes:
    page = bytes_at(file, at, size)
    return page[:14] + page[18:22] + page[26:]


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
    """The number of samples that STREAMINFO tells, and patches that make it unknown.

    What ffmpeg cuts into segments keeps the numbers of its frames, and the last segment's header
    counts from the first: so what comes before the first frame is taken off.
    """
    at = link.start + 21  # where the 36 bits are, behind 4 bits of another field
    info = bytes_at(file, link.start + 8, 34)
    if len(info) < 34:
        return None, {}
    length = (info[13] & 0x0F) << 32 | int.from_bytes(info[14:18], "big")
    first = _first_flac_sample(file, link, int.from_bytes(info[:2], "big"))
    patches = {at: bytes([info[13] & 0xF0, 0, 0, 0, 0])}
    return length - first if length > first else None, patches


def _first_flac_sample(file: BinaryIO, link: Link, block_size: int) -> int:
    """The number of the first sample of the first frame (RFC 9639, sections 8.1 and 9.1)."""
    at = link.start + 4
    while at < link.end:
        head = bytes_at(file, at, 4)
        if len(head) < 4:
            return 0
        at += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            break
    frame = bytes_at(file, at, 11)
    if len(frame) < 11 or frame[0] != 0xFF or frame[1] & 0xFE != 0xF8:
        return 0
    number, more = frame[4], 0  # coded as UTF-8 codes characters, up to 36 bits
    while more < 7 and number & 0x80 >> more:
        more += 1
    number &= 0x7F >> more
    for byte in frame[5 : 4 + more]:
        number = number << 6 | byte & 0x3F
    return number if frame[1] & 1 else number * block_size


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
