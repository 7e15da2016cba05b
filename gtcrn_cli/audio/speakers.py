"""Which channel is for which speaker: the mask of a WAV, and what others call the same.

Inside, channels are in the order of the bits of that mask (``WAVEFORMATEXTENSIBLE``), as WAV, FLAC
and ffmpeg have them. A mask of 0 means that nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import soundfile

# By the bits of the mask, as ffmpeg abbreviates them.
NAMES = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
# libsndfile's numbers of them, in the same order; it has two for left, right and centre.
_LIBSNDFILE = (2, 3, 4, 11, 9, 10, 12, 13, 8, 14, 15, 16, 17, 19, 18, 20, 22, 21)
_LIBSNDFILE_TOO = {1: 2, 5: 0, 6: 1, 7: 2}
_GET_MAP, _SET_MAP = 0x1100, 0x1101  # libsndfile's SFC_GET_CHANNEL_MAP_INFO and SFC_SET_...

# ffmpeg's names of layouts, by what is in them.
LAYOUTS = {
    "mono": "FC",
    "stereo": "FL+FR",
    "2.1": "FL+FR+LFE",
    "3.0": "FL+FR+FC",
    "3.0(back)": "FL+FR+BC",
    "4.0": "FL+FR+FC+BC",
    "quad": "FL+FR+BL+BR",
    "quad(side)": "FL+FR+SL+SR",
    "3.1": "FL+FR+FC+LFE",
    "5.0": "FL+FR+FC+BL+BR",
    "5.0(side)": "FL+FR+FC+SL+SR",
    "4.1": "FL+FR+FC+LFE+BC",
    "5.1": "FL+FR+FC+LFE+BL+BR",
    "5.1(side)": "FL+FR+FC+LFE+SL+SR",
    "6.0": "FL+FR+FC+BC+SL+SR",
    "6.0(front)": "FL+FR+FLC+FRC+SL+SR",
    "3.1.2": "FL+FR+FC+LFE+TFL+TFR",
    "hexagonal": "FL+FR+FC+BL+BR+BC",
    "6.1": "FL+FR+FC+LFE+BC+SL+SR",
    "6.1(back)": "FL+FR+FC+LFE+BL+BR+BC",
    "6.1(front)": "FL+FR+LFE+FLC+FRC+SL+SR",
    "7.0": "FL+FR+FC+BL+BR+SL+SR",
    "7.0(front)": "FL+FR+FC+FLC+FRC+SL+SR",
    "7.1": "FL+FR+FC+LFE+BL+BR+SL+SR",
    "7.1(wide)": "FL+FR+FC+LFE+BL+BR+FLC+FRC",
    "7.1(wide-side)": "FL+FR+FC+LFE+FLC+FRC+SL+SR",
    "5.1.2": "FL+FR+FC+LFE+BL+BR+TFL+TFR",
    "octagonal": "FL+FR+FC+BL+BR+BC+SL+SR",
    "cube": "FL+FR+BL+BR+TFL+TFR+TBL+TBR",
}
# What a format without a mask means by so many channels: FLAC (RFC 9639, table 19) and Vorbis
# (its specification I, 4.3.9), which Opus follows (RFC 7845, 5.1.1.2).
FLAC = {
    1: "mono",
    2: "stereo",
    3: "3.0",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
# ALAC has the centre first and the bass last (its reference's channel layout tags, for 3 to 8
# channels); libsndfile hands its channels on as they stand.
ALAC_ORDER = {
    3: (1, 2, 0),
    4: (1, 2, 0, 3),
    5: (1, 2, 0, 3, 4),
    6: (1, 2, 0, 5, 3, 4),
    7: (1, 2, 0, 6, 3, 4, 5),
    8: (3, 4, 0, 7, 5, 6, 1, 2),
}
# In these the order is one of their own: where each channel of the mask's order stands.
VORBIS_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}


def mask_of(layout: str) -> int:
    """The mask of a layout by ffmpeg's name, or of names joined by ``+``; 0 if it has none."""
    names = LAYOUTS.get(layout, layout).split("+")
    if not set(names) <= set(NAMES) or sorted(names, key=NAMES.index) != names:
        return 0  # none of these, or in an order that the mask cannot tell
    return sum(1 << NAMES.index(name) for name in names)


def name_of(mask: int) -> str:
    """What a layout is called: ``5.1``, or its speakers joined by ``+``."""
    speakers = "+".join(name for bit, name in enumerate(NAMES) if mask >> bit & 1)
    return next((name for name, parts in LAYOUTS.items() if parts == speakers), speakers)


def count(mask: int) -> int:
    """How many speakers are in a mask."""
    return mask.bit_count()


def read_mask(file: soundfile.SoundFile) -> int:
    """The mask of an open sound file; 0 where its format, or its header, does not tell.

    soundfile has no name for this libsndfile command, hence the private call.
    """
    if file.format in ("FLAC", "OGG"):
        return mask_of(FLAC.get(file.channels, "")) if file.channels <= 8 else 0
    found = soundfile._ffi.new("int[]", file.channels)
    size = soundfile._ffi.sizeof("int") * file.channels
    if not soundfile._snd.sf_command(file._file, _GET_MAP, found, size):
        return 0
    bits = [_bit(number) for number in found]
    # Of some files libsndfile says that it knows, and does not: then the numbers are no ascending
    # row of speakers.
    if any(bit is None for bit in bits) or bits != sorted(set(bits)):  # type: ignore[type-var]
        return 0
    return sum(1 << bit for bit in bits if bit is not None)


def _bit(number: int) -> int | None:
    if number in _LIBSNDFILE_TOO:
        return _LIBSNDFILE_TOO[number]
    return _LIBSNDFILE.index(number) if number in _LIBSNDFILE else None


def write_mask(file: soundfile.SoundFile, mask: int) -> bool:
    """Put a mask into the header of a file that is being written; says whether it has a place."""
    numbers = [_LIBSNDFILE[bit] for bit in range(len(NAMES)) if mask >> bit & 1]
    given = soundfile._ffi.new("int[]", numbers)
    size = soundfile._ffi.sizeof("int") * len(numbers)
    return bool(soundfile._snd.sf_command(file._file, _SET_MAP, given, size))


def order_of(format_name: str, subtype: str, channels: int) -> Sequence[int] | None:
    """Where each channel, in the order of the mask, stands in a file; ``None``: in its place."""
    if subtype.startswith("ALAC"):
        return ALAC_ORDER.get(channels)
    return VORBIS_ORDER.get(channels) if format_name == "OGG" else None
