"""Bit rates of MP3, Vorbis and Opus: what a file has, and how libsndfile is told to make the same.

libsndfile knows one number, the compression level, from 0 to 1. What it makes of it: for MP3 and
Opus a straight line between two bit rates, for Vorbis a quality, to which the encoder tells a
nominal bit rate.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

LOSSY = ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS")
_MP3, _MP3_LOW, _MP3_LOWEST = (32_000, 320_000), (8_000, 160_000), (8_000, 64_000)
_MP3_TAG_BYTES = 192
_OPUS = (6_000, 256_000)  # of a channel
_VORBIS_STEPS = 7  # halvings of the range of levels: to a hundredth


def of_file(path: Path, subtype: str) -> int:
    """The bit rate of a file in bit/s, as its header or its size tells it; 0 if neither does."""
    from mutagen import MutagenError

    try:
        return _of_file(path, subtype)
    except MutagenError:
        return 0


def _of_file(path: Path, subtype: str) -> int:
    from mutagen import mp3, oggopus, oggvorbis

    file: Any
    if subtype == "OPUS":
        file = oggopus.OggOpus(path)
        seconds = file.info.length
        return round(path.stat().st_size * 8 / seconds) if seconds else 0
    file = oggvorbis.OggVorbis(path) if subtype == "VORBIS" else mp3.MP3(path)
    return int(file.info.bitrate)


def options(subtype: str, sample_rate: int, channels: int, bit_rate: int) -> dict[str, Any]:
    """What `soundfile.SoundFile` has to be told for such a bit rate; nothing for 0."""
    if bit_rate == 0 or subtype not in LOSSY:
        return {}
    if subtype == "VORBIS":
        return {"compression_level": _vorbis_level(sample_rate, channels, bit_rate)}
    if subtype == "OPUS":
        return {"compression_level": _level(bit_rate / channels, *_OPUS)}
    level = _level(bit_rate, *_mp3_range(sample_rate))
    # Frames too small for the tag that tells delay and length get none: the average will do then.
    frame = (144 if sample_rate > 24_000 else 72) * bit_rate / sample_rate
    mode = "CONSTANT" if frame >= _MP3_TAG_BYTES else "AVERAGE"
    return {"compression_level": level, "bitrate_mode": mode}


def nearest(subtype: str, sample_rate: int, channels: int, bit_rate: int) -> int:
    """The bit rate in bit/s of those that the encoder has, for which it is told this one."""
    if subtype == "VORBIS":
        level = _vorbis_level(sample_rate, channels, bit_rate)
        return _vorbis_nominal(sample_rate, channels, level)
    lowest, highest = _mp3_range(sample_rate)
    if subtype == "OPUS":
        lowest, highest = (channels * bound for bound in _OPUS)
    return min(max(bit_rate, lowest), highest)


def _mp3_range(sample_rate: int) -> tuple[int, int]:
    return _MP3 if sample_rate > 24_000 else _MP3_LOW if sample_rate >= 16_000 else _MP3_LOWEST


def _level(bit_rate: float, lowest: int, highest: int) -> float:
    return float(np.clip((highest - bit_rate) / (highest - lowest), 0, 0.999))


def _vorbis_level(sample_rate: int, channels: int, bit_rate: int) -> float:
    """The level at which the encoder names this bit rate, by trying."""
    low, high = 0.0, 1.0
    for _ in range(_VORBIS_STEPS):
        middle = (low + high) / 2
        if _vorbis_nominal(sample_rate, channels, middle) > bit_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _vorbis_nominal(sample_rate: int, channels: int, level: float) -> int:
    """What the header of a Vorbis file of that level says (specification I, 4.2.2)."""
    data = io.BytesIO()
    with soundfile.SoundFile(
        data, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=level
    ) as file:
        file.write(np.zeros((64, channels), np.float32))
    header = data.getvalue()
    at = header.index(b"\x01vorbis") + 20
    return int.from_bytes(header[at : at + 4], "little")
