"""Recordings as training and measures want them: mono, 16 kHz, as a stream or in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ..audio import ffmpeg
from ..audio.formats import FORMAT_OF_EXTENSION, RAW_EXTENSIONS
from ..audio.opening import open_source
from ..errors import ReadError
from ..network.config import SAMPLE_RATE
from ..signals import Samples

log = logging.getLogger(__name__)

BLOCK = 1 << 18  # samples read at once
Mono = NDArray[np.float32]  # [N]


def audio_files(folder: Path) -> list[Path]:
    """All files of a folder, at any depth, whose names say that there is sound in them.

    Of formats that ffmpeg reads, such as m4a and mp4, where it is installed.
    """
    suffixes = set(FORMAT_OF_EXTENSION) - set(RAW_EXTENSIONS)
    if ffmpeg.is_installed():
        suffixes |= {*ffmpeg.CONTAINERS, *ffmpeg.READ_ONLY}
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()
    )


def read_samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """A whole file, or what is there of one that breaks off: samples ``[N, C]``, sample rate.

    Raises
    ------
    UserError
        It cannot be read as audio.
    """
    source = open_source(str(path))
    empty: Samples = np.zeros((0, source.channels), np.float32)
    blocks = _what_is_there(source.blocks(BLOCK), log.warning)
    return np.concatenate([empty, *blocks]), source.sample_rate


def read_mono(path: Path, say: Callable[[str], object] = log.warning) -> Mono:
    """A whole file, or what is there of it, at 16 kHz, its channels averaged: see `mono_blocks`."""
    return np.concatenate([np.zeros(0, np.float32), *mono_blocks(path, say)])


def mono_blocks(path: Path, say: Callable[[str], object] = log.warning) -> Iterator[Mono]:
    """The same in blocks. What is no number, or infinite, is silence; `say` hears what breaks off.

    Raises
    ------
    UserError
        It cannot be read as audio.
    """
    source = open_source(str(path))
    blocks = (
        block if np.isfinite(block).all() else np.nan_to_num(block, posinf=0, neginf=0)
        for block in _what_is_there(source.blocks(BLOCK), say)
    )
    return to_mono_blocks(blocks, source.sample_rate)


def _what_is_there(blocks: Iterator[Samples], say: Callable[[str], object]) -> Iterator[Samples]:
    begun = False
    try:
        for block in blocks:
            yield block
            begun = True
    except ReadError as error:
        if not begun:
            raise
        say(f"{error}; what is there is taken for all of it")


def to_mono(samples: NDArray[np.float32], sample_rate: int) -> Mono:
    """Samples ``[N, C]`` of any rate as the mean of the channels at 16 kHz."""
    return np.concatenate(list(to_mono_blocks([samples], sample_rate)))


def to_mono_blocks(blocks: Iterable[Samples], sample_rate: int) -> Iterator[Mono]:
    """Blocks ``[N, C]`` of one recording of any rate as blocks of the mean at 16 kHz."""
    if sample_rate == SAMPLE_RATE:
        yield from (block.mean(axis=1).astype(np.float32, copy=False) for block in blocks)
        return
    resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, "float32")
    for block in blocks:
        yield resampler.resample_chunk(block.mean(axis=1).astype(np.float32, copy=False))
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
