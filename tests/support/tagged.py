"""Recordings with tags, pictures and chunks, and what becomes of them."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import numpy as np
import soundfile
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.flac import FLAC, Picture
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from gtcrn_cli.audio.opening import Output, open_sink, open_source

NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, (48_000, 2)).astype(np.float32)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)


def copy(source: Path, target: Path, **how) -> list[str]:
    """Through a source and a sink, unchanged; what the user is told."""
    opened = open_source(str(source))
    with open_sink(str(target), opened, Output(**how)) as sink:
        for block in opened.blocks(9_999):
            sink.write(block)
    return sink.notes


def wav_with(path: Path, chunks: list[tuple[bytes, bytes]], before: int = 0, **how) -> None:
    """A WAV with these chunks, the first of them in front of the sound."""
    soundfile.write(path, NOISE, 48_000, **how)
    data = path.read_bytes()
    laid = [name + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for name, c in chunks]
    data = data[:12] + b"".join(laid[:before]) + data[12:] + b"".join(laid[before:])
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


CHUNKS = [
    (b"bext", b"a recorder".ljust(602, b"\0") + struct.pack("<Q", 123_456_789)),
    (b"iXML", b"<BWFXML><SCENE>1</SCENE></BWFXML>"),
    (b"cue ", struct.pack("<IIIIIII", 1, 1, 4800, 0x61746164, 0, 0, 4800)),
    (b"LIST", b"adtllabl" + struct.pack("<II", 10, 1) + b"mark\0\0"),
    (b"smpl", bytes(36)),
    (b"odd ", b"one"),
]


def cover() -> Picture:
    picture = Picture()
    picture.type, picture.mime, picture.desc, picture.data = 3, "image/png", "cover", PNG
    return picture


TEXTS = {
    "title": ["A talk"],
    "artist": ["Somebody", "Somebody else"],
    "date": ["2026"],
    "tracknumber": ["3"],
    "comment": ["Words"],
    "myown": ["free text"],
    "copyright": ["mine"],
    "genre": ["Speech"],
    "album": ["Talks"],
}


def tagged(path: Path) -> None:
    """A file of that format with texts and a picture, by mutagen's own hand."""
    soundfile.write(
        path,
        NOISE,
        48_000,
        **({"subtype": "OPUS", "format": "OGG"} if path.suffix == ".opus" else {}),
    )
    kind = {".flac": FLAC, ".ogg": OggVorbis, ".opus": OggOpus}.get(path.suffix)
    if kind is None:
        file = id3.ID3() if path.suffix == ".mp3" else AIFF(path)
        if path.suffix == ".aiff":
            file.add_tags()
        target = file if path.suffix == ".mp3" else file.tags
        target.add(id3.TIT2(text=TEXTS["title"]))
        target.add(id3.TPE1(text=TEXTS["artist"]))
        target.add(id3.TDRC(text=TEXTS["date"]))
        target.add(id3.TRCK(text=TEXTS["tracknumber"]))
        target.add(id3.TCOP(text=TEXTS["copyright"]))
        target.add(id3.TCON(text=TEXTS["genre"]))
        target.add(id3.TALB(text=TEXTS["album"]))
        target.add(id3.COMM(lang="eng", desc="", text=TEXTS["comment"]))
        target.add(id3.TXXX(desc="myown", text=TEXTS["myown"]))
        target.add(id3.APIC(mime="image/png", type=3, desc="cover", data=PNG))
        file.save(path) if path.suffix == ".mp3" else file.save()
        return
    file = kind(path)
    for name, texts in TEXTS.items():
        file[name] = texts
    if path.suffix == ".flac":
        file.add_picture(cover())
    else:
        file["metadata_block_picture"] = [base64.b64encode(cover().write()).decode()]
    file.save()


ENDINGS = [".flac", ".ogg", ".opus", ".mp3", ".aiff"]
NAMES = {".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF"}


def bit_rate(path: Path) -> float:
    """In kbit/s, of the whole file."""
    return path.stat().st_size * 8 / soundfile.info(path).duration / 1000
