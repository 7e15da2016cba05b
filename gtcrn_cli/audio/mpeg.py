"""Frames of MPEG audio: where they begin, how many there are, and what a Xing header says of it.

Tables and layouts: ISO/IEC 11172-3 section 2.4.2.3 and 13818-3; Xing headers as LAME writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from .views import Readable, bytes_at, size_of

# kbit/s, by version (1, or 2 with 2.5) and layer
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = (44_100, 48_000, 32_000)
ADTS = (b"\xf0", b"\xf1", b"\xf8", b"\xf9")  # second bytes of the frames of AAC
CONFIRMED_BY = 4  # frames in a row that are no accident
SNIFFED_BYTES = 1 << 16  # in which the first frame must be
ENDINGS = (".mp1", ".mp2", ".mp3", ".mpa", ".mpga")
PASSED_BYTES = 512  # of no sound that decoders get over by themselves
MOST_TRIMMED = 2 * 4_096 + 1_152  # samples that a LAME header may take off: 12 bits at each end
HEAD_BYTES = 52  # of a frame, up to and with the number of frames in a Xing header


@dataclass(frozen=True)
class Header:
    """What the four bytes of a frame say."""

    layer: int
    sample_rate: int
    channels: int
    size: int  # bytes with the header
    samples: int
    side_bytes: int  # of layer III, before what a Xing header takes the place of


@dataclass(frozen=True)
class Run:
    """Frames that belong together: one recording, of the several that a file may be joined from.

    Attributes
    ----------
    start, end
        In bytes.
    samples
        In all its frames.
    promised
        Samples that its Xing header tells before it takes off what the encoder added; ``None``
        without one.
    is_cut
        Whether the last frame is not whole.
    damaged
        Bytes before it or in it, and after the last, that are neither frames nor tags.
    """

    start: int
    end: int
    samples: int
    promised: int | None
    is_cut: bool
    damaged: int = 0


def parse(data: bytes) -> Header | None:
    """The header of a frame, or ``None`` where these bytes are none. Free format is not known."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = data[1] >> 3 & 3, data[1] >> 1 & 3
    rate_index, bit_rate_index = data[2] >> 2 & 3, data[2] >> 4
    if version_bits == 1 or layer_bits == 0 or rate_index == 3 or not 0 < bit_rate_index < 15:
        return None
    version, layer = 1 if version_bits == 3 else 2, 4 - layer_bits
    sample_rate = _SAMPLE_RATES[rate_index] >> (3 - version_bits if version_bits else 2)
    bit_rate = 1000 * _BIT_RATES[version, layer][bit_rate_index - 1]
    padding = data[2] >> 1 & 1
    channels = 1 if data[3] >> 6 == 3 else 2
    if layer == 1:
        return Header(
            1, sample_rate, channels, 4 * (12 * bit_rate // sample_rate + padding), 384, 0
        )
    samples = 576 if (version, layer) == (2, 3) else 1152
    size = samples // 8 * bit_rate // sample_rate + padding
    side = (32 if channels == 2 else 17) if version == 1 else (17 if channels == 2 else 9)
    return Header(layer, sample_rate, channels, size, samples, side)


def find(file: BinaryIO, start: int, end: int, within: int | None = None) -> int | None:
    """The first place from which several frames follow each other, up to `end`.

    It is looked for in the first `within` bytes; ``None`` if there is none.
    """
    stop = end if within is None else min(end, start + within)
    while start < stop:
        data = bytes_at(file, start, min(stop - start, SNIFFED_BYTES))
        at = data.find(0xFF)
        while at >= 0:
            if _is_confirmed(file, start + at, end):
                return start + at
            at = data.find(0xFF, at + 1)
        start += max(1, len(data))
    return None


def _is_confirmed(file: BinaryIO, at: int, end: int) -> bool:
    first = header = parse(bytes_at(file, at, 4))
    for _ in range(CONFIRMED_BY - 1):
        if header is None or first is None:
            return False
        if (header.layer, header.sample_rate) != (first.layer, first.sample_rate):
            return False
        at += header.size
        if at + 4 > end:
            return at <= end and header is not first  # the file ends with a frame
        header = parse(bytes_at(file, at, 4))
    return header is not None


def is_mpeg(file: BinaryIO, name: str) -> bool:
    """Whether a file begins with frames of MPEG audio, or with the rest of one and then frames.

    Of a file that is called so, more may come before them.
    """
    begun = bytes_at(file, 0, 2)
    if begun == b"\x0b\x77" or (begun[:1] == b"\xff" and begun[1:] in ADTS):  # AC-3, AAC
        return False
    end = size_of(file)
    start = after_tags(file, 0, end)
    named = Path(name).suffix.lower() in ENDINGS
    return find(file, start, end, SNIFFED_BYTES if named else 4_096) is not None


def runs(file: BinaryIO) -> list[Run]:
    """Walk through all frames of a file; empty where there are none."""
    end = _before_end_tags(file, size_of(file))
    found: list[Run] = []
    begin = after_tags(file, 0, end)
    at = find(file, begin, end)
    while at is not None:
        run = _run(file, at, end, at - begin if found else 0)
        found.append(run)
        begin = after_tags(file, run.end, end)
        at = find(file, begin, end)
    if found and begin < end:
        found[-1] = replace(found[-1], damaged=found[-1].damaged + end - begin)
    return found


def _run(file: BinaryIO, start: int, end: int, damaged: int) -> Run:
    """Frames from `start` to the end, or to where another recording begins."""
    first = parse(bytes_at(file, start, 4))
    assert first is not None
    at, samples, promised = start, 0, None
    frames = _xing_frames(bytes_at(file, start, HEAD_BYTES), first)
    if frames is not None:
        promised, at = frames * first.samples, start + first.size
    read, seek = file.read, file.seek
    known: dict[bytes, Header | None] = {}
    while at + 4 <= end:
        seek(at)
        data = read(HEAD_BYTES)
        word = data[:4]
        if word in known:
            header = known[word]
        else:
            header = parse(word)
            if header and (header.layer, header.sample_rate) != (first.layer, first.sample_rate):
                header = None
            known[word] = header
        if header is None:
            place = None if _is_tag(data) else find(file, at, end, PASSED_BYTES)
            if place is None or place == at:
                break
            damaged += place - at
            at = place
            continue
        if at + header.size > end:
            return Run(start, end, samples, promised, True, damaged)
        if _xing_frames(data, header) is not None and at > start:
            break
        if samples == promised:  # more than it should have: another recording, or a wrong header
            if _stands_alone(data, header):
                break
            start, promised = start + first.size, None
        at += header.size
        samples += header.samples
    return Run(start, at, samples, promised, False, damaged)


def _xing_frames(frame: bytes, header: Header) -> int | None:
    """The number of frames that a Xing or Info header tells; ``None`` if this frame is none."""
    at = 4 + header.side_bytes
    if header.layer != 3 or frame[at : at + 4] not in (b"Xing", b"Info"):
        return None
    if len(frame) < at + 12 or not frame[at + 7] & 1:
        return None
    return int.from_bytes(frame[at + 8 : at + 12], "big")


def _stands_alone(frame: bytes, header: Header) -> bool:
    """Whether a frame needs no bits of earlier ones: `main_data_begin` is 0."""
    at = 4 if frame[1] & 1 else 6  # behind the checksum
    short = header.samples == 576  # 8 bits there, else 9
    return header.layer != 3 or (frame[at] == 0 and (short or frame[at + 1] & 0x80 == 0))


def _is_tag(data: bytes) -> bool:
    return data[:3] in (b"ID3", b"TAG") or data[:8] == b"APETAGEX"


def after_tags(file: Readable, at: int, end: int) -> int:
    """Past the tags that may stand before frames: ID3 of either version, APE."""
    while at < end:
        head = bytes_at(file, at, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = 0
            for byte in head[6:10]:
                size = size << 7 | byte & 0x7F
            at += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            at += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            at += int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
        else:
            return at
    return end


def _before_end_tags(file: BinaryIO, end: int) -> int:
    """Before the ID3 or APE tag that may end a file."""
    if end >= 128 and bytes_at(file, end - 128, 3) == b"TAG":
        end -= 128
    footer = bytes_at(file, end - 32, 32) if end >= 32 else b""
    if footer[:8] == b"APETAGEX":
        size = int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
        end = max(0, end - size)
    return end
