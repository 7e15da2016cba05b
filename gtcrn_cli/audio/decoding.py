"""From an open sound file to samples, without a seek between.

`soundfile.SoundFile.read` seeks to where it is after each call. What seems idle is not, where a
decoder remembers: MP3 loses the bits that earlier frames left for later ones, FLAC of unknown
length and Opus without an end mark cannot seek near their end. So libsndfile's read function is
called as it is, through soundfile's own handle; soundfile has no name for that.
"""

from __future__ import annotations

import os
from pathlib import Path

import soundfile

from ..signals import Samples

UNKNOWN_FRAMES = 1 << 62  # libsndfile's count where it does not know is above this
BITE = 4096  # samples read at once: what a decoder that fails has not handed over is lost

# Formats in which every sample has a place of its own, so that seeking is exact. In FLAC it fails
# where the length is unknown, in Ogg Vorbis, PAF and SDS it goes astray.
SEEKABLE_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "RAW")
SEEKABLE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


def fill(file: soundfile.SoundFile, block: Samples) -> tuple[int, str | None]:
    """Read the next samples ``[N, C]``; fewer than there is room for only where there are no more.

    N is a multiple of `BITE`: libsndfile's reader of SDS loses samples over smaller pieces.

    Returns
    -------
    Samples read, and what libsndfile said first of what went wrong, if anything did: a decoder that
    meets with damage may have left something out and gone on behind it.
    """
    trouble: str | None = None
    for start in range(0, len(block), BITE):
        bite = block[start : start + BITE]
        pointer = soundfile._ffi.from_buffer("float[]", bite)
        count = int(soundfile._snd.sf_readf_float(file._file, pointer, len(bite)))
        trouble = trouble or _last_trouble(file)  # the next read forgets it
        if count < len(bite):
            return start + max(0, count), trouble
    return len(block), trouble


def _last_trouble(file: soundfile.SoundFile) -> str | None:
    code = soundfile._snd.sf_error(file._file)
    return reason(soundfile.LibsndfileError(code)) if code else None


def frames(file: soundfile.SoundFile) -> int | None:
    """Samples by the header or the library's reckoning; ``None`` if it has none."""
    count: int = file.frames
    return count if 0 <= count < UNKNOWN_FRAMES else None


def reason(error: Exception) -> str:
    """libsndfile's own words without the prefix that soundfile adds."""
    text = getattr(error, "error_string", None) or str(error) or "the write came out short"
    return text.removeprefix("Error :").strip().rstrip(".")


def as_is(path: str | Path) -> str | bytes:
    """A name for soundfile, which encodes only names that are valid text."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)
