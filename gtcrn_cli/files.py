"""Sound files, through libsndfile: every format it reads and writes, at constant memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import soundfile

from .errors import ReadError, UnknownFormatError, UserError
from .paths import kept_partial_path, partial_path, require_free
from .signals import Samples

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
WAV_FAMILY = ("WAV", "WAVEX", "RF64")  # all of them are called .wav
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
FINE_SUBTYPES = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32", "DWVW_24")
LONGEST_WAV_BYTES = 2**32 - 2**16  # RIFF sizes have 32 bits; the rest is for headers and tags
RF64_AUTO_DOWNGRADE = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE
UPDATE_HEADER_NOW = 0x1060  # and SFC_UPDATE_HEADER_NOW

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

BITE = 4096  # samples read at once

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
    """

    format: str = "WAV"
    subtype: str = "PCM_16"
    endian: str = "FILE"
    tags: Tags = field(default_factory=dict)


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
            file.write(block)
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


class FileSource:
    """Reads a sound file.

    Parameters
    ----------
    path
        The file.
    raw
        What is in it, where it has no header.
    file
        An open, seekable binary file to read instead; `path` then only names it.

    Raises
    ------
    UserError
        It is missing, a directory or empty.
    UnknownFormatError
        It is not a sound file that libsndfile knows.
    """

    def __init__(
        self, path: str | Path, raw: RawFormat | None = None, file: BinaryIO | None = None
    ) -> None:
        self.name = str(path)
        if file is None:
            _require_readable(Path(path))
        if raw is None and Path(path).suffix.lower() in RAW_EXTENSIONS:
            raise UserError(f"{path} has no header: say what is in it, like --raw s16le:48000:2")
        arguments = raw.open_arguments() if raw else {}
        try:
            self._file = soundfile.SoundFile(file or _as_is(path), **arguments)
        except soundfile.LibsndfileError as error:
            raise UnknownFormatError(f"cannot read {path}: {_reason(error)}") from None
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.length: int | None = self._file.frames
        self.encoding = Encoding(
            self._file.format,
            self._file.subtype,
            raw.endian if raw else "FILE",
            self._file.copy_metadata(),
        )

    def skip(self, samples: int) -> None:
        """Leave out the first `samples`; call it before `blocks`."""
        assert self.length is not None
        self._file.seek(samples)
        self.length -= samples

    def blocks(self, size: int) -> Iterator[Samples]:
        """See `pipeline.Source`."""
        assert self.length is not None
        left = self.length
        with self._file:
            while left:
                block = np.empty((min(size, left), self.channels), np.float32)
                count, problem = self._fill(block)
                if count:
                    yield block[:count]
                if problem is not None:
                    raise ReadError(problem)
                left -= count

    def _fill(self, block: Samples) -> tuple[int, str | None]:
        """Read until `block` is full or the file fails: samples read, and what went wrong.

        soundfile drops what it has read when it meets an error, hence the small bites.
        """
        for start in range(0, len(block), BITE):
            bite = block[start : start + BITE]
            try:
                count = len(self._file.read(out=bite))
            except soundfile.LibsndfileError as error:
                return start, f"cannot read on in {self.name}: {_reason(error)}"
            if count < len(bite):
                return start + count, f"{self.name} is cut off before its end"
        return len(block), None


