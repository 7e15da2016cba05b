"""The field's measures of speech: against its clean original, and by listening models without one.

All take 16 kHz, mono, and are NaN where they can say nothing. Each measure imports the package that
it is from when it is first taken.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from ..errors import MissingExtraError
from ..network.config import SAMPLE_RATE
from .recordings import Mono

Scores = dict[str, float]  # by the name of the measure


def si_sdr_db(estimate: Mono, target: Mono) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, equation 3)."""
    estimate, target = estimate.astype(float), target.astype(float)
    energy = float(target @ target)
    if energy == 0:
        return math.nan
    scaled = target * (float(estimate @ target) / energy)
    return float(10 * np.log10(scaled @ scaled / (np.sum((estimate - scaled) ** 2) + 1e-20)))


def snr_db(estimate: Mono, target: Mono) -> float:
    """Energy of the target over that of everything in the estimate that is not the target."""
    target = target.astype(float)
    if not target.any():
        return math.nan
    return float(10 * np.log10(target @ target / (np.sum((estimate - target) ** 2) + 1e-20)))


def pesq_score(estimate: Mono, target: Mono, band: str = "wb") -> float:
    """ITU-T P.862.2 (``"wb"``) or P.862.1 (``"nb"``); NaN where it finds no speech."""
    try:
        import pesq
    except ImportError:
        raise MissingExtraError("PESQ", "evaluate") from None
    try:
        return float(pesq.pesq(SAMPLE_RATE, target, estimate, band))
    except pesq.PesqError:
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


AGAINST_CLEAN: dict[str, Callable[[Mono, Mono], float]] = {
    "WB-PESQ": partial(pesq_score, band="wb"),
    "NB-PESQ": partial(pesq_score, band="nb"),
    "STOI": partial(stoi_score, extended=False),
    "ESTOI": partial(stoi_score, extended=True),
    "SI-SDR dB": si_sdr_db,
}
