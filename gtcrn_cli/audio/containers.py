"""What the headers of PCM containers promise, held against what is there.

The sizes in WAV, RF64, W64, AIFF, AU, CAF and 8SVX are written last. A recorder that died, or that
wrote to a pipe, leaves them at nothing or at a value that means "to the end"; a copy that broke off
leaves them true, and the sound short. libsndfile believes some of them and mends others, without
a word about either.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from . import mpeg
from .views import Readable, View, bytes_at, size_of

# Chunks that come after the sound. What does not fit the file is still one of these by its name.
TRAILERS = frozenset(
    b"LIST bext iXML smpl JUNK PEAK fact NAME AUTH ANNO COMT MARK INST APPL info pakt".split()
) | {b"cue ", b"id3 ", b"ID3 ", b"(c) "}
RIFFS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")
KINDS = (b"WAVE", b"AIFF", b"AIFC", b"8SVX", b"16SV")
MOST_CHUNKS = 10_000
LONGEST_HEAD = 1 << 20  # bytes before the sound of an AU
FAR_END = 1 << 60  # bytes: of what has no end yet
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
LONGEST_32 = 0xFFFF_FFF0 - 4096  # bytes of sound that a header with sizes of 32 bits can tell


@dataclass
class Layout:
    """Where the sound of a file is, and how much.

    Attributes
    ----------
    data_at
        The first byte of sound.
    promised
        Bytes of sound by the header; ``None`` where it says "to the end" or nothing.
    there
        Bytes of sound.
    patches
        New header fields that say how much there is, by their places.
    odd
        What a user should know, in words that go after the name of the file.
    fits
        Whether the header's fields can tell the length at all.
    next_at
        Where another recording begins, of those that a file may be joined from.
    """

    data_at: int
    promised: int | None
    there: int
    patches: dict[int, bytes] = field(default_factory=dict)
    odd: str | None = None
    fits: bool = True
    next_at: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether there is less sound than the header promises."""
        return self.promised is not None and self.there < self.promised


@dataclass(frozen=True)
class _Field:
    """A size in a header, and what it counts besides the sound."""

    at: int
    kind: str  # as `struct` has it
    extra: int = 0

    def patch(self, sound: int) -> dict[int, bytes]:
        most = (1 << 8 * struct.calcsize(self.kind) - ("q" in self.kind)) - 1
        return {self.at: struct.pack(self.kind, min(sound + self.extra, most))}


