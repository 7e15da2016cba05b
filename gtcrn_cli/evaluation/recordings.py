"""Whole recordings as training and measures want them: mono, 16 kHz, in memory."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ..audio.formats import FORMAT_OF_EXTENSION, RAW_EXTENSIONS
from ..audio.reading import FileSource
from ..errors import ReadError
from ..network.config import SAMPLE_RATE
from ..signals import Samples

log = logging.getLogger(__name__)

BLOCK = 1 << 18  # samples read at once
Mono = NDArray[np.float32]  # [N]


def audio_files(folder: Path) -> list[Path]:
    """All files of a folder, at any depth, whose names say that they are audio."""
    suffixes = set(FORMAT_OF_EXTENSION) - set(RAW_EXTENSIONS)
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)


def read_samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """A whole file, or what is there of one that breaks off: samples ``[N, C]``, sample rate.

    Raises
    ------
    UserError
        It cannot be read as audio.
    """
    source = FileSource(path)
    blocks: list[Samples] = [np.zeros((0, source.channels), np.float32)]
    try:
        blocks.extend(source.blocks(BLOCK))
    except ReadError as error:
        if len(blocks) == 1:
            raise
        log.warning("%s; what is there is taken for all of it", error)
    return np.concatenate(blocks), source.sample_rate


def read_mono(path: Path) -> Mono:
    """A whole file at 16 kHz, its channels averaged."""
    return to_mono(*read_samples(path))


def to_mono(samples: NDArray[np.float32], sample_rate: int) -> Mono:
    """Samples ``[N, C]`` of any rate as the mean of the channels at 16 kHz."""
    mono = samples.mean(axis=1)
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE)
    return mono.astype(np.float32, copy=False)
