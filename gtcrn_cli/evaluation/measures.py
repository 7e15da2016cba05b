"""The field's measures of speech: against its clean original, and by listening models without one.

All take 16 kHz, mono, and are NaN where they can say nothing. Each measure imports the package that
it is from when it is first taken.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np

from ..errors import MissingExtraError
from ..network.config import SAMPLE_RATE
from .recordings import Mono

Scores = dict[str, float]  # by the name of the measure

_LEAST = 1e-20  # of an energy, so that its logarithm is a number


@dataclass(frozen=True)
class Energies:
    """What the ratios of an estimate and its target are made of; those of two parts add up."""

    estimate: float
    target: float
    common: float  # estimate times target
    error: float

    @classmethod
    def of(cls, estimate: Mono, target: Mono) -> Energies:
        """The energies of two signals of the same length."""
        e, t = estimate.astype(float), target.astype(float)
        return cls(float(e @ e), float(t @ t), float(e @ t), float(np.sum((e - t) ** 2)))

    def __add__(self, other: Energies | None) -> Energies:
        if other is None:
            return self
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Energies(*(one + another for one, another in pairs))

    @property
    def si_sdr_db(self) -> float:
        """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, equation 3)."""
        if self.target == 0 or self.estimate == 0:
            return math.nan
        scaled = self.common**2 / self.target
        return 10 * math.log10((scaled + _LEAST) / (max(self.estimate - scaled, 0) + _LEAST))

    @property
    def snr_db(self) -> float:
        """Energy of the target over that of everything in the estimate that is not the target."""
        if self.target == 0:
            return math.nan
        return 10 * math.log10(self.target / (self.error + _LEAST))


def si_sdr_db(estimate: Mono, target: Mono) -> float:
    """See `Energies`."""
    return Energies.of(estimate, target).si_sdr_db


def snr_db(estimate: Mono, target: Mono) -> float:
    """See `Energies`."""
    return Energies.of(estimate, target).snr_db


def pesq_score(estimate: Mono, target: Mono, band: str = "wb") -> float:
    """ITU-T P.862.2 (``"wb"``) or P.862.1 (``"nb"``); NaN where it finds no speech."""
    try:
        import pesq
    except ImportError:
        raise MissingExtraError("PESQ", "evaluate") from None
    try:
        return float(pesq.pesq(SAMPLE_RATE, target, estimate, band))
    except (pesq.PesqError, ValueError):  # ValueError: of what it takes for silence
        return math.nan


def stoi_score(estimate: Mono, target: Mono, extended: bool = False) -> float:
    """STOI (Taal et al. 2011), or ESTOI (Jensen & Taal 2016); NaN without enough speech."""
    try:
        import pystoi
    except ImportError:
        raise MissingExtraError("STOI", "evaluate") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # how pystoi says that
        try:
            return float(pystoi.stoi(target, estimate, SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            return math.nan


def dnsmos_scores(samples: Mono) -> Scores:
    """DNSMOS P.835 and P.808 (Reddy et al. 2022): what listeners would say, by a model."""
    try:
        from speechmos import dnsmos
    except ImportError:
        raise MissingExtraError("DNSMOS", "evaluate") from None
    scores = dnsmos.run(np.clip(samples, -1, 1), SAMPLE_RATE)
    names = {"ovrl_mos": "OVRL", "sig_mos": "SIG", "bak_mos": "BAK", "p808_mos": "P.808"}
    return {f"DNSMOS {names[key]}": float(value) for key, value in scores.items()}


# Those against a clean original that grow with a recording's length in time or memory.
BY_WINDOW: dict[str, Callable[[Mono, Mono], float]] = {
    "WB-PESQ": partial(pesq_score, band="wb"),
    "NB-PESQ": partial(pesq_score, band="nb"),
    "STOI": partial(stoi_score, extended=False),
    "ESTOI": partial(stoi_score, extended=True),
}
AGAINST_CLEAN = {**BY_WINDOW, "SI-SDR dB": si_sdr_db}
