"""Writes sound files through libsndfile: every format it knows, at constant memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile

from ..errors import UserError
from ..paths import Replacement
from ..signals import Samples
from . import bit_rates, riff, speakers, tags
from .chains import is_same_ogg
from .decoding import as_is, reason
from .ffmpeg import metadata_of
from .formats import BYTES_OF_SUBTYPE, FLOAT_SUBTYPES, WAV_FAMILY, Encoding, Tags, to_steps

LONGEST_WAV_BYTES = 2**32 - 2**16  # RIFF sizes have 32 bits; the rest is for headers and tags
RF64_AUTO_DOWNGRADE = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE

# Encodings of so many samples at a time; no header tells that the last ones are none.
BLOCK_SUBTYPES = ("G721_32", "G723_24", "G723_40", "GSM610", "IMA_ADPCM", "MS_ADPCM")
CHECKED = ("ALAC_20", "ALAC_24", "ALAC_32")  # read back when they are written
CHECKED_SAMPLES = 1 << 16  # at once
UPDATE_HEADER_NOW = 0x1060  # and SFC_UPDATE_HEADER_NOW


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
        self.notes: list[str] = []
        self.lost_tags: list[str] = []
        self.clips = encoding.subtype not in FLOAT_SUBTYPES
        self._encoding = encoding
        self._written = self._digest = 0
        self._output = Replacement(path, overwrite=overwrite)
        try:
            self._open(sample_rate, channels, length)
        except BaseException:
            self._output.discard()
            raise

    def _open(self, sample_rate: int, channels: int, length: int | None) -> None:
        """Begin the file."""
        encoding = self._encoding
        format_name = encoding.format
        growing = False
        if format_name == "WAV" and needs_mask(encoding, channels):
            format_name = "WAVEX"
        if format_name in ("WAV", "WAVEX"):
            if length is None:
                format_name, growing = "RF64", encoding.subtype in _RF64_SUBTYPES
            elif _wav_bytes(length * channels, encoding) > LONGEST_WAV_BYTES:
                format_name = "RF64"
        if format_name == "RF64" and encoding.subtype not in _RF64_SUBTYPES:
            format_name = "WAV"
        try:
            self._file = soundfile.SoundFile(
                as_is(self._output.path),
                "w",
                sample_rate,
                channels,
                encoding.subtype,
                encoding.endian if format_name == "RAW" else None,
                format_name,
                **bit_rates.options(encoding.subtype, sample_rate, channels, encoding.bit_rate),
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise UserError(
                f"cannot write {self.name} as {encoding.format}/{encoding.subtype} with {channels} "
                f"channels at {sample_rate} Hz: {reason(error)}"
            ) from None
        if growing:
            _become_wav_if_small(self._file)
        self._order = speakers.order_of(format_name, encoding.subtype, channels)
        self.notes += self._place_speakers(encoding.speakers)
        self._format = format_name
        if not self._goes_along():  # which brings these, too
            self.lost_tags = set_tags(self._file, encoding.tags)
        if format_name == "AIFF":  # in chunks of its own as well, which older programs know
            set_tags(self._file, encoding.tags)

    def _goes_along(self) -> bool:
        """Whether `_bring_along` writes the tags."""
        origin = self._encoding.origin
        if self._format in WAV_FAMILY:
            return origin is not None and origin[1] in WAV_FAMILY
        return self._format in tags.FORMATS

    def _bring_along(self) -> None:
        """Give the output what else there is in the input: tags, pictures, markers."""
        path, kind = self._encoding.origin or (None, "")
        ours = self._output.path
        if self._format in WAV_FAMILY and path is not None and kind in WAV_FAMILY:
            self.notes += riff.copy_extras(path, ours)
            return
        told, frames, notes = told_by(self._encoding)
        self.notes += notes
        if self._format not in tags.FORMATS:
            self.notes += lost_texts(told, self._encoding.tags)
        elif told.texts or told.pictures or frames:
            self.notes += tags.write(ours, self._format, told, frames)
        else:
            self.notes += tags.missing(told.others, 0, told.chapters)

    def _place_speakers(self, mask: int) -> list[str]:
        """Keep which channel is for which speaker, or say that the format cannot."""
        if mask == 0 or speakers.count(mask) != self._file.channels:
            return []
        held = speakers.read_mask(self._file)
        if held == mask or speakers.write_mask(self._file, mask):
            return []
        if mask in (speakers.mask_of("mono"), speakers.mask_of("stereo")):
            return []  # so many channels mean nothing else anywhere
        return [
            f"the format holds no layout of {self._file.channels} channels: that it was "
            f"{speakers.name_of(mask)} is lost"
        ]

    def write(self, block: Samples) -> None:
        """See `streams.Sink`."""
        self._written += len(block)
        if self._order:
            block = block[:, np.argsort(self._order)]
        steps = to_steps(block, self._encoding.subtype)
        if self._encoding.subtype in CHECKED:
            self._digest = zlib.crc32(steps.tobytes(), self._digest)
        try:
            self._file.write(steps)
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise self._write_error(error) from None

    def make_playable(self) -> None:
        """Write a header that fits what has been written so far, for the case of a kill."""
        # soundfile has no name for this libsndfile command, hence the private call.
        soundfile._snd.sf_command(self._file._file, UPDATE_HEADER_NOW, soundfile._ffi.NULL, 0)

    def keep_partial(self) -> str:
        """See `streams.Sink`."""
        self._file.close()
        self._require_same()
        self._bring_along()
        if self._format == "OGG":
            return str(self._output.keep_apart(is_same_ogg))
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
                self._require_same()
                self._note_padding()
                self._bring_along()
                self._output.commit()
        finally:
            self._output.discard()

    def _require_content(self) -> None:
        """libsndfile makes nothing readable of no samples in some formats (FLAC, MP3, Opus)."""
        if self._written == 0:
            try:
                soundfile.info(as_is(self._output.path))
            except soundfile.LibsndfileError:
                raise UserError(
                    f"cannot write {self.name}: the format holds no recording without samples"
                ) from None

    def _require_same(self) -> None:
        """libsndfile writes ALAC of more than 16 bits wrongly where it cannot make it smaller."""
        if self._encoding.subtype not in CHECKED:
            return
        digest = 0
        with soundfile.SoundFile(as_is(self._output.path)) as file:
            for block in file.blocks(CHECKED_SAMPLES, dtype="int32", always_2d=True):
                digest = zlib.crc32(block.tobytes(), digest)
        if digest != self._digest:
            raise UserError(
                f"cannot write {self.name}: libsndfile damages this sound as "
                f"{self._encoding.subtype}: choose --subtype PCM_24, or .flac"
            )

    def _note_padding(self) -> None:
        """Say how much longer the file is where its encoding knows only whole blocks."""
        subtype = self._encoding.subtype
        if subtype in BLOCK_SUBTYPES and self._format != "RAW":
            more = soundfile.info(as_is(self._output.path)).frames - self._written
            if more > 0:
                self.notes.append(
                    f"{subtype} holds whole blocks: {more} samples of silence follow the end"
                )

    def _write_error(self, error: Exception) -> UserError:
        return UserError(f"cannot write {self.name}: {reason(error)} (is the disk full?)")


def needs_mask(encoding: Encoding, channels: int) -> bool:
    """Whether a WAV has to tell for which speakers its channels are."""
    return (
        channels > 2
        and speakers.count(encoding.speakers) == channels
        and encoding.subtype in soundfile.available_subtypes("WAVEX")
    )


_RF64_SUBTYPES = soundfile.available_subtypes("RF64")


def _wav_bytes(values: int, encoding: Encoding) -> int:
    """The size of a WAV of so many values, with what goes along from the input."""
    size = values * BYTES_OF_SUBTYPE.get(encoding.subtype, 4)
    path, kind = encoding.origin or (None, "")
    if path is not None and kind in WAV_FAMILY:
        size += sum(chunk.size + 9 for chunk in riff.extras(path) if chunk.size <= riff.LONGEST)
    return size


def told_by(encoding: Encoding) -> tuple[tags.Metadata, Any, list[str]]:
    """What an input tells about its recording, as `tags.told_by`, whoever reads it."""
    told, frames, notes = tags.told_by(encoding.tags, encoding.origin)
    if encoding.origin is not None and encoding.origin[1] == "FFMPEG":
        told = metadata_of(encoding.origin[0])
    return told, frames, notes


def lost_texts(told: tags.Metadata, names: Iterable[str]) -> list[str]:
    """A note of what is told besides the texts by `names` and is lost where only those are kept."""
    others = {*told.texts, *told.others} - {*names}
    return tags.missing(others, len(told.pictures), told.chapters)


def set_tags(file: soundfile.SoundFile, texts: Tags) -> list[str]:
    """Write the tags that the format can hold; return the names of those it cannot."""
    lost = []
    for name, text in texts.items():
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
