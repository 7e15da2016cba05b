"""stdin and stdout: raw PCM and WAV as streams, every other format by way of a temporary file.

What comes through a pipe is handed on as it comes: small blocks while a microphone feeds it, large
ones when a file does.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import soundfile

from ..errors import ReadError, UnknownFormatError, UserError
from ..signals import Samples
from . import speakers
from .containers import is_trailer_name, measure
from .files import FileSink, needs_mask
from .formats import BYTES_OF_SUBTYPE, FLOAT_SUBTYPES, Encoding, RawFormat
from .reading import FileSource
from .sniffing import refuse_header

UNKNOWN_SIZE = 0xFFFFFFFF  # what a WAV header says when its writer cannot seek back
LONGEST_WAV_HEADER = 1 << 20
COPIED_AT_ONCE = 1 << 20


class PipeSource:
    """Raw PCM from an open file, as it arrives.

    Parameters
    ----------
    file
        Where to read; unbuffered, so that a read returns what is there and does not wait for more.
    raw
        What comes.
    encoding
        What an output should take over.
    length
        Samples to take; ``None`` for all there are.
    """

    def __init__(
        self,
        file: BinaryIO,
        raw: RawFormat,
        encoding: Encoding | None = None,
        length: int | None = None,
    ) -> None:
        self.name = "-"
        self.sample_rate = raw.sample_rate
        self.channels = raw.channels
        self.length = length
        self.is_certain = False
        self.notes: list[str] = []
        self.encoding = encoding or Encoding("RAW", raw.subtype, raw.endian)
        self._has_header = encoding is not None
        self._file = file
        self._raw = raw

    def blocks(self, size: int) -> Iterator[Samples]:
        """See `streams.Source`. Bytes at the end that make no whole sample are left out."""
        width = self._raw.bytes_per_sample
        left = None if self.length is None else self.length * width  # bytes
        pending = b""
        begun = self._has_header
        while True:
            if left == 0:
                after = _read_exactly(self._file, 8)
                if is_trailer_name(after, (self.length or 0) * width % 2):
                    return
                pending, left = self._read_on(after, width)
            wanted = size * width if left is None else min(size * width, left)
            data = self._file.read(max(width, wanted) - len(pending))
            if not data:
                break
            pending += data
            if not begun:
                refuse_header("what comes on stdin", pending)
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
                f"what comes on stdin is cut off: its header promises "
                f"{self.length / self.sample_rate:.2f} s, of which {missing_s:.2f} s are missing"
            )
        if pending:
            self.notes.append(
                f"{len(pending)} bytes at the end of the input make no whole sample: left out"
            )

    def _read_on(self, after: bytes, width: int) -> tuple[bytes, int | None]:
        """What goes on after all that the header promises: more sound, or another WAV.

        Returns
        -------
        Bytes of sound that are read already, and how many are to come where that is known.
        """
        if after[:4] not in (b"RIFF", b"RF64"):
            self.notes.append(
                "there was more sound in the input than its header said: all was read"
            )
            return after, None
        following = _wav_stream(self._file, _read_wav_header(self._file, after))
        if following is None or following._raw != self._raw:
            raise ReadError(
                "what comes on stdin goes on with a recording of another form: split it"
            )
        self.notes.append("the input is joined from recordings")
        self.length = following.length
        return b"", None if following.length is None else following.length * width


class PipeSink:
    """Raw PCM, or WAV of unknown length, to an open file."""

    def __init__(self, file: BinaryIO, raw: RawFormat, header: bytes = b"") -> None:
        self.name = "-"
        self.clips = raw.subtype not in FLOAT_SUBTYPES
        self.lost_tags: list[str] = []
        self.notes: list[str] = []
        self._file = file
        self._raw = raw
        self._header = header

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
        return "written"

    def __enter__(self) -> PipeSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


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
            while data := spooled.read(COPIED_AT_ONCE):
                write_all(self._pipe, data)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write to a file without a buffer, which may take less than it is given.

    What a buffer still holds is written when it goes, even after a signal has ended the work: that
    would wait for ever where nobody reads.
    """
    left = memoryview(data)
    while left:
        taken = file.write(left)
        if taken is None:  # it does not wait itself, and has no room
            select.select([], [file], [])
        else:
            left = left[taken:]


def open_pipe_source(file: BinaryIO, raw: RawFormat | None) -> PipeSource | FileSource:
    """What comes on stdin: raw PCM if `raw` says so, else any sound file.

    A WAV of PCM is read as it comes; other formats have to be seeked in and are first written to
    a temporary file.

    Raises
    ------
    UserError
        There is nothing, or nothing that libsndfile knows.
    """
    if raw is not None:
        return PipeSource(file, raw)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return _file_source(file)
    begun = _read_wav_header(file)
    if not begun:
        raise UserError("nothing came on stdin")
    if begun[:4] in (b"RIFF", b"RF64") and begun[-8:-4] == b"data":
        source = _wav_stream(file, begun)
        if source is not None:
            return source
    spool = tempfile.TemporaryFile(prefix="gtcrn-")  # noqa: SIM115 - lives as long as the source
    spool.write(begun)
    shutil.copyfileobj(file, spool)
    spool.seek(0)
    return _file_source(spool)


def _file_source(file: BinaryIO) -> FileSource:
    try:
        return FileSource("-", file=file)
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
        return PipeSink(file, raw)
    if encoding.format not in ("WAV", "WAVEX") or encoding.subtype not in BYTES_OF_SUBTYPE:
        return SpooledSink(file, sample_rate, channels, encoding)
    raw = RawFormat(encoding.subtype, "LITTLE", sample_rate, channels)
    return PipeSink(file, raw, _streaming_wav_header(sample_rate, channels, encoding))


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    """An unbuffered file returns what is there; a header is needed whole. Less only at the end."""
    data = b""
    while len(data) < count:
        more = file.read(count - len(data))
        if not more:
            break
        data += more
    return data


def _read_wav_header(file: BinaryIO, begun: bytes = b"") -> bytes:
    """The first bytes: of a WAV up to and with the head of its data chunk, else the first 12."""
    begun += _read_exactly(file, 12 - len(begun))
    if begun[:4] not in (b"RIFF", b"RF64") or begun[8:] != b"WAVE":
        return begun
    while len(begun) < LONGEST_WAV_HEADER:
        head = _read_exactly(file, 8)
        begun += head
        if len(head) < 8 or head[:4] == b"data":
            break
        (size,) = struct.unpack("<I", head[4:])
        begun += _read_exactly(file, min(size + size % 2, LONGEST_WAV_HEADER))
    return begun


def _wav_stream(file: BinaryIO, header: bytes) -> PipeSource | None:
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
    return PipeSource(file, raw, encoding, promised // raw.bytes_per_sample if promised else None)


def _streaming_wav_header(sample_rate: int, channels: int, encoding: Encoding) -> bytes:
    """A WAV header whose sizes say "until the end"."""
    data = io.BytesIO()
    kind = "WAVEX" if needs_mask(encoding, channels) else "WAV"
    with soundfile.SoundFile(
        data, "w", sample_rate, channels, encoding.subtype, format=kind
    ) as wav:
        if kind == "WAVEX":
            speakers.write_mask(wav, encoding.speakers)
    header = bytearray(data.getvalue())
    header = header[: header.rindex(b"data") + 8]
    header[4:8] = header[-4:] = struct.pack("<I", UNKNOWN_SIZE)
    return bytes(header)
