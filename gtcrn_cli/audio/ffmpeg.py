"""What libsndfile does not know, and video, by way of ffmpeg's own programs.

Samples go through pipes, so memory stays constant however long the file is. Where ffmpeg is not
installed everything else works as before, and the message says what is missing. Nearly all that
calls those programs is here, hence the length.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from ..errors import ReadError, UserError
from ..paths import Replacement
from ..signals import Samples
from . import delays, speakers, tags
from .formats import Encoding

# What ffmpeg calls the containers that it, and not libsndfile, writes.
VIDEO_CONTAINERS = {
    ".3gp": "3gp",
    ".avi": "avi",
    ".flv": "flv",
    ".m2ts": "mpegts",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mp4",
    ".mpeg": "mpeg",
    ".mpg": "mpeg",
    ".mts": "mpegts",
    ".ogv": "ogv",
    ".ts": "mpegts",
    ".webm": "webm",
    ".wmv": "asf",
}
SOUND_CONTAINERS = {
    ".aac": "adts",
    ".ac3": "ac3",
    ".amr": "amr",
    ".eac3": "eac3",
    ".m4a": "ipod",
    ".m4b": "ipod",
    ".mka": "matroska",
    ".mp2": "mp2",
    ".tta": "tta",
    ".wma": "asf",
    ".wv": "wv",
}
CONTAINERS = VIDEO_CONTAINERS | SOUND_CONTAINERS
WITH_RANDOM_NUMBERS = ("matroska", "ogv", "webm")  # of streams, unless they are forbidden
# Formats whose length is nowhere told: ffmpeg's is one of bit rate and size.
BARE = ("aac", "ac3", "amr", "dts", "eac3", "flac", "mp3")  # frames without any times
RECKONED = (*BARE, "mpeg", "mpegts")
BEYOND_S = 60.0  # more than that, and than twice what a container tells, is no sound
LEAST_BYTES_PER_S = 20  # of any sound, long silence included
CUT_OFF_S = 0.1  # of sound that is missing from a damaged file: more is said as loss
READ_ONLY = (".ape", ".dts", ".mpc", ".ra", ".rm", ".shn")  # sound that ffmpeg can only decode

# What ffmpeg calls tags, and is about the file rather than the recording.
OF_CONTAINERS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
WITH_COVER = (".m4a", ".m4b", ".mp4", ".m4v")  # containers in which a picture is one on the cover

# Encoders for sound that goes back into the container it came from.
ENCODERS = {
    "aac": "aac",
    "ac3": "ac3",
    "alac": "alac",
    "eac3": "eac3",
    "flac": "flac",
    "mp2": "mp2",
    "mp3": "libmp3lame",
    "opus": "libopus",
    "vorbis": "libvorbis",
    "wavpack": "wavpack",
    "wmav2": "wmav2",
}

WITHOUT_BIT_RATE = (".tta", ".wv")
PROBE_SAMPLES = 8192
LONGEST_ARGUMENT_BYTES = 100_000  # Linux takes 131,072 for each

ANY_BIT_RATE = (".aac", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".ogv", ".webm")
LOSSLESS = (
    "alac",
    "ape",
    "flac",
    "mlp",
    "shorten",
    "tak",
    "truehd",
    "tta",
    "wavpack",
    "wmalossless",
)

# Silence where a track starts late or has a gap, so that sound stays with the picture.
KEEP_TIME = "aresample=async=1:first_pts=0"
FILL_GAPS = "aresample=async=1"
LATE_BY_CODEC_S = 0.05


def is_installed() -> bool:
    """Whether ffmpeg and ffprobe are on the PATH."""
    return shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None


def is_container(path: str | Path) -> bool:
    """Whether a file of this name is written by ffmpeg."""
    return Path(path).suffix.lower() in CONTAINERS


@dataclass(frozen=True)
class Tracks:
    """What is in a file, as far as it matters here.

    Attributes
    ----------
    sounds
        ffprobe's facts of each sound track.
    others
        Kinds of the other tracks: ``video``, ``subtitle``, ...
    duration_s
        As the track or else the container says; ``None`` where they do not.
    format
        The container, as ffmpeg calls it.
    timecode
        That the first picture begins with; empty if there is none.
    tags
        Texts about the recording, by the names of Vorbis comments.
    pictures
        Numbers of the streams that are pictures on a cover.
    chapters
        How many there are.
    """

    sounds: list[dict[str, Any]]
    others: list[str]
    duration_s: float | None
    format: str
    timecode: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    pictures: list[int] = field(default_factory=list)
    chapters: int = 0


class MediaSource:
    """Reads the first sound track of anything that ffmpeg reads.

    Parameters
    ----------
    path
        The file.
    name
        What to call it, if not by its path.

    Attributes
    ----------
    length
        In samples, as the container says: good for a progress bar, not for a header.
    is_certain
        ``False``.
    bit_rate
        In bit/s; 0 where the track is lossless, or nothing tells.
    notes
        What ffmpeg complained about; complete when all blocks are read.

    Raises
    ------
    UserError
        ffmpeg does not know it either, or there is no sound in it.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.name = name or str(path)
        self.path = str(path)
        self.tracks = _probe(path)
        if not self.tracks.sounds:
            raise UserError(f"{path} has no sound track")
        sound = self.tracks.sounds[0]
        self.sample_rate = int(sound["sample_rate"])
        self.channels = int(sound["channels"])
        duration_s = self.tracks.duration_s
        self.length = None if duration_s is None else round(duration_s * self.sample_rate)
        self.is_certain = False
        fine = int(sound.get("bits_per_raw_sample", 0)) > 16
        mask = speakers.mask_of(sound.get("channel_layout", ""))
        self.encoding = Encoding(
            "FFMPEG",
            "PCM_24" if fine else "PCM_16",
            tags=self.tracks.tags,
            speakers=mask,
            origin=(Path(self.path), "FFMPEG"),
        )
        lossless = sound.get("codec_name", "").startswith("pcm_") or (
            sound.get("codec_name") in LOSSLESS
        )
        self.bit_rate = 0 if lossless else int(sound.get("bit_rate", 0))
        self.notes: list[str] = []
        if len(self.tracks.sounds) > 1:
            self.notes.append(f"of {len(self.tracks.sounds)} sound tracks the first is enhanced")

    def blocks(self, size: int) -> Iterator[Samples]:
        """See `streams.Source`."""
        width = 4 * self.channels  # bytes
        samples_read = 0
        arguments = ["-map", "0:a:0", *self._filters(), "-f", "f32le", "pipe:1"]
        with tempfile.TemporaryFile() as complaints:
            process = _start(
                ["-i", _file(self.path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
            assert process.stdout is not None
            try:
                while data := process.stdout.read(size * width):
                    samples = np.frombuffer(data[: len(data) // width * width], "<f4")
                    samples_read += len(samples) // self.channels
                    if samples_read > self._most():
                        raise ReadError(
                            f"{self.name} is damaged: by its times it would be far too long, more "
                            f"than {samples_read / self.sample_rate:.0f} s"
                        )
                    yield samples.reshape(-1, self.channels).astype(np.float32)
                status = process.wait()
            finally:
                _end(process)
            complaint = _last_line(complaints)
        if status:
            raise ReadError(f"cannot read on in {self.name}: ffmpeg says: {complaint}")
        if samples_read == 0:
            says = f": ffmpeg says: {complaint}" if complaint else ""
            raise ReadError(f"no sound can be read from {self.name}{says}")
        missing = self._promised() - samples_read
        if complaint and missing > CUT_OFF_S * self.sample_rate:
            raise ReadError(
                f"{self.name} is cut off or damaged: {missing / self.sample_rate:.2f} s of its "
                f"sound cannot be read: ffmpeg says: {complaint}"
            )
        if complaint:
            self.notes.append(f"damaged: ffmpeg says: {complaint}")

    def _filters(self) -> list[str]:
        """What makes the samples those that were announced: damage can change rate and channels,
        and ffmpeg goes by the first frame that it decodes.
        """
        keep_time = "" if self.tracks.format in BARE else f"{KEEP_TIME},"
        if self._is_late_by_codec():
            keep_time = f"{FILL_GAPS},"
        layout = self.tracks.sounds[0].get("channel_layout", "unknown")
        if " " in layout or layout == "unknown":
            given = ["-ac", str(self.channels)]
            return [*given, "-af", f"{keep_time}aformat=sample_rates={self.sample_rate}"]
        form = f"aformat=sample_rates={self.sample_rate}:channel_layouts={layout}"
        return ["-af", f"{keep_time}{form}"]

    def _is_late_by_codec(self) -> bool:
        """Whether a late start is what the decoder has taken off, and no silence that was meant:
        ffmpeg 5.1 counts the samples before Opus and Vorbis in Matroska as time, which matters
        beside a picture only.
        """
        sound = self.tracks.sounds[0]
        return (
            sound.get("codec_name") in ("opus", "vorbis")
            and self.tracks.format.startswith("matroska")
            and len(self.tracks.sounds) == 1
            and "video" not in self.tracks.others
            and float(sound.get("start_time", 0)) < LATE_BY_CODEC_S
        )

    def _most(self) -> float:
        """Samples beyond which times must be wrong: a single one can stand for days of silence."""
        if self._promised():
            return 2 * self._promised() + BEYOND_S * self.sample_rate
        size = Path(self.path).stat().st_size
        return (size / LEAST_BYTES_PER_S + BEYOND_S) * self.sample_rate

    def _promised(self) -> int:
        """Samples that a header tells; 0 where ffmpeg only reckons, from the size of the file."""
        if self.length is None or self.tracks.format in RECKONED:
            return 0
        return self.length


class MediaSink:
    """Writes a container with ffmpeg, beside its target, and renames it when it is whole.

    Parameters
    ----------
    path
        The target; its ending is one of `CONTAINERS`.
    sample_rate, channels
        In Hz; of the samples to come.
    source
        Where the samples come from. If that has a picture, it goes along without re-encoding.
    encoding
        Of the input: for which speakers its channels are; title, artist and so on where there is no
        such `source`; the bit rate of the input.
    bit_rate
        In bit/s, where the user asks for one. Else it is that of `encoding` where the encoder takes
        every bit rate.
    overwrite
        Replace an existing target.

    Raises
    ------
    UserError
        The target exists or is no place for a file; it has no bit rate; or fewer channels.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        source: MediaSource | None = None,
        *,
        encoding: Encoding | None = None,
        bit_rate: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.name = str(path)
        self.clips = True
        self.notes: list[str] = []
        self.lost_tags: list[str] = []
        self._ending = Path(path).suffix.lower()
        self._form = sample_rate, channels
        encoding = encoding or Encoding()
        require_installed(f"writing {self._ending}")
        with ExitStack() as opened:
            self._output = Replacement(path, overwrite=overwrite)
            opened.callback(self._output.discard)
            self._covers = opened.enter_context(tempfile.TemporaryDirectory(prefix="gtcrn-"))
            self._complaints = opened.enter_context(tempfile.TemporaryFile())
            self._begin(source, encoding, bit_rate)
            self._opened = opened.pop_all()

    def _begin(self, source: MediaSource | None, encoding: Encoding, bit_rate: int | None) -> None:
        """Start ffmpeg."""
        sample_rate, channels = self._form
        form = ["-f", "f32le", "-ar", str(sample_rate)]
        self._speakers = encoding.speakers if channels > 2 else 0
        if speakers.count(encoding.speakers) == channels:
            form += ["-channel_layout", hex(encoding.speakers)]
        form += ["-ac", str(channels)]
        same_kind = source is not None and Path(source.name).suffix.lower() == self._ending
        encoder = tuple(_encoder_like(source.tracks.sounds[0])) if source and same_kind else ()
        muxer = CONTAINERS[self._ending]
        if bit_rate and (self._ending in WITHOUT_BIT_RATE or _is_lossless(encoder)):
            kind = encoder[-1] if encoder else self._ending
            raise UserError(f"{self.name}: {kind} has no bit rate: leave out --bitrate")
        if channels > 2 and (left := _channels_kept(muxer, encoder, tuple(form), channels)):
            raise UserError(
                f"cannot write {self.name}: {self._ending} would have {left} of {channels} "
                "channels, with the others mixed in: choose .mka, .m4a or a sound file, or mix "
                "them first"
            )
        arguments = [*form, "-i", "pipe:0"]
        self._told, self._pictures, self._chapters = dict(encoding.tags), 0, 0
        if source is None:
            arguments += self._with_tags(encoding)
        else:
            self._told, self._chapters = source.tracks.tags, source.tracks.chapters
            self._pictures = len(source.tracks.pictures)
            arguments += self._with_picture(source)
        self._is_rate_asked = bool(bit_rate)
        if bit_rate is None and (same_kind or takes_any_bit_rate(self.name)):
            bit_rate = encoding.bit_rate
        if bit_rate:
            arguments += ["-b:a:0", str(bit_rate)]
        self._late: tuple[str, tuple[str, ...], int, int] | None = None
        if source is None or "video" not in source.tracks.others:  # else its times are kept
            self._late = (muxer, encoder, sample_rate, channels)
        # The same input gives the same bytes, so that what is there already can be recognised.
        same_bytes = ("-fflags", "+bitexact") if muxer in WITH_RANDOM_NUMBERS else ()
        self._process = _start(
            [*arguments, *same_bytes, "-f", muxer, _file(self._output.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
        )

    def write(self, block: Samples) -> None:
        """See `streams.Sink`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(block.astype("<f4").tobytes())
        except BrokenPipeError:
            self._process.wait()
            raise self._error() from None

    def keep_partial(self) -> str:
        """See `streams.Sink`."""
        self._finish()
        return str(self._output.keep_apart())

    def __enter__(self) -> MediaSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opened:
            try:
                if kind is None:
                    self._finish()
                    self._output.commit()
            finally:
                _end(self._process)

    def _with_tags(self, encoding: Encoding) -> list[str]:
        """ffmpeg's arguments that tell what a file told that ffmpeg does not read here."""
        found, _, notes = tags.told_by(encoding.tags, encoding.origin)
        self.notes += notes
        arguments: list[str] = []
        self._told = {name: ";".join(texts) for name, texts in found.texts.items()}
        self._told |= dict.fromkeys(found.others, "")
        self._pictures = len(found.pictures)
        if self._ending in WITH_COVER:
            covers = [Path(self._covers, str(number)) for number in range(len(found.pictures))]
            for cover, picture in zip(covers, found.pictures, strict=True):
                cover.write_bytes(picture.data)
            covers = [cover for cover in covers if _is_picture(cover)]
            for cover in covers:
                arguments += ["-i", _file(cover)]
            if covers:
                arguments += ["-map", "0:a:0", "-c:v", "copy"]
            for number in range(len(covers)):
                arguments += ["-map", f"{number + 1}:v:0", f"-disposition:v:{number}"]
                arguments += ["attached_pic"]
        for name, text in self._told.items():
            if text and _is_argument(name, text):
                arguments += ["-metadata", f"{name}={text}"]
        return arguments

    def _with_picture(self, source: MediaSource) -> list[str]:
        """ffmpeg's arguments that put the new track (input 0) among the source's (input 1)."""
        suffix, source_suffix = self._ending, Path(source.path).suffix.lower()
        same = CONTAINERS[suffix] == CONTAINERS.get(source_suffix)
        arguments = ["-i", _file(source.path)]
        if suffix in VIDEO_CONTAINERS or same:
            arguments += ["-map", "1:v?", "-c:v", "copy"]
            arguments += _tags_of("v", source.tracks.others.count("video"))
        elif suffix in WITH_COVER:
            for number, index in enumerate(source.tracks.pictures):
                arguments += ["-map", f"1:{index}", "-c:v", "copy"]
                arguments += [f"-disposition:v:{number}", "attached_pic"]
        arguments += ["-map", "0:a:0", "-map_metadata", "1", "-map_metadata:s:a:0", "1:s:a:0"]
        if timecode := source.tracks.timecode:
            arguments += ["-timecode", timecode]  # for the track that goes with the picture
        if not same:
            if "subtitle" in source.tracks.others or len(source.tracks.sounds) > 1:
                origin = source_suffix or source.name
                self.notes.append(f"only picture and the enhanced track go from {origin}")
            return arguments
        arguments += _encoder_like(source.tracks.sounds[0])
        arguments += ["-map", "1:s?", "-c:s", "copy", "-map", "1:t?", "-c:t", "copy"]
        arguments += _tags_of("s", source.tracks.others.count("subtitle"))
        arguments += _tags_of("t", source.tracks.others.count("attachment"))
        for other in range(1, len(source.tracks.sounds)):
            arguments += ["-map", f"1:a:{other}", f"-c:a:{other}", "copy"]
            arguments += [f"-map_metadata:s:a:{other}", f"1:s:a:{other}"]
        data = source.tracks.others.count("data") - bool(source.tracks.timecode)
        if source.tracks.chapters and "mov" in source.tracks.format:
            data -= 1  # the track of their titles, which is made anew
        if data > 0:
            tracks = "1 track" if data == 1 else f"{data} tracks"
            self.notes.append(f"left out: {tracks} of data (not sound, picture or text)")
        return arguments

    def _finish(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait():
            raise self._error()
        with suppress(UserError):  # of no samples some formats make nothing that can be read
            now = _probe(self._output.path)
            self._compare_form(now.sounds)
            self._compare_tags(now)
            if self._speakers:
                self._compare_speakers(now.sounds)
        if self._late and (late := delays.measure(*self._late)):
            self.notes.append(
                f"{self._ending} does not tell where its sound starts: players give "
                f"{late} samples ({1000 * late / self._late[2]:.0f} ms) of its encoder before it; "
                ".m4a and .opus tell"
            )

    def _compare_form(self, sounds: list[dict[str, Any]]) -> None:
        """Say so where the encoder knows no such sample rate, or number of channels."""
        if not sounds:
            return
        codec, (sample_rate, channels) = sounds[0].get("codec_name", "it"), self._form
        now_hz, now_channels = int(sounds[0]["sample_rate"]), int(sounds[0]["channels"])
        if now_hz != sample_rate:
            self.notes.append(f"{codec} holds no {sample_rate} Hz here: written at {now_hz} Hz")
        if now_channels != channels:
            self.notes.append(f"{codec} holds no {channels} channels here: made {now_channels}")

    def _compare_tags(self, now: Tracks) -> None:
        """Say what the container has no place for."""
        pictures = len(now.pictures) or now.others.count("video")
        self.notes += tags.missing(
            [name for name in self._told if name not in now.tags],
            max(0, self._pictures - pictures),
            max(0, self._chapters - now.chapters),
        )

    def _compare_speakers(self, sounds: list[dict[str, Any]]) -> None:
        """Say so where the encoder could not keep which channel is for which speaker."""
        now = sounds[0].get("channel_layout", "unknown") if sounds else "unknown"
        if speakers.mask_of(now) not in (0, self._speakers):
            was = speakers.name_of(self._speakers)
            self.notes.append(f"this sound track holds no layout {was}: it became {now}")

    def _error(self) -> UserError:
        says = _last_line(self._complaints)
        advice = ""
        if "bit_rate" in says and self._is_rate_asked:
            advice = "; its encoder may not know this bit rate: give another --bitrate"
        elif "encoder" in says.lower():  # of AMR, for one, which few builds have
            advice = "; this ffmpeg cannot write it: choose another ending, like .m4a or .opus"
        return UserError(f"cannot write {self.name}: ffmpeg says: {says}{advice}")


def takes_any_bit_rate(path: str | Path) -> bool:
    """Whether the encoder of such a file takes every bit rate, and not only some."""
    return Path(path).suffix.lower() in ANY_BIT_RATE


def require_installed(purpose: str) -> None:
    """Refuse in one line what needs ffmpeg where there is none."""
    if not is_installed():
        raise UserError(f"{purpose} needs ffmpeg, which is not on the PATH: see ffmpeg.org")


def _tags_of(kind: str, count: int) -> list[str]:
    """ffmpeg's arguments that keep language and title of tracks. It copies none by itself once the
    tags of one track are asked for.
    """
    pairs = ([f"-map_metadata:s:{kind}:{n}", f"1:s:{kind}:{n}"] for n in range(count))
    return [argument for pair in pairs for argument in pair]


def _encoder_like(sound: dict[str, Any]) -> list[str]:
    """Encode a track as it was; in the container's own way where there is no such encoder."""
    codec = sound.get("codec_name", "")
    encoder = codec if codec.startswith("pcm_") else ENCODERS.get(codec)
    if encoder is None:
        return []
    return ["-c:a:0", encoder]


def _is_lossless(encoder: Sequence[str]) -> bool:
    return bool(encoder) and (encoder[-1].startswith("pcm_") or encoder[-1] in LOSSLESS)


@lru_cache
def _channels_kept(
    muxer: str, encoder: tuple[str, ...], form: tuple[str, ...], channels: int
) -> int:
    """How many channels there would be, if other than `channels`: asked of ffmpeg with a moment of
    silence. 0 also where that fails: what is wrong is said where the file itself is written.
    """
    with tempfile.TemporaryDirectory(prefix="gtcrn-") as folder:
        path = Path(folder, "probe")
        process = _start(
            [*form, "-i", "pipe:0", *encoder, "-f", muxer, _file(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process.communicate(bytes(PROBE_SAMPLES * 4 * channels))
        sounds: list[dict[str, Any]] = []
        if process.returncode == 0:
            with suppress(UserError):  # so little of some stream is not known for what it is
                sounds = _probe(path).sounds
    now = int(sounds[0]["channels"]) if sounds else channels
    return 0 if now == channels else now


def _is_picture(path: Path) -> bool:
    """Whether ffmpeg can tell the size of a picture: else it would not write the file around it."""
    command = ["ffprobe", "-v", "quiet", "-protocol_whitelist", "file", "-of", "csv=p=0"]
    command += ["-show_entries", "stream=width", _file(path)]
    found = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return found.stdout.strip() not in (b"", b"0")


def _is_argument(name: str, text: str) -> bool:
    """Whether a text can be handed over on ffmpeg's command line."""
    plain = name != "" and not {"=", "\0"} & {*name} and "\0" not in text
    return plain and len(text.encode("utf-8", "replace")) < LONGEST_ARGUMENT_BYTES


def _probe(path: str | Path) -> Tracks:
    command = ["ffprobe", "-v", "error", "-protocol_whitelist", "file", "-of", "json"]
    command += ["-show_streams", "-show_format", "-show_chapters", _file(path)]
    found = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if found.returncode:
        raise UserError(f"cannot read {path}: neither libsndfile nor ffmpeg knows what is in it")
    facts = json.loads(found.stdout)
    kinds = [stream.get("codec_type", "data") for stream in facts.get("streams", [])]
    sounds = [
        stream
        for stream, kind in zip(facts.get("streams", []), kinds, strict=True)
        if kind == "audio" and int(stream.get("channels", 0)) and int(stream["sample_rate"])
    ]
    container = facts.get("format", {})
    texts = dict(container.get("tags", {}))
    if sounds and container.get("format_name") == "ogg":  # where they belong to the stream
        texts |= sounds[0].get("tags", {})
    duration = (sounds[0] if sounds else {}).get("duration") or container.get("duration")
    return Tracks(
        sounds,
        [kind for kind in kinds if kind != "audio"],
        None if duration is None else float(duration),
        container.get("format_name", ""),
        next(
            (
                stream["tags"]["timecode"]
                for stream in facts.get("streams", [])
                if "timecode" in stream.get("tags", {})
            ),
            "",
        ),
        {n.lower(): text for n, text in texts.items() if n.lower() not in OF_CONTAINERS},
        [
            int(stream["index"])
            for stream in facts.get("streams", [])
            if stream.get("disposition", {}).get("attached_pic")
        ],
        len(facts.get("chapters", [])),
    )


def _start(arguments: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    # Only files: a playlist found in an archive must not make ffmpeg fetch things.
    command = ["ffmpeg", "-v", "error", "-y", "-protocol_whitelist", "file,pipe", *arguments]
    # A group of its own, so that Ctrl-C reaches ffmpeg through us, who know what to remove.
    return subprocess.Popen(command, start_new_session=True, **streams)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, whatever happened."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def _file(path: str | Path) -> str:
    """A path for ffmpeg, which would take ``-x`` for an option and ``a:b`` for a protocol."""
    return f"file:{os.fspath(path)}"


def _last_line(file: IO[bytes]) -> str:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 4096))
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def metadata_of(path: Path) -> tags.Metadata:
    """What a file that ffmpeg reads tells about its recording, and the pictures of its cover."""
    from mutagen.flac import Picture

    tracks = _probe(path)
    found = tags.Metadata({name: [text] for name, text in tracks.tags.items()})
    found.chapters = tracks.chapters
    for index in tracks.pictures:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe"]
        command += ["-i", _file(path), "-map", f"0:{index}", "-c", "copy", "-f", "image2pipe", "-"]
        data = subprocess.run(command, capture_output=True, check=False).stdout
        picture = Picture()  # type: ignore[no-untyped-call]
        picture.type, picture.mime, picture.data = 3, _mime(data), data
        found.pictures += [picture] if data else []
    return found


def _mime(image: bytes) -> str:
    signs = {b"\x89PNG": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp"}
    return next((kind for sign, kind in signs.items() if image.startswith(sign)), "image/jpeg")
