"""The source or sink behind a name: a file, a pipe, or what ffmpeg reads and writes."""

from __future__ import annotations

import shutil
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from ..errors import UnknownFormatError, UserError
from ..paths import refuse_url
from . import bit_rates, ffmpeg
from .ffmpeg import MediaSink, MediaSource
from .files import FileSink
from .fitting import ResampledSink, fit
from .flowing import path_of
from .formats import RawFormat, encoding_for
from .pipe import PipeSink, PipeSource, open_pipe_sink, open_pipe_source
from .reading import FileSource

MISSED = 0.1  # of a bit rate that is asked for: a difference beyond is told


@dataclass(frozen=True)
class Output:
    """How an output is written where it shall not be like its input.

    Attributes
    ----------
    format, subtype
        By libsndfile's names, in any case; ``None`` takes them from file name and input.
    overwrite
        Replace an existing file.
    allow_truncated
        Where the input breaks off, take what is there for all of it.
    bit_rate
        Of MP3, Ogg and what ffmpeg writes, in bit/s; ``None``: that of the input.
    """

    format: str | None = None
    subtype: str | None = None
    overwrite: bool = False
    allow_truncated: bool = False
    bit_rate: int | None = None


def open_source(source: str, raw: RawFormat | None = None) -> FileSource | PipeSource | MediaSource:
    """A path, or ``-`` for stdin; ffmpeg reads the files that libsndfile does not know.

    A path of a pipe, such as a shell's ``<(...)``, is read as stdin is.

    Raises
    ------
    UserError
        It cannot be read.
    """
    if source != "-":
        refuse_url(source)
    try:
        if source == "-":
            return open_pipe_source(open(0, "rb", buffering=0, closefd=False), raw)
        if _is_pipe(source):
            return open_pipe_source(_opened(source), raw, source)
        return FileSource(source, raw)
    except UnknownFormatError as error:
        if not ffmpeg.is_installed():
            raise UserError(f"{error} (with ffmpeg on the PATH, more formats are read)") from None
        return MediaSource(source) if error.file is None else _PipedMedia(error.file, source)


def _is_pipe(path: str) -> bool:
    """Whether this is a pipe, a terminal or another thing that cannot be sought in."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # who opens it says why
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _opened(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


class _PipedMedia(MediaSource):
    """What ffmpeg reads, from a pipe: in a file that it can open, as long as it is needed."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._spool: IO[bytes] = file
        path = path_of(file)
        if path is None:
            self._spool = tempfile.NamedTemporaryFile(prefix="gtcrn-")  # noqa: SIM115
            file.seek(0)
            shutil.copyfileobj(file, self._spool)
            self._spool.flush()
            path = Path(self._spool.name)
        try:
            super().__init__(path, name)
        except UserError as error:
            said = "stdin" if name == "-" else name
            raise UserError(str(error).replace(str(path), said)) from None


def open_sink(
    target: str, source: FileSource | PipeSource | MediaSource, output: Output
) -> FileSink | PipeSink | MediaSink | ResampledSink:
    """Where the samples of `source` go: a path, or ``-`` for stdout.

    Raises
    ------
    UserError
        It cannot be written so.
    """
    sample_rate, channels = source.sample_rate, source.channels
    if output.format is None and ffmpeg.is_container(target):
        if output.subtype is not None:
            raise UserError(f"{target}: --subtype is for sound files, ffmpeg writes this one")
        media = source if isinstance(source, MediaSource) else None
        inherited = 0
        if output.bit_rate is None and (media or ffmpeg.takes_any_bit_rate(target)):
            inherited = _bit_rate_of(source)
        return MediaSink(
            target,
            sample_rate,
            channels,
            media,
            encoding=replace(source.encoding, bit_rate=inherited),
            bit_rate=output.bit_rate,
            overwrite=output.overwrite,
        )
    encoding = encoding_for(target, source.encoding, output.format, output.subtype)
    encoding, rate, notes = fit(target, encoding, sample_rate, asked=output.subtype is not None)
    if encoding.subtype in bit_rates.LOSSY:
        encoding = replace(encoding, bit_rate=output.bit_rate or _bit_rate_of(source))
    elif output.bit_rate:
        raise UserError(f"{encoding.subtype} has no bit rate: leave out --bitrate")
    if output.bit_rate:
        near = bit_rates.nearest(encoding.subtype, rate, channels, output.bit_rate)
        if abs(near - output.bit_rate) > MISSED * output.bit_rate:
            asked, kbits = output.bit_rate / 1000, near / 1000
            notes.append(f"there are no {asked:.0f} kbit/s here: written with {kbits:.0f} kbit/s")
    length = source.length if source.is_certain else None
    sink: FileSink | PipeSink
    if target == "-":
        stdout = open(1, "wb", buffering=0, closefd=False)  # noqa: SIM115 - see `write_all`
        sink = open_pipe_sink(stdout, rate, channels, encoding)
    else:
        if length is not None:
            length = -(-length * rate // sample_rate)
        sink = FileSink(target, rate, channels, encoding, length=length, overwrite=output.overwrite)
    sink.notes += notes
    return sink if rate == sample_rate else ResampledSink(sink, sample_rate, rate, channels)


def _bit_rate_of(source: FileSource | PipeSource | MediaSource) -> int:
    """Of a lossy input, in bit/s; else 0."""
    if isinstance(source, MediaSource):
        return source.bit_rate
    if source.encoding.origin is None or source.encoding.subtype not in bit_rates.LOSSY:
        return 0
    return bit_rates.of_file(source.encoding.origin[0], source.encoding.subtype)
