"""Formats of sound files by libsndfile's names, and what an output takes over from its input."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..errors import UserError
from ..signals import Samples

FORMAT_OF_EXTENSION = {
    ".aif": "AIFF",
    ".aifc": "AIFF",
    ".aiff": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".flac": "FLAC",
    ".mp3": "MP3",
    ".oga": "OGG",
    ".ogg": "OGG",
    ".opus": "OPUS",
    ".pcm": "RAW",
    ".raw": "RAW",
    ".rf64": "RF64",
    ".sf": "IRCAM",
    ".snd": "AU",
    ".voc": "VOC",
    ".w64": "W64",
    ".wav": "WAV",
    ".wave": "WAV",
    ".wve": "WVE",
}
RAW_EXTENSIONS = (".raw", ".pcm")
MOST_CHANNELS = 1024  # that libsndfile takes
WAV_FAMILY = ("WAV", "WAVEX", "RF64")  # all of them are called .wav
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
FINE_SUBTYPES = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32", "DWVW_24")

# ffmpeg's names of headerless PCM, as libsndfile's subtype and byte order
RAW_ENCODINGS = {
    "s8": ("PCM_S8", "FILE"),
    "u8": ("PCM_U8", "FILE"),
    "s16le": ("PCM_16", "LITTLE"),
    "s16be": ("PCM_16", "BIG"),
    "s24le": ("PCM_24", "LITTLE"),
    "s24be": ("PCM_24", "BIG"),
    "s32le": ("PCM_32", "LITTLE"),
    "s32be": ("PCM_32", "BIG"),
    "f32le": ("FLOAT", "LITTLE"),
    "f32be": ("FLOAT", "BIG"),
    "f64le": ("DOUBLE", "LITTLE"),
    "f64be": ("DOUBLE", "BIG"),
    "mulaw": ("ULAW", "FILE"),
    "alaw": ("ALAW", "FILE"),
}
BYTES_OF_SUBTYPE = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1} | {
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}

# Of subtypes whose samples are steps; for PCM_32, libsndfile rounds them itself.
BITS_OF_STEPS = {
    **{"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24},
    **{"ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24, "ALAC_32": 32},
    **{"DWVW_12": 12, "DWVW_16": 16, "DWVW_24": 24, "DPCM_8": 8, "DPCM_16": 16},
}

Tags = dict[str, str]


@dataclass(frozen=True)
class Encoding:
    """How samples are laid down in a file: what an output takes over from its input.

    Attributes
    ----------
    format, subtype, endian
        By libsndfile's names: ``WAV``, ``PCM_16``, ``LITTLE``.
    tags
        Title, artist, comment and so on.
    speakers
        The mask of the channels' speakers, as `speakers` has it; 0 where it is not known.
    origin
        The file that it is the encoding of, and its format: what else is in it goes along.
    bit_rate
        In bit/s, where the subtype has one; 0 leaves it to the encoder.
    """

    format: str = "WAV"
    subtype: str = "PCM_16"
    endian: str = "FILE"
    tags: Tags = field(default_factory=dict)
    speakers: int = 0
    origin: tuple[Path, str] | None = None
    bit_rate: int = 0


@dataclass(frozen=True)
class RawFormat:
    """PCM without a header, and what a header would have said."""

    subtype: str
    endian: str
    sample_rate: int
    channels: int

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read ``ENCODING:RATE[:CHANNELS]``, such as ``s16le:48000:2``.

        Raises
        ------
        UserError
            It does not have that form.
        """
        encoding, _, numbers = text.lower().partition(":")
        rate, _, channels = numbers.partition(":")
        if encoding not in RAW_ENCODINGS:
            raise UserError(
                f"raw format {text!r}: {encoding!r} is none of {' '.join(RAW_ENCODINGS)}"
            )
        if not rate.isdecimal() or not (channels or "1").isdecimal():
            raise UserError(f"raw format {text!r}: write it like s16le:48000:2")
        if int(rate) == 0 or not 1 <= int(channels or 1) <= MOST_CHANNELS:
            raise UserError(
                f"raw format {text!r}: there is no sound of such a rate or number of channels"
            )
        return cls(*RAW_ENCODINGS[encoding], int(rate), int(channels or 1))

    @property
    def bytes_per_sample(self) -> int:
        """Of all channels together."""
        return BYTES_OF_SUBTYPE[self.subtype] * self.channels

    def decode(self, data: bytes) -> Samples:
        """Bytes of whole samples to ``[N, C]``."""
        with soundfile.SoundFile(io.BytesIO(data), **self.open_arguments()) as file:
            return file.read(dtype="float32", always_2d=True)

    def encode(self, block: Samples) -> bytes:
        """``[N, C]`` to bytes; what exceeds full scale is clipped."""
        data = io.BytesIO()
        with soundfile.SoundFile(data, "w", **self.open_arguments()) as file:
            file.write(to_steps(block, self.subtype))
        return data.getvalue()

    def open_arguments(self) -> dict[str, Any]:
        """What `soundfile.SoundFile` wants to be told, as there is no header."""
        return {
            "samplerate": self.sample_rate,
            "channels": self.channels,
            "format": "RAW",
            "subtype": self.subtype,
            "endian": self.endian,
        }


