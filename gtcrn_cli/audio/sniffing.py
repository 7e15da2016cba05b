"""Whether a file has a header: what has none is never guessed, what has one is never read bare."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ..errors import UserError
from . import mpeg
from .views import bytes_at, size_of

# What files begin with, by the place of the word.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"RIFF", "a RIFF (WAV, AVI)"),
    (0, b"RIFX", "a RIFX"),
    (0, b"RF64", "an RF64"),
    (0, b"BW64", "a BW64"),
    (0, b"riff\x2e\x91\xcf\x11", "a Wave64"),
    (0, b"FORM", "an AIFF or other IFF"),
    (0, b"fLaC", "a FLAC"),
    (0, b"OggS", "an Ogg"),
    (0, b"ID3", "an MP3 or other file with an ID3 tag"),
    (0, b".snd", "an AU"),
    (0, b"dns.", "an AU"),
    (0, b"caff\x00\x01", "a CAF"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM"),
    (4, b"ftyp", "an MP4 or M4A"),
    (4, b"moov", "a QuickTime"),
    (4, b"mdat", "a QuickTime"),
    (4, b"wide", "a QuickTime"),
    (0, b"wvpk", "a WavPack"),
    (0, b"MAC ", "a Monkey's Audio"),
    (0, b"TTA1", "a True Audio"),
    (0, b"MPCK", "a Musepack"),
    (0, b"MP+", "a Musepack"),
    (0, b"ajkg", "a Shorten"),
    (0, b"#!AMR", "an AMR"),
    (0, b".RMF", "a RealMedia"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA or other ASF"),
    (0, b"Creative Voice File", "a VOC"),
    (0, b"NIST_1A", "a NIST Sphere"),
    (0, b"\xf0\x7e\x00\x01", "an SDS"),
    (0, b"2BIT", "an AVR"),
    (0, b"MATLAB 5.0", "a MAT"),
    (0, b"PVF1\n", "a PVF"),
    (0, b"LM8953", "a PAF"),
    (0, b" paf", "a PAF"),
    (0, b"fap ", "a PAF"),
    *((0, bytes([0x64, 0xA3, machine, 0]), "an IRCAM") for machine in range(1, 5)),
    *((0, bytes([0, machine, 0xA3, 0x64]), "an IRCAM") for machine in range(1, 5)),
    (0, b"ALawSoundFile**", "a WVE"),
    (0, b"Extended Instrument", "an XI"),
)
SIGNATURE_BYTES = 32

# Endings of headerless files: as --raw has them, where that can be; else as ffmpeg has them.
_PCM_ENDINGS = {
    ".al": "alaw:8000",
    ".alaw": "alaw:8000",
    ".la": "alaw:8000",
    ".lu": "mulaw:8000",
    ".mulaw": "mulaw:8000",
    ".pcm": "s16le:48000:2",
    ".raw": "s16le:48000:2",
    ".s16": "s16le:48000:2",
    ".s24": "s24le:48000:2",
    ".s32": "s32le:48000:2",
    ".s8": "s8:48000:2",
    ".sb": "s8:8000",
    ".f32": "f32le:48000:2",
    ".f64": "f64le:48000:2",
    ".sl": "s32le:48000:2",
    ".sln": "s16le:8000",
    ".sw": "s16le:48000:2",
    ".u8": "u8:8000",
    ".ub": "u8:8000",
    ".ul": "mulaw:8000",
    ".ulaw": "mulaw:8000",
}
_SLN_KHZ = (12, 16, 24, 32, 44, 48, 96, 192)  # Asterisk's .sln16 and so on
_PCM_ENDINGS |= {f".sln{khz}": f"s16le:{44_100 if khz == 44 else khz * 1000}" for khz in _SLN_KHZ}
_CODED_ENDINGS = {
    ".g722": "g722",
    ".g723": "g723_1",
    ".g723_1": "g723_1",
    ".g726": "g726",
    ".g729": "g729",
    ".gsm": "gsm",
    ".vox": "",  # no reader of ffmpeg's; sox has one
    ".vox6": "",
    ".vox8": "",
    ".aptx": "aptx",
    ".aptxhd": "aptx_hd",
    ".sbc": "sbc",
    ".ima": "",
}
HEADERLESS_ENDINGS = frozenset(_PCM_ENDINGS) | frozenset(_CODED_ENDINGS)


def signature(file: BinaryIO) -> str | None:
    """What an open file is by its first bytes, with its article; ``None`` if they say nothing."""
    return signature_of(bytes_at(file, 0, SIGNATURE_BYTES))


def signature_of(begun: bytes) -> str | None:
    """The same of the first bytes themselves."""
    for at, word, kind in _SIGNATURES:
        if begun[at : at + len(word)] == word:
            return kind
    return None


def require_header(name: str, file: BinaryIO) -> None:
    """Refuse to guess what is in a file of an ending that says: there is no header.

    Raises
    ------
    UserError
        It says what to do.
    """
    ending = Path(name).suffix.lower()
    if ending not in HEADERLESS_ENDINGS or signature(file) is not None:
        return
    if ending in _PCM_ENDINGS:
        advice = f"say what is in it, like --raw {_PCM_ENDINGS[ending]}"
    elif _CODED_ENDINGS[ending]:
        advice = f"--raw reads PCM only: ffmpeg -f {_CODED_ENDINGS[ending]} -i {name} makes a WAV"
    else:
        advice = f"--raw reads PCM only: sox -t {ending[1:]} {name} makes a WAV"
    raise UserError(f"{name} has no header: {advice}")


def require_no_header(name: str, file: BinaryIO) -> None:
    """Refuse to take a header for sound.

    Raises
    ------
    UserError
        The file has one.
    """
    refuse_header(name, bytes_at(file, 0, SIGNATURE_BYTES))
    if mpeg.find(file, 0, size_of(file), within=1) == 0:
        raise UserError(f"{name} is an MP3 or other MPEG file with headers: leave out --raw")


def refuse_header(name: str, begun: bytes) -> None:
    """The same by the first bytes of what cannot be read twice."""
    kind = signature_of(begun)
    if kind is not None:
        raise UserError(f"{name} is {kind} file with a header: leave out --raw")
