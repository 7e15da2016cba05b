"""What is at a target already: whole sound, and of whom.

A manifest knows an output by its size and, where it is to be replaced, by its checksum. Where they
differ, or a batch was killed before it could write down what it had made, only the sound itself
tells an output from what a user put there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ..audio import ffmpeg
from ..audio.opening import open_source
from ..errors import UserError
from ..signals import Samples
from .storage import fetched

BLOCK = 1 << 16  # samples
CHUNK = 1 << 20  # bytes
DIFFERENCE = 1e-4  # what another kind of CPU computes otherwise; three steps of 16 bits


def checksum(path: Path) -> int:
    """The CRC-32 of a file: it tells that an output was edited, also where its size is the same.

    It runs at gigabytes a second, so that it costs next to nothing beside enhancing.
    """
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def is_sound(location: str) -> bool:
    """Whether a file can be read as sound to its end; also where nobody here can tell."""
    try:
        with fetched(location) as path:
            if ffmpeg.is_container(path) and not ffmpeg.is_installed():
                return True
            path.open("rb").close()
            source = open_source(str(path))
            return sum(map(len, source.blocks(BLOCK))) > 0
    except UserError:
        return False
    except OSError:  # it may be the best of sound: this machine has no access
        return True


def is_same_sound(one: Path, other: Path) -> bool:
    """Whether two files hold the same samples, but for rounding, whatever else is in them.

    Encoders that number their streams at random never write the same bytes twice, and the worker
    that made one file may have had a CPU of another kind.

    Raises
    ------
    UserError
        One cannot be read.
    """
    sources = [open_source(str(path)) for path in (one, other)]
    if len({(source.sample_rate, source.channels) for source in sources}) > 1:
        return False
    blocks = (_whole(source.blocks(BLOCK)) for source in sources)
    nothing = np.zeros((0, sources[0].channels), np.float32)
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=0, atol=DIFFERENCE, equal_nan=True)
        for a, b in zip_longest(*blocks, fillvalue=nothing)
    )


def _whole(blocks: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples in blocks of one length, but for the last."""
    held: list[Samples] = []
    for block in blocks:
        held.append(block)
        while sum(map(len, held)) >= BLOCK:
            joined = np.concatenate(held)
            yield joined[:BLOCK]
            held = [joined[BLOCK:]]
    if held:
        yield np.concatenate(held)
