"""stdin and stdout: raw PCM and WAV as streams, every other format by way of a temporary file.

What comes through a pipe is handed on as it comes: small blocks while a microphone feeds it, large
ones when a file does.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, cast

import soundfile

from ..errors import ReadError, UnknownFormatError, UserError
from ..signals import Samples
from . import riff, speakers
from .containers import after_sound, measure
from .files import FileSink, lost_texts, needs_mask, set_tags, told_by
from .flowing import Ahead, Flow, path_of, temporary_file, write_all
from .formats import BYTES_OF_SUBTYPE, FLOAT_SUBTYPES, WAV_FAMILY, Encoding, RawFormat
from .reading import FileSource
from .sniffing import refuse_header

UNKNOWN_SIZE = 0xFFFFFFFF  # what a WAV header says when its writer cannot seek back
LONGEST_WAV_HEADER = 1 << 20
MOST_EXTRA_BYTES = 1 << 19  # of chunks in front of the samples: readers of streams hold them
COPIED_BYTES = 1 << 16
MOST_PADDING = 1 << 16  # bytes behind the samples: what is longer is silence, and handed on
JOINED = "the input is joined from recordings"


class PipeSource:
    """Raw PCM from an open file, as it arrives.

    Parameters
    ----------
    file
        Where to read; unbuffered, so that a read returns what is there and does not wait for more.
    raw
        What comes.
    encoding
        What an output should take over. Chunks behind the samples are appended to its `origin`.
    length
        Samples to take; ``None`` for all there are.
    name
        Of the input; ``-`` is stdin.
    """

    def __init__(
        self,
        file: BinaryIO | Flow,
        raw: RawFormat,
        encoding: Encoding | None = None,
        length: int | None = None,
        name: str = "-",
    ) -> None:
        self.name = name
        self.sample_rate = raw.sample_rate
        self.channels = raw.channels
        self.length = length
        self.is_certain = False
        self.notes: list[str] = []
        self.encoding = encoding or Encoding("RAW", raw.subtype, raw.endian)
        self._has_header = encoding is not None
        self._extras: IO[bytes] | None = None  # the file that is the origin of its encoding
        self._file = file if isinstance(file, Flow) else Flow(file)
        self._raw = raw
        self._what = "what comes on stdin" if name == "-" else f"what comes from {name}"

    def blocks(self, size: int) -> Iterator[Samples]:
        """See `streams.Source`. Bytes at the end that make no whole sample are left out."""
        width = self._raw.bytes_per_sample
        left = None if self.length is None else self.length * width  # bytes
        pending = b""
        begun = self._has_header
        while True:
            if left == 0:
                is_more, left = self._read_on(width)
                if not is_more:
                    return
            wanted = size * width if left is None else min(size * width, left)
            data = self._file.read(max(width, wanted) - len(pending))
            if not data:
                break
            pending += data
            if not begun:
                refuse_header(self._what, pending)
                begun = True
            whole = len(pending) // width * width
            if whole:
                yield self._raw.decode(pending[:whole])
            pending = pending[whole:]
            left = None if left is None else left - whole
        if left:
            assert self.length is not None
            missing_s = left / width / self.sample_rate
            raise ReadError(
                f"{self._what} is cut off: its header promises "
                f"{self.length / self.sample_rate:.2f} s, of which {missing_s:.2f} s are missing"
            )
        if pending:
            self.notes.append(
                f"{len(pending)} bytes at the end of the input make no whole sample: left out"
            )

    def _read_on(self, width: int) -> tuple[bool, int | None]:
        """What comes after all that the header promises: the end, more sound, or another WAV.

        Returns
        -------
        Whether there is more sound, and how many bytes where that is known.
        """
        begin = (self.length or 0) * width % 2  # an odd number of bytes may be filled up
        ahead = Ahead(self._file, begin)
        is_no_sound, next_at = after_sound(ahead, begin, padding=MOST_PADDING)
        if not is_no_sound:
            ahead.give_back()
            self.notes.append(
                "there was more sound in the input than its header said: all was read"
            )
            return True, None
        self._keep_extras(ahead, begin, next_at)
        if next_at is None:
            return False, None
        ahead.give_back(next_at)
        following = _wav_stream(self._file, _read_wav_header(self._file), self.name)
        if following is None or following._raw != self._raw:
            raise ReadError(f"{self._what} goes on with a recording of another form: split it")
        if JOINED not in self.notes:
            self.notes.append(JOINED)
        self.length = following.length
        return True, None if following.length is None else following.length * width

    def _keep_extras(self, ahead: Ahead, begin: int, end: int | None) -> None:
        """Put the chunks behind the samples with those before, for outputs that take them over."""
        if self._extras is None or JOINED in self.notes:  # then they are of another recording
            return
        at = ahead.seek(begin + begin % 2)
        self._extras.seek(0, os.SEEK_END)
        while data := ahead.read(COPIED_BYTES if end is None else min(COPIED_BYTES, end - at)):
            self._extras.write(data)
            at += len(data)
        self._extras.flush()


class PipeSink:
    """Raw PCM, or WAV of unknown length, to an open file.

    Parameters
    ----------
    file
        Where to write.
    raw
        How samples are written.
    encoding
        With what else is in the input. Of that a WAV has in front of its samples what is known when
        it begins; the rest is noted at its end.
    """

    def __init__(self, file: BinaryIO, raw: RawFormat, encoding: Encoding) -> None:
        self.name = "-"
        self.clips = raw.subtype not in FLOAT_SUBTYPES
        self.lost_tags: list[str] = []
        self.notes: list[str] = []
        self._file = file
        self._raw = raw
        self._encoding = encoding
        self._header, self._kept = b"", list[riff.Chunk]()
        if encoding.format == "RAW":
            self.lost_tags = [name for name, text in encoding.tags.items() if text]
        else:
            self._kept = _kept_extras(encoding)
            self._header, self.lost_tags = _streaming_wav_header(raw, encoding, self._kept)

    def write(self, block: Samples) -> None:
        """See `streams.Sink`."""
        data, self._header = self._header + self._raw.encode(block), b""
        try:
            write_all(self._file, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"cannot write to stdout: {error.strerror}") from None

    def keep_partial(self) -> str:
        """See `streams.Sink`: what has been written to a pipe is gone."""
        self._say_what_is_lost()
        return "written"

    def __enter__(self) -> PipeSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._say_what_is_lost()

    def _say_what_is_lost(self) -> None:
        path, kind = self._encoding.origin or (None, "")
        if path is not None and kind in WAV_FAMILY and self._encoding.format != "RAW":
            self.notes += riff.said([c for c in riff.extras(path) if c not in self._kept])
        else:
            told, _, notes = told_by(self._encoding)
            self.notes += notes + lost_texts(told, self._encoding.tags)


class SpooledSink(FileSink):
    """A format that must be seeked in: made in a temporary file, then copied to a pipe."""

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, encoding: Encoding) -> None:
        self._pipe = file
        self._folder = tempfile.TemporaryDirectory(prefix="gtcrn-")
        path = Path(self._folder.name) / "spool"
        try:
            super().__init__(path, sample_rate, channels, encoding)
        except UserError:
            self._folder.cleanup()
            raise
        self.name = "-"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._folder:
            super().__exit__(kind, error, trace)
            if kind is None:
                self._copy(self._output.target)

    def keep_partial(self) -> str:
        """See `streams.Sink`."""
        self._copy(Path(super().keep_partial()))
        return "written"

    def _copy(self, path: Path) -> None:
        with path.open("rb") as spooled:
            while data := spooled.read(COPIED_BYTES):
                write_all(self._pipe, data)


def open_pipe_source(
    file: BinaryIO, raw: RawFormat | None, name: str = "-"
) -> PipeSource | FileSource:
    """What comes on stdin, or from another pipe: raw PCM if `raw` says so, else any sound file.

    A WAV of PCM is read as it comes; other formats have to be seeked in and are first written to
    a temporary file.

    Raises
    ------
    UserError
        There is nothing, or nothing that libsndfile knows.
    """
    if raw is not None:
        return PipeSource(file, raw, name=name)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and (path := path_of(file)) is not None:
        return _file_source(name, file, path)
    flow = Flow(file)
    begun = _read_wav_header(flow)
    if not begun:
        raise UserError("nothing came on stdin" if name == "-" else f"nothing came from {name}")
    if begun[:4] in (b"RIFF", b"RF64") and begun[-8:-4] == b"data":
        source = _wav_stream(flow, begun, name)
        if source is not None:
            return source
    spool = temporary_file()
    spool.write(begun)
    while data := flow.read(COPIED_BYTES):
        spool.write(data)
    spool.flush()
    spool.seek(0)
    return _file_source(name, cast(BinaryIO, spool), path_of(spool))


def _file_source(name: str, file: BinaryIO, path: Path | None) -> FileSource:
    try:
        return FileSource(name, file=file, origin=path)
    except UnknownFormatError as error:
        error.file = file  # for who knows more formats
        raise


def open_pipe_sink(
    file: BinaryIO, sample_rate: int, channels: int, encoding: Encoding
) -> PipeSink | SpooledSink:
    """stdout: raw PCM and WAV of PCM as a stream, other formats spooled.

    Raises
    ------
    UserError
        stdout is a terminal.
    """
    if file.isatty():
        raise UserError("stdout is a terminal: redirect it, pipe it on, or give a file name")
    if encoding.format == "RAW":
        raw = RawFormat(encoding.subtype, encoding.endian, sample_rate, channels)
        return PipeSink(file, raw, encoding)
    if encoding.format not in ("WAV", "WAVEX") or encoding.subtype not in BYTES_OF_SUBTYPE:
        return SpooledSink(file, sample_rate, channels, encoding)
    raw = RawFormat(encoding.subtype, "LITTLE", sample_rate, channels)
    return PipeSink(file, raw, encoding)


def _read_wav_header(file: Flow) -> bytes:
    """The first bytes: of a WAV up to and with the head of its data chunk, else the first 12."""
    begun = file.read_exactly(12)
    if begun[:4] not in (b"RIFF", b"RF64") or begun[8:] != b"WAVE":
        return begun
    while len(begun) < LONGEST_WAV_HEADER:
        head = file.read_exactly(8)
        begun += head
        if len(head) < 8 or head[:4] == b"data":
            break
        (size,) = struct.unpack("<I", head[4:])
        begun += file.read_exactly(min(size + size % 2, LONGEST_WAV_HEADER))
    return begun


def _wav_stream(file: Flow, header: bytes, name: str) -> PipeSource | None:
    """The samples behind `header` as a stream; None where they are not plain PCM."""
    try:
        with soundfile.SoundFile(io.BytesIO(header)) as wav:
            raw = RawFormat(wav.subtype, "LITTLE", wav.samplerate, wav.channels)
            mask = speakers.read_mask(wav)
            encoding = Encoding("WAV", wav.subtype, "FILE", wav.copy_metadata(), mask)
    except soundfile.LibsndfileError:
        return None
    if raw.subtype not in BYTES_OF_SUBTYPE:
        return None
    layout = measure(io.BytesIO(header))
    promised = layout.promised if layout else None  # nothing, too, means "to the end" in a stream
    length = promised // raw.bytes_per_sample if promised else None
    extras = _origin_of(header, raw)
    if extras is not None and (path := path_of(extras)) is not None:
        encoding = replace(encoding, origin=(path, "WAV"))
    source = PipeSource(file, raw, encoding, length, name)
    source._extras = extras
    if extras is None:
        source.notes.append("no folder for temporary files: chunks and tags are left out")
    return source


def _origin_of(header: bytes, raw: RawFormat) -> IO[bytes] | None:
    """A file with all of a WAV but its sound, of which it has a sample or two of silence."""
    silence = bytes(2 * raw.bytes_per_sample)
    try:
        file = temporary_file()
        file.write(header[:-4] + struct.pack("<I", len(silence)) + silence)
        file.flush()
    except OSError:
        return None
    return file


def _kept_extras(encoding: Encoding) -> list[riff.Chunk]:
    """What goes along from a WAV in the header of a stream, as far as it is known by then."""
    path, kind = encoding.origin or (None, "")
    if path is None or kind not in WAV_FAMILY:
        return []
    kept, left = [], MOST_EXTRA_BYTES
    for chunk in riff.extras(path):
        if chunk.name not in riff.OF_LEVELS and chunk.size < left:
            kept.append(chunk)
            left -= chunk.size + 8
    return kept


def _streaming_wav_header(
    raw: RawFormat, encoding: Encoding, extras: list[riff.Chunk]
) -> tuple[bytes, list[str]]:
    """A WAV header whose sizes say "until the end", and the tags that it has no place for."""
    data = io.BytesIO()
    kind = "WAVEX" if needs_mask(encoding, raw.channels) else "WAV"
    with soundfile.SoundFile(
        data, "w", raw.sample_rate, raw.channels, raw.subtype, format=kind
    ) as wav:
        if kind == "WAVEX":
            speakers.write_mask(wav, encoding.speakers)
        goes_along = encoding.origin is not None and encoding.origin[1] in WAV_FAMILY
        lost = [] if goes_along else set_tags(wav, encoding.tags)
    header = data.getvalue()
    header = header[: header.rindex(b"data")]
    if extras and encoding.origin is not None:
        header += b"".join(riff.contents(encoding.origin[0], extras))
    unknown = struct.pack("<I", UNKNOWN_SIZE)
    return header[:4] + unknown + header[8:] + b"data" + unknown, lost
