"""Signals, and how alike two of them are."""

from __future__ import annotations

import numpy as np


def tone(hz: float, level: float, seconds: float = 8) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000)


def si_sdr_db(estimate: np.ndarray, target: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), equation 3."""
    estimate, target = estimate.ravel().astype(float), target.ravel().astype(float)
    scaled = target * np.dot(estimate, target) / np.dot(target, target)
    return float(10 * np.log10(np.sum(scaled**2) / np.sum((estimate - scaled) ** 2)))


def agreement_db(signal: np.ndarray, reference: np.ndarray) -> float:
    """Energy of the reference over that of the difference."""
    length = min(len(signal), len(reference))
    difference = signal[:length] - reference[:length]
    return float(10 * np.log10(np.sum(reference[:length] ** 2) / (np.sum(difference**2) + 1e-20)))
