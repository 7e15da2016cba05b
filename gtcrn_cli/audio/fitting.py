"""Formats that hold not every sample rate, and lossy ones that libsndfile reads but cannot write.

Some formats keep a sample rate as a whole number of microseconds, in 16 bits or not at all; then
libsndfile writes a file without a complaint that plays at another speed.
"""

from __future__ import annotations

import io
from dataclasses import replace
from types import TracebackType

import numpy as np
import soundfile
import soxr

from ..errors import UserError
from ..signals import Samples
from .formats import WAV_FAMILY, Encoding
from .streams import Sink

OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz, rising; RFC 6716, section 2
OPUS_RATE = 48_000  # of everything else
RATE_TOLERANCE = 1e-4  # a tenth of a second in a quarter of an hour
# What holds every rate: not worth a probe.
ANY_RATE = (*WAV_FAMILY, "AIFF", "AU", "CAF", "FLAC", "MP3", "OGG", "RAW", "W64")


def fit(
    name: str, encoding: Encoding, sample_rate: int, *, asked: bool
) -> tuple[Encoding, int, list[str]]:
    """An encoding and sample rate that can be written, and what a user should know of it.

    Parameters
    ----------
    name
        Of the output, for messages.
    encoding
        What is wanted.
    sample_rate
        In Hz; of the samples to come.
    asked
        Whether the user has asked for the subtype, and it is not only the input's.

    Raises
    ------
    UserError
        The format would play the sound at another speed; or the subtype cannot be written.
    """
    if encoding.subtype.startswith("MPEG") and encoding.format in WAV_FAMILY:
        if asked:
            raise UserError(f"{name}: no MP3 is written inside WAV: name it .mp3, or use PCM_16")
        notes = ["no MP3 is written inside WAV: the output is PCM_16 (name it .mp3 to have MP3)"]
        return replace(encoding, subtype="PCM_16", bit_rate=0), sample_rate, notes
    if encoding.subtype == "OPUS" and sample_rate not in OPUS_RATES:
        return encoding, OPUS_RATE, [f"Opus holds no {sample_rate} Hz: written at {OPUS_RATE} Hz"]
    if encoding.format not in ANY_RATE:
        read_as = _rate_read_back(encoding, sample_rate)
        if abs(read_as - sample_rate) > RATE_TOLERANCE * sample_rate:
            raise UserError(
                f"{name}: {encoding.format}/{encoding.subtype} cannot tell {sample_rate} Hz, it "
                f"would play at {read_as} Hz: choose another format, such as .wav"
            )
    return encoding, sample_rate, []


def _rate_read_back(encoding: Encoding, sample_rate: int) -> int:
    """The sample rate that a small file of this kind tells; where there is none, the same."""
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", sample_rate, 1, encoding.subtype, format=encoding.format
        ) as probe:
            probe.write(np.zeros(1000, np.float32))
        file.seek(0)
        with soundfile.SoundFile(file) as probe:
            return int(probe.samplerate)
    except (soundfile.LibsndfileError, ValueError, TypeError):
        return sample_rate  # what is wrong is said where the file itself is opened


class ResampledSink:
    """Samples of one rate into a sink of another, aligned with what comes in.

    Parameters
    ----------
    sink
        Where they go.
    rate_in, rate_out
        In Hz.
    channels
        Of the samples to come.
    """

    def __init__(self, sink: Sink, rate_in: int, rate_out: int, channels: int) -> None:
        self.name, self.clips, self.notes = sink.name, sink.clips, sink.notes
        self.lost_tags: list[str] = getattr(sink, "lost_tags", [])
        self._sink = sink
        self._stream = soxr.ResampleStream(rate_in, rate_out, channels, "float32")
        self._nothing = np.zeros((0, channels), np.float32)

    def write(self, block: Samples) -> None:
        """See `streams.Sink`."""
        self._sink.write(self._stream.resample_chunk(np.ascontiguousarray(block)))

    def keep_partial(self) -> str:
        """See `streams.Sink`."""
        self._flush()
        return self._sink.keep_partial()

    def __enter__(self) -> ResampledSink:
        self._sink.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
        except BaseException as failure:
            self._sink.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._sink.__exit__(kind, error, trace)

    def _flush(self) -> None:
        self._sink.write(self._stream.resample_chunk(self._nothing, last=True))
