"""Sound files, through libsndfile: every format it reads and writes, at constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile

from ..errors import ReadError, UnknownFormatError, UserError
from ..paths import Replacement
from ..signals import Samples
from .formats import FLOAT_SUBTYPES, RAW_EXTENSIONS, Encoding, RawFormat, Tags

LONGEST_WAV_BYTES = 2**32 - 2**16  # RIFF sizes have 32 bits; the rest is for headers and tags
RF64_AUTO_DOWNGRADE = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE
UPDATE_HEADER_NOW = 0x1060  # and SFC_UPDATE_HEADER_NOW

BITE = 4096  # samples read at once


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
        """See `streams.Source`."""
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
        self._output = Replacement(path, overwrite=overwrite)
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
                _as_is(self._output.path),
                "w",
                sample_rate,
                channels,
                encoding.subtype,
                encoding.endian if format_name == "RAW" else None,
                format_name,
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            self._output.discard()
            raise UserError(
                f"cannot write {path} as {encoding.format}/{encoding.subtype} with {channels} "
                f"channels at {sample_rate} Hz: {_reason(error)}"
            ) from None
        if growing:
            _become_wav_if_small(self._file)
        self.lost_tags = _set_tags(self._file, encoding.tags)

    def write(self, block: Samples) -> None:
        """See `streams.Sink`."""
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
        """See `streams.Sink`."""
        self._file.close()
        return str(self._output.keep_apart())

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
                self._output.commit()
        finally:
            self._output.discard()

    def _require_content(self) -> None:
        """libsndfile makes nothing readable of no samples in some formats (FLAC, MP3, Opus)."""
        if self._written == 0:
            try:
                soundfile.info(str(self._output.path))
            except soundfile.LibsndfileError:
                raise UserError(
                    f"cannot write {self.name}: the format holds no recording without samples"
                ) from None

    def _write_error(self, error: Exception) -> UserError:
        return UserError(f"cannot write {self.name}: {_reason(error)} (is the disk full?)")


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
