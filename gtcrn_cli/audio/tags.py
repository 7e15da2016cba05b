"""Tags and pictures of FLAC, MP3, Ogg and AIFF, through mutagen.

libsndfile knows ten tags and no pictures, and of those ten it keeps fewer in some formats without a
word.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import soundfile

from . import decoding, riff
from .formats import WAV_FAMILY, Tags

WITH_ID3 = ("MPEG", "MP3", "AIFF")  # by libsndfile's names
FORMATS = ("FLAC", "OGG", *WITH_ID3)

# Frames of ID3 and what Vorbis comments call the same.
ID3_NAMES = {
    "TALB": "album",
    "TBPM": "bpm",
    "TCOM": "composer",
    "TCON": "genre",
    "TCOP": "copyright",
    "TDRC": "date",
    "TIT1": "grouping",
    "TIT2": "title",
    "TIT3": "subtitle",
    "TLAN": "language",
    "TPE1": "artist",
    "TPE2": "albumartist",
    "TPE3": "conductor",
    "TPOS": "discnumber",
    "TPUB": "organization",
    "TRCK": "tracknumber",
    "TSRC": "isrc",
}
_FRAMES = {name: frame for frame, name in ID3_NAMES.items()}
OF_ENCODERS = ("encoder", "software", "encodedby", "tsse")  # what made the old file

LONGEST_FLAC_BLOCK = 1 << 24  # bytes: its size has 24 bits

DAMAGED = "tags of the input are damaged: not all of them may be here"


@dataclass
class Metadata:
    """What is told about a recording.

    Attributes
    ----------
    texts
        By the names of Vorbis comments, in lower case; a name may have several.
    pictures
        `mutagen.flac.Picture`, as FLAC and Ogg have them.
    others
        What has no place in such a form: names of ID3 frames.
    chapters
        How many, that have no place either.
    is_damaged
        Whether there may be more that cannot be read.
    """

    texts: dict[str, list[str]] = field(default_factory=dict)
    pictures: list[Any] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    chapters: int = 0
    is_damaged: bool = False


def read(path: Path, format_name: str) -> tuple[Metadata, Any]:
    """The tags of a file, and the ID3 frames that they come from, if any.

    Of a file whose tags are damaged there are none, and that is said.
    """
    from mutagen import MutagenError

    try:
        return _read(path, format_name)
    except MutagenError:
        return Metadata(is_damaged=True), None


def told_by(texts: Tags, origin: tuple[Path, str] | None) -> tuple[Metadata, Any, list[str]]:
    """What is told about a recording that comes from a file of libsndfile's formats.

    Parameters
    ----------
    texts
        The tags that libsndfile has read of it.
    origin
        The file and its format.

    Returns
    -------
    What is told; the ID3 frames that it comes from, if any; and notes on what cannot be read, or
    is kept by nothing but a WAV.
    """
    told, frames = Metadata({name: [text] for name, text in texts.items() if text}), None
    path, kind = origin or (None, "")
    notes = []
    if path is not None and kind in FORMATS:
        more, frames = read(path, kind)
        told = replace(more, texts=more.texts or told.texts)
        notes += [DAMAGED] if told.is_damaged else []
    elif path is not None and kind in WAV_FAMILY:
        told.texts = _texts_of_wav(path) or told.texts
        notes += riff.said([chunk for chunk in riff.extras(path) if chunk.name != b"LIST"])
    return told, frames, notes


def _texts_of_wav(path: Path) -> dict[str, list[str]]:
    """Also those behind the sound, which come last from a pipe."""
    try:
        with soundfile.SoundFile(decoding.as_is(path)) as file:
            return {name: [text] for name, text in file.copy_metadata().items() if text}
    except soundfile.LibsndfileError:
        return {}


def missing(names: Iterable[str], pictures: int = 0, chapters: int = 0) -> list[str]:
    """A note of what the format of an output has no place for; none where that is nothing."""
    counted = [
        f"{count} {what}{'s' if count > 1 else ''}"
        for count, what in ((pictures, "picture"), (chapters, "chapter"))
        if count
    ]
    lost = [*sorted(name or "a text without a name" for name in names), *counted]
    return [f"the format has no place for, and so left out are: {', '.join(lost)}"] if lost else []


def _read(path: Path, format_name: str) -> tuple[Metadata, Any]:
    if format_name in WITH_ID3:
        frames = _open_id3(path, format_name)
        return (Metadata() if frames is None else _from_id3(frames)), frames
    file = _open_comments(path, format_name)
    found = Metadata()
    for name, text in list(file.tags or []):
        if name.lower() == "metadata_block_picture":
            found.pictures += _decoded(text)
        elif name.lower() not in OF_ENCODERS:
            found.texts.setdefault(name.lower(), []).append(text)
    found.pictures += getattr(file, "pictures", [])
    return found, None


def write(path: Path, format_name: str, tags: Metadata, frames: Any = None) -> list[str]:
    """Give a file these tags, and none else; says what it has no place for.

    Parameters
    ----------
    path, format_name
        The file, and its format by libsndfile's name.
    tags, frames
        As `read` gives them; `frames` go as they are from one file with ID3 to another.
    """
    from mutagen import MutagenError

    try:
        if format_name in WITH_ID3:
            _write_id3(path, format_name, tags, frames)
            return missing([] if frames else tags.others, 0, tags.chapters)
        names, pictures = _write_comments(path, format_name, tags)
        return missing([*names, *tags.others], pictures, tags.chapters)
    except (MutagenError, ValueError) as error:
        return [f"tags and pictures could not be written: {error}"]


def _write_comments(path: Path, format_name: str, tags: Metadata) -> tuple[list[str], int]:
    """Names of texts and number of pictures for which there is no place."""
    file = _open_comments(path, format_name)
    file.delete()
    if file.tags is None:
        file.add_tags()
    lost = [name for name in tags.texts if not _is_comment_name(name)]
    for name, texts in tags.texts.items():
        if name not in lost:
            file.tags[name] = texts
    pictures = tags.pictures
    if format_name == "FLAC":
        pictures = [picture for picture in pictures if len(picture.write()) < LONGEST_FLAC_BLOCK]
        for picture in pictures:
            file.add_picture(picture)
    elif pictures:
        encoded = [base64.b64encode(picture.write()).decode() for picture in pictures]
        file.tags["metadata_block_picture"] = encoded
    file.save()
    return lost, len(tags.pictures) - len(pictures)


def _is_comment_name(name: str) -> bool:
    """Whether a Vorbis comment may be called so (its specification I, 5.2.2)."""
    return name != "" and all(" " <= letter <= "}" and letter != "=" for letter in name)


def _open_comments(path: Path, format_name: str) -> Any:
    if format_name == "FLAC":
        from mutagen.flac import FLAC

        return FLAC(path)
    from mutagen.oggopus import OggOpus
    from mutagen.oggvorbis import OggVorbis

    with path.open("rb") as file:
        kind = OggOpus if b"OpusHead" in file.read(4096) else OggVorbis
    return kind(path)


def _open_id3(path: Path, format_name: str) -> Any:
    from mutagen.aiff import AIFF
    from mutagen.id3 import ID3, ID3NoHeaderError

    if format_name == "AIFF":
        return AIFF(path).tags
    try:
        return ID3(path)
    except ID3NoHeaderError:
        return None


def _from_id3(frames: Any) -> Metadata:
    from mutagen.flac import Picture

    found = Metadata()
    for frame in frames.values():
        kind = frame.FrameID
        if kind == "APIC":
            picture = Picture()
            picture.type, picture.mime = int(frame.type), frame.mime
            picture.desc, picture.data = frame.desc, frame.data
            found.pictures.append(picture)
        elif kind in ID3_NAMES:
            found.texts.setdefault(ID3_NAMES[kind], []).extend(map(str, frame.text))
        elif kind == "COMM" and frame.desc in ("", "ID3v1 Comment"):
            found.texts.setdefault("comment", []).extend(map(str, frame.text))
        elif kind == "TXXX" and frame.desc.lower() not in OF_ENCODERS:
            found.texts.setdefault(frame.desc.lower(), []).extend(map(str, frame.text))
        elif kind == "USLT":
            found.texts.setdefault("lyrics", []).append(frame.text)
        elif kind not in ("TXXX", "TSSE", "TENC", "TLEN"):
            found.others.append(kind)
    return found


def _write_id3(path: Path, format_name: str, tags: Metadata, frames: Any) -> None:
    from mutagen import id3
    from mutagen.aiff import AIFF

    target: Any
    if format_name == "AIFF":
        file: Any = AIFF(path)
        if file.tags is None:
            file.add_tags()
        target = file.tags
    else:
        try:
            target = id3.ID3(path)
        except id3.ID3NoHeaderError:
            target = id3.ID3()
    target.clear()
    if frames is not None:
        for frame in frames.values():
            if frame.FrameID not in ("TSSE", "TENC"):
                target.add(frame)
    else:
        _add_frames(target, tags)
    if format_name == "AIFF":
        file.save()
    else:
        target.save(path)


def _add_frames(target: Any, tags: Metadata) -> None:
    from mutagen import id3

    for name, texts in tags.texts.items():
        if name in _FRAMES:
            target.add(getattr(id3, _FRAMES[name])(encoding=3, text=texts))
        elif name == "comment":
            target.add(id3.COMM(encoding=3, lang="und", desc="", text=texts))
        elif name == "lyrics":
            target.add(id3.USLT(encoding=3, lang="und", desc="", text="\n".join(texts)))
        else:
            target.add(id3.TXXX(encoding=3, desc=name, text=texts))
    for number, picture in enumerate(tags.pictures):
        target.add(
            id3.APIC(
                encoding=3,
                mime=picture.mime,
                type=picture.type,
                desc=picture.desc or (str(number) if number else ""),
                data=picture.data,
            )
        )


def _decoded(text: str) -> list[Any]:
    from mutagen.flac import Picture, error

    try:
        return [Picture(base64.b64decode(text))]
    except (ValueError, error):
        return []