def to_steps(block: Samples, subtype: str) -> NDArray[Any]:
    """Samples ``[N, C]`` as libsndfile is to be given them for a subtype.

    Those of `BITS_OF_STEPS` are rounded to the nearest step and clipped at full scale, in the upper
    bits of integers: of floats libsndfile drops the rest in most formats, and takes long. All
    others are left as they are.
    """
    bits = BITS_OF_STEPS.get(subtype)
    if bits is None:
        return block
    kind = np.float32 if bits <= 24 else np.float64  # that can tell the steps apart
    full_scale = kind(1 << (bits - 1))
    scaled = block * full_scale
    np.rint(scaled, out=scaled)
    np.clip(scaled, -full_scale, full_scale - 1, out=scaled)
    width, steps = (16, scaled.astype(np.int16)) if bits <= 16 else (32, scaled.astype(np.int32))
    return steps if bits == width else steps << steps.dtype.type(width - bits)


def encoding_for(
    path: str | Path,
    source: Encoding,
    format_name: str | None = None,
    subtype: str | None = None,
) -> Encoding:
    """What to write `path` as: like the source, unless its name or the user says otherwise.

    Parameters
    ----------
    path
        The output; its extension tells the format, and ``-`` means WAV (or raw, if the source is).
    source
        Of the input.
    format_name, subtype
        What the user asked for, by libsndfile's names in any case; ``opus`` is one, too.

    Raises
    ------
    UserError
        No such format or subtype, or the one does not go with the other.
    """
    if format_name is None and str(path) == "-":
        format_name = "RAW" if source.format == "RAW" else "WAV"
    if format_name is None:
        extension = Path(path).suffix.lower()
        if extension not in FORMAT_OF_EXTENSION:
            raise UserError(
                f"{path}: the name's ending tells no format: use --format, or one of "
                f"{' '.join(sorted(FORMAT_OF_EXTENSION))} (with ffmpeg also .m4a, .mp4, .mkv ...)"
            )
        format_name = FORMAT_OF_EXTENSION[extension]
        if format_name == "WAV" and source.format in WAV_FAMILY:
            format_name = source.format
    format_name = format_name.upper()
    if format_name == "OPUS":
        format_name, subtype = "OGG", subtype or "OPUS"
    if format_name not in soundfile.available_formats():
        raise UserError(
            f"no format {format_name!r}: choose from OPUS {' '.join(soundfile.available_formats())}"
        )
    possible = soundfile.available_subtypes(format_name)
    if subtype is not None and subtype.upper() not in possible:
        raise UserError(
            f"{format_name} has no subtype {subtype!r}: choose from {' '.join(possible)}"
        )
    if subtype is None:
        subtype = source.subtype
        # A WAV can hold MPEG frames, but who turns an MP3 into a WAV wants samples.
        same_kind = format_name == source.format or subtype in BYTES_OF_SUBTYPE
        if subtype not in possible or not same_kind:
            fine = source.subtype in FINE_SUBTYPES and "PCM_24" in possible
            subtype = "PCM_24" if fine else soundfile.default_subtype(format_name)
    return replace(source, format=format_name, subtype=subtype.upper())
