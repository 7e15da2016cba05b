"""What can be chosen about the network, and the sizes that follow. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .errors import UserError

SAMPLE_RATE = 16_000  # what the network was designed at; spectrum.py brings every other rate to it
WINDOW = 512  # samples in a frame at that rate: 32 ms
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1  # 257, 31.25 Hz apart

LOW_BINS = 65  # bins 0-64 reach the network as they are
ERB_BANDS = 64  # bins 65-256 reach it through this many triangular bands
BANDS = LOW_BINS + ERB_BANDS  # 129
BANDS_AT = (65, 33, 33, 33, 33)  # bands that leave encoder level 0, 1, ... 4
DEEP_BANDS = BANDS_AT[-1]

CHANNELS = 16
DILATIONS = (1, 2, 5)  # of encoder levels 2, 3, 4 in time; the decoder mirrors them

FUSIONS = ("add",)


@dataclass(frozen=True)
class GTCRNConfig:
    """The choices that make one GTCRN another.

    Attributes
    ----------
    fusion
        How a decoder level takes in the output of the encoder level it mirrors. ``add`` is the
        published network.
    """

    fusion: str = "add"

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise UserError(f"unknown fusion {self.fusion!r}: choose from {', '.join(FUSIONS)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a model file's header holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> GTCRNConfig:
        """The inverse of `to_dict`.

        Raises
        ------
        UserError
            A field that this version does not know, or a value it does not allow.
        """
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise UserError(
                f"the model uses {', '.join(sorted(unknown))}, which this version of gtcrn "
                "does not know: upgrade gtcrn-cli"
            )
        return cls(**fields)
