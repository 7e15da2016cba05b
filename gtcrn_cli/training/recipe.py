"""How often what happens to an example, and how much."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How often what happens to an example, and how much.

    Shares are probabilities; pairs are the ends of a uniform distribution.
    """

    snr_db: tuple[float, float] = (-5, 20)
    level_db: tuple[float, float] = (-50, -12)  # RMS of active speech, relative to full scale
    noise_only: float = 0.05
    nearly_clean: float = 0.12  # noise at nearly_clean_db, or none at all
    nearly_clean_db: tuple[float, float] = (30, 60)
    second_voice: float = 0.05  # both are to be kept
    quiet_reply: float = 0.08  # a second one answers the first, quiet_reply_db softer
    quiet_reply_db: tuple[float, float] = (-35, -8)
    whisper: float = 0.03  # speech without a voice
    far_away: float = 0.12  # far_away_db, in place of level_db
    far_away_db: tuple[float, float] = (-72, -45)
    two_noises: float = 0.3
    three_noises: float = 0.1
    made_noise: float = 0.15  # synthetic, in place of a recording
    babble: float = 0.05
    room: float = 0.4
    equaliser: float = 0.4
    microphone: float = 0.2
    bandlimit: float = 0.1
    codec: float = 0.05
    gain_step: float = 0.1
    clipping: float = 0.07
    speed: float = 0.6  # faster or slower, pitch and all: other speakers, other machines
    plain: float = 0.4  # one noise at plain_snr_db, and nothing else of all this
    plain_snr_db: tuple[float, float] = (-5, 15)
    plain_level_db: tuple[float, float] = (-40, -12)

    def only(self, **kept: Any) -> Recipe:
        """This recipe with every share 0 but those given."""
        shares = {f.name: 0.0 for f in fields(self) if isinstance(f.default, float)}
        return replace(self, **{**shares, **kept})
