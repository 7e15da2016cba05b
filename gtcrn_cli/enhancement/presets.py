"""Settings by name: what most users want, each of which stands for options that they could give."""

from __future__ import annotations

from typing import NamedTuple

from .enhancer import Settings, strength_of_limit


class Preset(NamedTuple):
    """Settings with a name.

    Attributes
    ----------
    options
        Of the command line, that give the same.
    purpose
        What it is for, in a few words.
    """

    settings: Settings
    options: str
    purpose: str


PRESETS = {
    "full": Preset(Settings(), "--strength 1", "as much of the noise as the network finds"),
    "gentle": Preset(
        Settings(strength_of_limit(12)), "--atten-limit 12", "for listeners: some of the room stays"
    ),
    # By the errors of a recogniser: docs/weights.md has the figures.
    "asr": Preset(Settings(strength_of_limit(6)), "--atten-limit 6", "for speech recognisers"),
}
