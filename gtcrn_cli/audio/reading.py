"""Reads sound files through libsndfile: all that is in them, at constant memory.

What a header says of the length is held against the file first (`survey`). Where it is wrong, or
where several recordings stand end to end in a file, libsndfile gets to read views of it that are
right.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from ..errors import ReadError, UnknownFormatError, UserError
from ..signals import Samples
from . import containers, decoding, speakers
from .formats import BYTES_OF_SUBTYPE, WAV_FAMILY, Encoding, RawFormat
from .sniffing import HEADERLESS_ENDINGS, require_header, require_no_header
from .survey import Part, Survey, survey, survey_mpeg
from .views import View, bytes_at, size_of

BUFFER_BYTES = 1 << 16
PARTS_COUNTED = 64  # of more recordings in one file the length is not asked for beforehand
DAMAGED_S = 0.1  # of sound that is missing from a damaged stream: more is said as loss
LOST_SAMPLES = 4 * 1152  # of such a stream: its first frames may need bits of earlier ones


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
    origin
        Where that file can be opened once more, for what else is in it.

    Attributes
    ----------
    length
        In samples; ``None`` where only reading tells.
    is_certain
        Whether the header tells the length, and does not only let it be reckoned.
    notes
        What is odd about it; complete when all blocks are read.

    Raises
    ------
    UserError
        It is missing, a directory or empty; or it has a header and shall have none, or the reverse.
    UnknownFormatError
        It is not a sound file that libsndfile knows.
    """

    def __init__(
        self,
        path: str | Path,
        raw: RawFormat | None = None,
        file: BinaryIO | None = None,
        origin: Path | None = None,
    ) -> None:
        self.name = str(path)
        self._origin = Path(path) if file is None else origin
        by_name = file is None and Path(path).suffix.lower() not in HEADERLESS_ENDINGS
        self._path = decoding.as_is(path) if by_name else None  # those names would be believed
        self._own = file is None
        if file is None:
            _require_readable(Path(path))
            file = Path(path).open("rb", buffering=BUFFER_BYTES)  # noqa: SIM115 - ends with `blocks`
        elif isinstance(file, io.RawIOBase):
            file = io.BufferedReader(file, BUFFER_BYTES)
        self._bytes = file
        try:
            self._look(raw)
        except BaseException:
            self._close()
            raise

    def _look(self, raw: RawFormat | None) -> None:
        """Find out what is in the file."""
        if raw is None:
            require_header(self.name, self._bytes)
            self._survey = survey(self._bytes, self.name)
        else:
            require_no_header(self.name, self._bytes)
            self._survey = Survey([Part(raw=raw)])
        self.notes: list[str] = []
        self._file = self._open(self._survey.parts[0])
        if self._file.format == "MP3" and not self._survey.is_mpeg:
            self._file.close()  # found by its name, or behind what is damaged
            self._survey = survey_mpeg(self._bytes)
            self._file = self._open(self._survey.parts[0])
        self.notes += self._survey.notes
        if len(self._survey.parts) > 1:
            self.notes.append(f"the input is joined from {len(self._survey.parts)} recordings")
        if raw is None and self._file.format == "RAW":  # by its name alone
            raise UserError(
                f"{self.name} has no header: say what is in it, like --raw s16le:48000:2"
            )
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.encoding = Encoding(
            self._file.format,
            self._file.subtype,
            raw.endian if raw else "FILE",
            self._file.copy_metadata(),
            0 if raw else speakers.read_mask(self._file),
            None if raw or self._origin is None else (self._origin, self._file.format),
        )
        self._order = speakers.order_of(self.encoding.format, self.encoding.subtype, self.channels)
        layout = self._survey.layout
        if layout is not None and not layout.fits:
            self._read_without_header(layout)
        self.length = self._length()
        self._skipped = 0
        if self._path is not None and all(part.view is None for part in self._survey.parts):
            self._close()  # libsndfile has opened it by its name

    def skip(self, samples: int) -> None:
        """Leave out the first `samples`; call it before `blocks`."""
        self._skipped = samples if self.length is None else min(samples, self.length)
        if self.length is not None:
            self.length -= self._skipped

    def blocks(self, size: int) -> Iterator[Samples]:
        """See `streams.Source`."""
        left_out = self._skipped
        position = 0
        try:
            for i, part in enumerate(self._survey.parts):
                if i:
                    self._file = self._open_next(part, position)
                done, trouble = 0, None
                if left_out and self._can_seek():
                    done = self._file.seek(min(left_out, self._file.frames))
                    left_out -= done
                while True:
                    # The decoder is asked in the same way whatever the size, as some are not exact.
                    taken = np.empty(
                        (-(-size // decoding.BITE) * decoding.BITE, self.channels), "f4"
                    )
                    count, wrong = decoding.fill(self._file, taken)
                    trouble = trouble or wrong
                    if self._order:
                        taken = np.ascontiguousarray(taken[:, self._order])
                    done += count
                    for start in range(left_out, count, size):
                        yield taken[start : min(start + size, count)]
                    left_out -= min(left_out, count)
                    if count < len(taken):
                        break
                position += done
                self._end_part(part, done, trouble)
                self._file.close()
            self._end(done)
        finally:
            self._file.close()
            self._close()

    def _close(self) -> None:
        if self._own:
            self._bytes.close()

    def _open(self, part: Part) -> soundfile.SoundFile:
        arguments: dict[str, Any] = part.raw.open_arguments() if part.raw else {}
        source: Any = part.view or self._path or View(self._bytes, 0, size_of(self._bytes))
        if part.view is not None:
            part.view.seek(0)
        try:
            file = soundfile.SoundFile(source, **arguments)
        except soundfile.LibsndfileError as error:
            reason = decoding.reason(error)
            raise UnknownFormatError(f"cannot read {self.name}: {reason}") from None
        if part.endless is not None and file.frames < part.least:
            file.close()
            (part.view, part.estimate), part.endless = part.endless, None
            self.notes.append("the header of the input is damaged: all that follows is read")
            return self._open(part)
        return file

    def _open_next(self, part: Part, position: int) -> soundfile.SoundFile:
        """The recording after those that make `position` samples."""
        place = f"{self.name}: at {position / self.sample_rate:.1f} s"
        try:
            file = self._open(part)
        except UnknownFormatError as error:
            raise ReadError(
                f"{place} another recording begins, and it is damaged: {error}"
            ) from None
        if (file.samplerate, file.channels) != (self.sample_rate, self.channels):
            raise ReadError(
                f"{place} it goes on with {file.channels} channels at {file.samplerate} Hz, after "
                f"{self.channels} at {self.sample_rate} Hz: split it there, or convert it"
            )
        return file

    def _read_without_header(self, layout: containers.Layout) -> None:
        """More sound than the fields of its header can tell: what is behind it is read bare."""
        if self.encoding.subtype not in BYTES_OF_SUBTYPE:
            raise UserError(f"{self.name} is too long for its header, and no PCM: convert it first")
        begun = bytes_at(self._bytes, 0, 4)
        endian = "BIG" if begun in (b"RIFX", b"FORM") else "LITTLE"
        raw = RawFormat(self.encoding.subtype, endian, self.sample_rate, self.channels)
        view = View(self._bytes, layout.data_at, layout.data_at + layout.there)
        self._survey.parts = [Part(view, raw)]
        self._file.close()
        self._file = self._open(self._survey.parts[0])

    def _length(self) -> int | None:
        parts = self._survey.parts
        self.is_certain = all(part.estimate is None for part in parts)
        if len(parts) > PARTS_COUNTED:
            return None
        total = 0
        for i, part in enumerate(parts):
            if part.estimate is not None or part.length is not None:
                total += part.estimate or part.length or 0
                continue
            try:
                file = self._open(part) if i else self._file
            except UnknownFormatError:
                return None
            count = decoding.frames(file)
            if i:
                file.close()
            if count is None:
                return None
            total += count
        if total == 0 and self._survey.layout is None:
            self.is_certain = False  # these formats are not made without sound
        return total

    def _can_seek(self) -> bool:
        """Whether seeking is exact."""
        return (
            self.encoding.subtype in decoding.SEEKABLE
            and self.encoding.format in decoding.SEEKABLE_FORMATS
        )

    def _end_part(self, part: Part, done: int, trouble: str | None) -> None:
        """See whether a recording gave what it should, or else what the decoder says."""
        expected = part.length
        if expected is None and part.estimate is None:
            expected = decoding.frames(self._file)
        if part.view is not None and part.view.trouble is not None:
            raise ReadError(f"cannot read on in {self.name}: {part.view.trouble.strerror}")
        if part.estimate is not None:
            lost = LOST_SAMPLES
            if part.is_damaged:  # then its frames are lost in the middle
                lost = min(lost, round(DAMAGED_S * self.sample_rate))
            expected = part.estimate if done < part.estimate - lost else expected
        if self.encoding.subtype.startswith("MPEG") and self.encoding.format in WAV_FAMILY:
            # A WAV counts what its encoder took in, and a decoder gives whole frames.
            expected = None if expected is None else expected - LOST_SAMPLES
        if expected is not None and done < expected:
            missing = (expected - done) / self.sample_rate
            why = f" ({trouble})" if trouble else ""
            raise ReadError(
                f"{self.name} is cut off or damaged: {missing:.2f} s of "
                f"{expected / self.sample_rate:.2f} s cannot be read{why}"
            )
        if trouble and (expected is None or done == 0):
            raise ReadError(f"{self.name} is damaged, and some of it may be missing: {trouble}")
        if trouble:
            self.notes.append(f"damaged: {trouble}")

    def _end(self, last: int) -> None:
        """See whether the file is whole, of whose last recording there are so many samples."""
        layout = self._survey.layout
        if layout is not None and layout.is_short:
            assert layout.promised is not None
            there_s = last / self.sample_rate
            promised_s = there_s * layout.promised / layout.there if layout.there else 0.0
            promise = f"{promised_s:.2f} s" if promised_s else f"{layout.promised} bytes of sound"
            raise ReadError(
                f"{self.name} is cut off: its header promises {promise}, {there_s:.2f} s are there"
            )
        if self._survey.is_damaged:
            raise ReadError(f"{self.name} is damaged: much of what is in it is no sound")
        if self._survey.is_cut:
            raise ReadError(f"{self.name} is cut off in the middle of a page")


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