class FileSink:
    """Writes a sound file beside its target and renames it when it is whole.

    Parameters
    ----------
    path
        The target.
    sample_rate, channels
        In Hz; of the samples to come.
    encoding
        Format, subtype and tags, as `encoding_for` chooses them.
    length
        Samples to come, where that is known: a WAV beyond 4 GB becomes an RF64.
    overwrite
        Replace an existing target.

    Raises
    ------
    UserError
        The target exists, is no place for a file, or the format cannot hold such samples.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        encoding: Encoding,
        *,
        length: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.name = str(path)
        self._overwrite = overwrite
        require_free(path, overwrite)
        self._target = Path(path).resolve()  # through a link, so that the link stays one
        self._partial = partial_path(self._target)
        self._written = 0
        self.clips = encoding.subtype not in FLOAT_SUBTYPES

        format_name = encoding.format
        growing = False
        if format_name == "WAV":
            if length is None:
                format_name, growing = "RF64", encoding.subtype in _RF64_SUBTYPES
            elif length * channels * 8 > LONGEST_WAV_BYTES:
                format_name = "RF64"
        if format_name == "RF64" and encoding.subtype not in _RF64_SUBTYPES:
            format_name = "WAV"
        try:
            self._file = soundfile.SoundFile(
                _as_is(self._partial),
                "w",
                sample_rate,
                channels,
                encoding.subtype,
                encoding.endian if format_name == "RAW" else None,
                format_name,
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            self._partial.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {path} as {encoding.format}/{encoding.subtype} with {channels} "
                f"channels at {sample_rate} Hz: {_reason(error)}"
            ) from None
        if growing:
            _become_wav_if_small(self._file)
        self.lost_tags = _set_tags(self._file, encoding.tags)

    def write(self, block: Samples) -> None:
        """See `pipeline.Sink`."""
        self._written += len(block)
        try:
            self._file.write(block)
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise self._write_error(error) from None

    def make_playable(self) -> None:
        """Write a header that fits what has been written so far, for the case of a kill."""
        # soundfile has no name for this libsndfile command, hence the private call.
        soundfile._snd.sf_command(self._file._file, UPDATE_HEADER_NOW, soundfile._ffi.NULL, 0)

    def keep_partial(self) -> str:
        """See `pipeline.Sink`."""
        self._file.close()
        target = kept_partial_path(self._target)
        self._partial.replace(target)
        return str(target)

    def __enter__(self) -> FileSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                self._file.close()
            except soundfile.LibsndfileError as close_error:
                if kind is None:
                    raise self._write_error(close_error) from None
            if kind is None:
                self._require_content()
                require_free(self.name, self._overwrite)
                self._partial.replace(self._target)
        finally:
            self._partial.unlink(missing_ok=True)

    def _require_content(self) -> None:
        """libsndfile makes nothing readable of no samples in some formats (FLAC, MP3, Opus)."""
        if self._written == 0:
            try:
                soundfile.info(str(self._partial))
            except soundfile.LibsndfileError:
                raise UserError(
                    f"cannot write {self.name}: the format holds no recording without samples"
                ) from None

    def _write_error(self, error: Exception) -> UserError:
        return UserError(f"cannot write {self.name}: {_reason(error)} (is the disk full?)")


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
                f"{' '.join(sorted(FORMAT_OF_EXTENSION))}"
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
    return Encoding(format_name, subtype.upper(), source.endian, source.tags)


_RF64_SUBTYPES = soundfile.available_subtypes("RF64")


def _as_is(path: str | Path) -> str | bytes:
    """A name for soundfile, which encodes only names that are valid text."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _require_readable(path: Path) -> None:
    """libsndfile calls all of these "system error"."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file, or use 'gtcrn batch' for folders")
    try:
        with path.open("rb") as file:
            if path.is_file() and not file.read(1):
                raise UserError(f"{path} is empty: not even a header")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _reason(error: Exception) -> str:
    """libsndfile's own words without the prefix that soundfile adds."""
    text = getattr(error, "error_string", None) or str(error) or "the write came out short"
    return text.removeprefix("Error :").strip().rstrip(".")


def _set_tags(file: soundfile.SoundFile, tags: Tags) -> list[str]:
    """Write the tags that the format can hold; return the names of those it cannot."""
    lost = []
    for name, text in tags.items():
        if not text:
            continue
        try:
            setattr(file, name, text)
        except soundfile.LibsndfileError:
            lost.append(name)
    return lost


def _become_wav_if_small(file: soundfile.SoundFile) -> None:
    """Let an RF64 whose length nobody knew end as a plain WAV when it stays below 4 GB.

    soundfile has no name for this libsndfile command, hence the private call.
    """
    soundfile._snd.sf_command(file._file, RF64_AUTO_DOWNGRADE, soundfile._ffi.NULL, 1)
