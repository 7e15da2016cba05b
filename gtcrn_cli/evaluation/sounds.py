"""The sounds of a comparison: sections of files, and what is enhanced for it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audio.opening import open_source
from ..audio.reading import FileSource
from ..enhancement.engines import Engine, State
from ..enhancement.enhancer import Settings, enhance
from ..enhancement.stft import STFT
from ..errors import ReadError, UserError
from ..network.checkpoint import Checkpoint
from ..signals import Samples, Spectrum

Role = Literal["noisy", "enhanced", "clean"]
FloatArray = NDArray[np.float32]

DEFAULT_DURATION_S = 120.0
LONGEST_DURATION_S = 900.0  # a browser holds every track decoded: 0.7 GB for two of 48 kHz stereo
SHORTEST_S = 0.05
LATEST_S = 1e9  # 31 years


@dataclass(frozen=True)
class Section:
    """Which part of the recordings to show.

    Attributes
    ----------
    start_s
        Where it begins.
    duration_s
        How long it is; ``None`` for the rest, or two minutes of it.
    """

    start_s: float = 0.0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if not self.start_s >= 0:
            raise UserError(f"a start of {self.start_s:g} s lies before the beginning")
        if self.start_s > LATEST_S:
            raise UserError(f"a start of {self.start_s:g} s lies behind the end of any recording")
        if self.duration_s is not None and not SHORTEST_S <= self.duration_s <= LONGEST_DURATION_S:
            raise UserError(
                f"a duration of {self.duration_s:g} s: "
                f"a page takes {SHORTEST_S:g} to {LONGEST_DURATION_S:g} s"
            )


@dataclass(frozen=True)
class Enhancing:
    """Enhance now, instead of reading what was enhanced before.

    Attributes
    ----------
    engine, settings
        What enhances, and how.
    name
        What to call the result.
    """

    engine: Engine
    settings: Settings
    name: str

    @property
    def in_words(self) -> str:
        """The model and all settings in words, so that the result can be made again."""
        how = self.settings
        limit = ""
        if 0 < how.strength < 1:
            limit = f" (--atten-limit {-20 * math.log10(1 - how.strength):.3g})"
        return (
            f"model {self.engine.checkpoint.digest[:12]}, "
            f"strength {how.strength:.4g}{limit}, "
            f"high band {how.high_band}, channels {'linked' if how.linked else 'independent'}"
        )


@dataclass(frozen=True, eq=False)
class Sound:
    """A section of one recording.

    Attributes
    ----------
    path, role
        Where it comes from and what it is.
    samples, sample_rate
        ``[N, C]``, C at most 2.
    notes
        What a reader should know about it.
    """

    path: Path
    role: Role
    samples: Samples
    sample_rate: int
    notes: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return float(np.abs(self.samples).max(initial=0))


class _GainRecorder:
    """An engine that remembers what its masks amount to."""

    def __init__(self, engine: Engine, strength: float) -> None:
        self.name: str = engine.name
        self.checkpoint: Checkpoint = engine.checkpoint
        self._engine = engine
        self._strength = np.float32(strength)
        self._gains: list[FloatArray] = []

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        """See `engines.Engine`."""
        mask, state = self._engine.mask(spectrum, state)
        gain = np.abs(1 - self._strength + self._strength * mask)  # as `Enhancer` applies it
        self._gains.append(np.sqrt(np.square(gain).mean(axis=0)))
        return mask, state

    def gains(self) -> FloatArray:
        """``[T, 257]``, the mean of all channels."""
        return np.concatenate(self._gains)


def _read(path: Path, role: Role, section: Section) -> Sound:
    """The section of a file; more than two channels become one, as headphones have but two."""
    source = open_source(str(path))
    STFT(source.sample_rate)  # refuses a rate out of range before everything is read
    start = round(section.start_s * source.sample_rate)
    length_s = DEFAULT_DURATION_S if section.duration_s is None else section.duration_s
    wanted = round(length_s * source.sample_rate)
    notes = []
    long_s = f"less than {section.start_s + SHORTEST_S:g} s long"
    if source.length is not None:
        long_s = f"{source.length / source.sample_rate:.2f} s long"
    if section.duration_s is None and source.length is not None and wanted < source.length - start:
        notes.append(
            f"{length_s:g} of {source.length / source.sample_rate:.0f} s shown; "
            "--start and --duration choose another part or a longer one"
        )

    if source.channels > 2:
        notes.append(f"its {source.channels} channels are mixed to one")

    if isinstance(source, FileSource):
        source.skip(start)
        start = 0
    blocks: list[Samples] = []
    missing = wanted
    try:
        for block in source.blocks(source.sample_rate):
            before, start = min(start, len(block)), max(0, start - len(block))
            block = block[before:]
            heard = block.mean(axis=1, keepdims=True) if source.channels > 2 else block
            blocks.append(np.nan_to_num(heard[:missing], posinf=0, neginf=0))
            missing -= len(blocks[-1])
            if not missing:
                break
    except ReadError as error:
        if not blocks:
            raise
        notes.append(str(error))
    notes += source.notes
    if (wanted - missing) / source.sample_rate < SHORTEST_S:
        raise UserError(f"{path} is {long_s}: there is nothing to show of it")
    samples = np.concatenate(blocks)
    return Sound(path, role, samples, source.sample_rate, notes)


def _enhance(noisy: Sound, engine: Engine, how: Enhancing) -> Sound:
    enhanced = enhance(noisy.samples, noisy.sample_rate, engine, how.settings)
    return Sound(Path(how.name), "enhanced", enhanced, noisy.sample_rate)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names as text; with their folders where several files are called the same."""
    count = Counter(path.name for path in paths)
    alike = [path.absolute() for path in paths if count[path.name] > 1]
    # without the folders that they share, and that the reader of a page need not know
    root = Path("/")
    if len({path.drive for path in alike}) == 1:
        root = Path(os.path.commonpath([path.parent for path in alike]))
    names = []
    for path in paths:
        if count[path.name] == 1:
            names.append(path.name)
        elif root == Path(root.anchor):
            names.append(str(path))
        else:
            names.append(path.absolute().relative_to(root).as_posix())
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]