def measure(file: BinaryIO | View) -> Layout | None:
    """What the header of an open file says; ``None`` where it is no such container."""
    size = size_of(file)
    begun = bytes_at(file, 0, 40)
    if begun[:4] in RIFFS[:4] and begun[8:12] == b"WAVE":
        return _wave(file, size, ">" if begun[:4] == b"RIFX" else "<")
    if begun[:16] == W64_RIFF:
        return _w64(file, size)
    if begun[:4] == b"FORM" and begun[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _iff(file, size)
    if begun[:4] in (b".snd", b"dns."):
        return _au(file, begun, size)
    if begun[:4] == b"caff":
        return _caf(file, size)
    return None


def _chunks(
    file: BinaryIO | View, size: int, start: int, head: str, name_bytes: int = 4
) -> Iterator[tuple[bytes, int, int]]:
    """Chunks of a file: name, place of the content and its size, until there are no more."""
    width = name_bytes + struct.calcsize(head)
    at = start
    for _ in range(MOST_CHUNKS):
        data = bytes_at(file, at, width)
        if len(data) < width:
            return
        (count,) = struct.unpack(head, data[name_bytes:])
        yield data[:name_bytes], at + width, count
        if name_bytes == 16:  # W64 counts the head, and rounds up to 8
            at += max(24, count + -count % 8)
        else:
            at += width + max(0, count) + (count % 2 if head[-1] == "I" else 0)
        if at >= size:
            return


def _wave(file: BinaryIO | View, size: int, order: str) -> Layout | None:
    long_at = None  # of the sizes that RF64 has beside those of RIFF
    for name, at, count in _chunks(file, size, 12, f"{order}I"):
        if name == b"ds64":
            long_at = at
        elif name == b"data":
            fields = [_Field(4, f"{order}I", at - 8), _Field(at - 4, f"{order}I")]
            promised = None if _is_placeholder_32(count) else count
            if long_at is not None and count == 0xFFFF_FFFF:
                (promised,) = struct.unpack("<Q", bytes_at(file, long_at + 8, 8).ljust(8, b"\0"))
                promised = None if _is_placeholder_64(promised) else promised
                fields = [_Field(long_at, "<Q", at - 8), _Field(long_at + 8, "<Q")]
            return _judge(file, size, at, promised, fields, f"{order}I")
    return None


def _w64(file: BinaryIO | View, size: int) -> Layout | None:
    for name, at, count in _chunks(file, size, 40, "<q", 16):
        if name == W64_DATA:
            promised = None if count in (0, 24) or _is_placeholder_64(count) else count - 24
            fields = [_Field(16, "<q", at), _Field(at - 8, "<q", 24)]
            return _judge(file, size, at, promised, fields, "")
    return None


def _iff(file: BinaryIO | View, size: int) -> Layout | None:
    """AIFF, AIFF-C and 8SVX; the first two also count samples, in the chunk COMM."""
    fields = [_Field(4, ">I")]
    for name, at, count in _chunks(file, size, 12, ">I"):
        if name == b"COMM":
            fields.append(_Field(at + 2, ">I"))
        elif name in (b"SSND", b"BODY"):
            inner = 8 if name == b"SSND" else 0  # offset and block size come before the sound
            frames = [f for f in fields if f.at != 4]
            counted = any(bytes_at(file, frames[0].at, 4)) if frames else True
            promised = None if _is_placeholder_32(count) or count < inner else count - inner
            if promised == 0 or not counted:
                promised = None if size > at + inner else 0
            sizes = [_Field(4, ">I", at + inner - 8), _Field(at - 4, ">I", inner)]
            layout = _judge(file, size, at + inner, promised, sizes, ">I")
            if layout.patches:  # libsndfile takes the smaller of the two counts
                layout.patches |= {f.at: b"\x7f\xff\xff\xff" for f in frames}
            return layout
    return None


def _au(file: BinaryIO | View, begun: bytes, size: int) -> Layout | None:
    order = ">" if begun[:4] == b".snd" else "<"
    if len(begun) < 24:
        return None
    at, count = struct.unpack(f"{order}II", begun[4:12])
    there = max(0, size - at)
    if count == 0xFFFF_FFFF:  # "unknown" is a value of this format, and nothing odd
        return Layout(at, None, there)
    if count == 0 and there:
        odd = "the header of the input says that it is empty: all that follows is read"
        return Layout(at, None, there, {8: b"\xff\xff\xff\xff"}, odd)
    next_at = _next_recording(file, at + count, f"{order}I") if there > count else None
    if next_at is None and there > count and _past_zeros(file, at + count) is not None:
        odd = "there is more sound in the input than its header says: all of it is read"
        return Layout(at, None, there, {8: b"\xff\xff\xff\xff"}, odd)
    return Layout(at, count, min(count, there), next_at=next_at)


def _caf(file: BinaryIO | View, size: int) -> Layout | None:
    for name, at, count in _chunks(file, size, 8, ">q"):
        if name == b"data":
            there = max(0, size - at - 4)
            true_size = _Field(at - 8, ">q", 4)
            if count == -1:  # "to the end" is a value of this format, and nothing odd
                return Layout(at + 4, None, there, true_size.patch(there))
            promised = None if count in (0, 4) else count - 4
            layout = _judge(file, size, at + 4, promised, [true_size], ">q")
            if layout.is_short:  # libsndfile would refuse it
                layout.patches = true_size.patch(there)
            return layout
    return None


def _is_placeholder_32(count: int) -> bool:
    """What writers put that cannot seek back: near to 2 GB, near to 4 GB. 0 is asked elsewhere."""
    return 0x7FFF_F000 <= count <= 0x8000_0100 or count >= 0xFFFF_F000


def _is_placeholder_64(count: int) -> bool:
    return not 0 < count < 1 << 62


def _judge(
    file: BinaryIO | View,
    size: int,
    data_at: int,
    promised: int | None,
    fields: list[_Field],
    head: str,
) -> Layout:
    """Hold a promise against the file; `head` is how the chunks are that may follow."""
    rest = max(0, size - data_at)
    if promised is not None and promised > rest:
        return Layout(data_at, promised, rest)
    if rest == 0:
        return Layout(data_at, promised, 0)
    if promised is not None:
        padding = FAR_END if promised else 0
        is_end, next_at = after_sound(file, data_at + promised, head, padding)
        if is_end or promised == rest:
            return Layout(data_at, promised, promised, next_at=next_at)
    if promised:
        odd = "there is more sound in the input than its header says: all of it is read"
    else:
        odd = "the header of the input does not tell its length: all that follows is read"
    layout = Layout(data_at, None, rest, {}, odd)
    layout.fits = rest <= LONGEST_32 or all("q" in one.kind.lower() for one in fields)
    for one in fields:
        layout.patches |= one.patch(rest)
    return layout


def after_sound(
    file: Readable, at: int, head: str = "<I", padding: int = FAR_END
) -> tuple[bool, int | None]:
    """What stands behind as much sound as a header promises.

    Nothing is read beyond what has to be known for that, so `file` may be what comes of a stream.

    Parameters
    ----------
    file, at
        Where that sound ends.
    head
        How the sizes of chunks are, as `struct` has it; empty for W64.
    padding
        So many zeros at most are no sound: none where no sound came before, and few in a stream,
        which waits for what comes behind them.

    Returns
    -------
    Whether it is the end, or chunks, tags or padding, and no sound; and where another recording
    begins, of those that the file is joined from.
    """
    next_at = _next_recording(file, at, head, padding)
    return next_at is not None or _is_trailer(file, at, head, padding), next_at


def _next_recording(file: Readable, at: int, head: str, padding: int = FAR_END) -> int | None:
    """Where another file of these kinds begins, at `at` or behind chunks, tags and padding."""
    step = 2 if head else 8  # to which places chunks are filled up
    for _ in range(MOST_CHUNKS):
        for start in (at, at + -at % step):
            if _begins_recording(bytes_at(file, start, 40)):
                return start
        following = _past_chunk(file, at, head)
        if following is None:
            following = _past_zeros(file, at, padding)
        if following is None or following <= at:
            return None
        at = following
    return None


def _begins_recording(begun: bytes) -> bool:
    if begun[:4] in RIFFS:
        return begun[8:12] in KINDS
    if begun[:4] in (b".snd", b"dns."):
        order = ">" if begun[:4] == b".snd" else "<"
        return len(begun) >= 24 and 24 <= struct.unpack(f"{order}I", begun[4:8])[0] < LONGEST_HEAD
    return begun[:16] == W64_RIFF or begun[:8] == b"caff\0\1\0\0"


def _past_chunk(file: Readable, at: int, head: str) -> int | None:
    """Where a chunk or a tag ends that is here; ``None`` where there is none."""
    if not head:
        return _past_w64_chunk(file, at + -at % 8)
    for start in (at + 1, at) if at % 2 else (at,):
        data = bytes_at(file, start, 4)
        if data[:3] == b"TAG" or data == b"APET" or (data[:3] == b"ID3" and data[3] < 0x10):
            return mpeg.after_tags(file, start, FAR_END)
        if (end := _end_of_chunk(file, start, head)) is not None:
            return end
    return None


def _end_of_chunk(file: Readable, at: int, head: str) -> int | None:
    """Where the chunk ends that is here; ``None`` where there is none, or not all of it."""
    width = 4 + struct.calcsize(head)
    data = bytes_at(file, at, width)
    if len(data) < width or not _is_printable(data[:4]):
        return None
    (count,) = struct.unpack(head, data[4:])
    end: int = at + width + count
    return end if count == 0 or (count > 0 and bytes_at(file, end - 1, 1)) else None


def _past_w64_chunk(file: Readable, at: int) -> int | None:
    data = bytes_at(file, at, 24)
    if len(data) < 24 or not _is_printable(data[:4]):
        return None
    (count,) = struct.unpack("<q", data[16:])
    return at + count + -count % 8 if 24 <= count < FAR_END else None


def _is_trailer(file: Readable, at: int, head: str, padding: int) -> bool:
    """Whether chunks, tags or padding begin here, and no sound."""
    if not head:  # W64: whatever is there
        return True
    width = 4 + struct.calcsize(head)
    for start in (at + 1, at) if at % 2 else (at,):
        data = bytes_at(file, start, width)
        if len(data) < width or _is_trailer_name(data[:4]) or _end_of_chunk(file, start, head):
            return True
    return _past_zeros(file, at, padding) is None


def _is_trailer_name(name: bytes) -> bool:
    return name in TRAILERS or name[:3] in (b"TAG", b"ID3") or name == b"APET"


def _is_printable(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name)


def _past_zeros(file: Readable, at: int, most: int = FAR_END) -> int | None:
    """Where the first byte is that is no zero, from `at` on; ``None`` if there is none.

    `at` itself, too, where there are more than `most` zeros.
    """
    begin, count = at, 64  # few to begin with: most often the first of them is none
    while data := bytes_at(file, at, min(count, begin + most + 1 - at)):
        zeros = len(data) - len(data.lstrip(b"\0"))
        at += zeros
        if at - begin > most:
            return begin
        if zeros < len(data):
            return at
        count = min(2 * count, 1 << 16)
    return None
