"""One recording judged: the same windows of noisy, enhanced and clean, and what they score.

Recordings are read and enhanced block by block, so memory does not grow with their length. What is
longer than 30 s is scored in windows of 20 s (the last one of 10 to 30 s), as PESQ is made for 8
to 30 s (ITU-T P.862.3): the means of the windows, weighted by their lengths. SI-SDR and SNR are of
the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..audio.opening import open_source
from ..enhancement.engines import Engine, load_engine
from ..enhancement.enhancer import LOUDEST, Enhancer, Settings
from ..errors import UserError
from ..network.checkpoint import Checkpoint
from ..network.config import SAMPLE_RATE
from ..signals import Samples
from .alignment import REACH, delay_of, without_first
from .measures import BY_WINDOW, Energies, Scores, dnsmos_scores
from .recognition import ASR, Listener, Recogniser, Recognition, text_of, whisper_of_worker
from .recordings import BLOCK, Mono, to_mono_blocks

WINDOW_S = 20.0
SHORTEST_S = 0.5  # below that no measure says anything
ALIKE_S = 0.05  # by so much lengths may differ
SNR_GAIN = "SNR gain dB"


@dataclass(frozen=True)
class Trial:
    """A noisy file; its clean original and an enhanced version, if there are any."""

    name: str
    noisy: Path
    clean: Path | None = None
    enhanced: Path | None = None


@dataclass(frozen=True)
class TrialResult:
    """The scores of one trial.

    Attributes
    ----------
    delay_ms
        By which an output of another tool is late, measured; ``None`` where it cannot be told, or
        gtcrn made it itself, which is in time.
    recognition
        What a recogniser heard, if one was asked.
    """

    name: str
    noisy: Scores
    enhanced: Scores
    delay_ms: float | None = None
    recognition: Recognition | None = None


@dataclass(frozen=True)
class Failure:
    """A trial that has no scores, and why."""

    name: str
    reason: str


@dataclass
class Judge:
    """The scores of one signal, from as many windows as there are."""

    with_dnsmos: bool = True
    _sums: dict[str, tuple[float, float]] = field(default_factory=dict)  # score x weight, weight
    _against_clean: Energies | None = None
    _noisy: Energies | None = None

    def add(self, estimate: Mono, clean: Mono | None, noisy: Mono) -> None:
        """Take in a window; the measures that need the clean original, if there is one."""
        if clean is not None:
            self._against_clean = Energies.of(estimate, clean) + self._against_clean
            self._noisy = Energies.of(noisy, clean) + self._noisy
            silent = not (clean.any() and estimate.any())
            for name, measure in BY_WINDOW.items():
                self._add(name, math.nan if silent else measure(estimate, clean), len(estimate))
        if self.with_dnsmos:
            for name, value in dnsmos_scores(estimate).items():
                self._add(name, value, len(estimate))

    def _add(self, name: str, value: float, weight: int) -> None:
        total, weights = self._sums.get(name, (0.0, 0.0))
        known = math.isfinite(value)
        self._sums[name] = (total + weight * value, weights + weight) if known else (total, weights)

    def scores(self) -> Scores:
        """The mean scores of all windows that were added."""
        means = {
            name: total / weights if weights else math.nan
            for name, (total, weights) in self._sums.items()
        }
        if self._against_clean is None or self._noisy is None:
            return means
        against = {name: means.pop(name) for name in BY_WINDOW}
        gain_db = self._against_clean.snr_db - self._noisy.snr_db
        return {**against, "SI-SDR dB": self._against_clean.si_sdr_db, SNR_GAIN: gain_db, **means}


def score(estimate: Mono, clean: Mono | None, noisy: Mono, with_dnsmos: bool = True) -> Scores:
    """All measures of one signal, in one window."""
    judge = Judge(with_dnsmos)
    judge.add(estimate, clean, noisy)
    return judge.scores()


def judge(
    trial: Trial,
    engine: Engine | None,
    with_dnsmos: bool,
    settings: Settings | None = None,
    align: bool = False,
    recogniser: Recogniser | None = None,
) -> TrialResult:
    """Enhance (or read what was enhanced) and score one trial.

    Parameters
    ----------
    align
        Take out the delay of what another tool enhanced; lengths may then differ by up to 250 ms.
    recogniser
        Hears all three, if there is a clean one.

    Raises
    ------
    UserError
        A file cannot be read to its end, is too short, or the lengths differ by over 50 ms.
    """
    signals = [mono(trial.noisy)]
    delay: int | None = None
    alike = round(ALIKE_S * SAMPLE_RATE)
    if trial.enhanced is not None:
        pair = [mono(trial.enhanced), mono(trial.clean or trial.noisy)]
        delay = delay_of(windows(trial.name, pair, REACH))
        signals.append(mono(trial.enhanced))
    else:
        assert engine is not None  # needed where a trial has no output of its own
        signals.append(enhanced_mono(trial.noisy, engine, settings))
    if trial.clean is not None:
        signals.append(mono(trial.clean))
    if align and delay is not None:
        alike = REACH + abs(delay)
        signals = [
            without_first(signal, max(0, delay if number == 1 else -delay))
            for number, signal in enumerate(signals)
        ]
    before, after = Judge(with_dnsmos), Judge(with_dnsmos)
    text, listener = None, None
    if recogniser is not None and trial.clean is not None:
        text, listener = text_of(trial.clean), Listener(recogniser)
    length = 0
    for window in windows(trial.name, signals, alike):
        noisy, enhanced = window[:2]
        clean = window[2] if len(window) > 2 else None
        length += len(noisy)
        if length < SHORTEST_S * SAMPLE_RATE:
            break
        before.add(noisy, clean, noisy)
        after.add(enhanced, clean, noisy)
        if listener is not None:
            listener.add(window)
    if length < SHORTEST_S * SAMPLE_RATE:
        raise UserError(f"{trial.name} is shorter than {SHORTEST_S} s")
    delay_ms = None if delay is None else 1000 * delay / SAMPLE_RATE
    recognition = listener.recognition(text) if listener is not None else None
    return TrialResult(trial.name, before.scores(), after.scores(), delay_ms, recognition)


# In a worker process

_judge: Callable[[Trial], TrialResult]  # of this worker


def prepare(
    checkpoint: Checkpoint | None,
    engine: str,
    with_dnsmos: bool,
    settings: Settings | None = None,
    align: bool = False,
    asr: ASR | None = None,
) -> None:
    """Load the models in this process."""
    global _judge
    _judge = partial(
        judge,
        engine=load_engine(checkpoint, engine) if checkpoint else None,
        with_dnsmos=with_dnsmos,
        settings=settings,
        align=align,
        recogniser=whisper_of_worker(asr) if asr else None,
    )


def attempt(trial: Trial) -> TrialResult | Failure:
    """Judge in this process, where whatever goes wrong is that trial's failure."""
    try:
        return _judge(trial)
    except UserError as error:
        return Failure(trial.name, str(error))
    except OSError as error:
        return Failure(trial.name, error.strerror or str(error))
    except Exception as error:
        return Failure(trial.name, f"{type(error).__name__}: {error}")


# Signals


def mono(path: Path) -> Iterator[Mono]:
    """A file at 16 kHz, its channels averaged; what is no number is silence, as in enhancing."""
    source = open_source(str(path))
    yield from to_mono_blocks(map(_sound, source.blocks(BLOCK)), source.sample_rate)


def enhanced_mono(path: Path, engine: Engine, settings: Settings | None = None) -> Iterator[Mono]:
    """A file through the model at its own rate and channels; then as the measures want it."""
    source = open_source(str(path))

    def enhanced() -> Iterator[Samples]:
        with Enhancer(engine, source.sample_rate, source.channels, settings) as enhancer:
            for block in source.blocks(BLOCK):
                yield enhancer.push(block)
            yield enhancer.flush()

    yield from to_mono_blocks(enhanced(), source.sample_rate)


def _sound(block: Samples) -> Samples:
    return np.where(np.abs(block) <= LOUDEST, block, np.float32(0))


def windows(name: str, signals: Sequence[Iterator[Mono]], alike: int) -> Iterator[list[Mono]]:
    """The same window of every signal, until the shortest ends; lengths may differ by `alike`.

    Raises
    ------
    UserError
        They are not equally long.
    """
    window = round(WINDOW_S * SAMPLE_RATE)
    enough = window * 3 // 2
    held: list[Mono] = [np.zeros(0, np.float32) for _ in signals]
    while True:
        for number, signal in enumerate(signals):
            blocks = [held[number]]
            while sum(map(len, blocks)) < enough + alike:
                block = next(signal, None)
                if block is None:
                    break
                blocks.append(block)
            held[number] = np.concatenate(blocks)
        shortest = min(map(len, held))
        if shortest < enough:
            break
        yield [one[:window] for one in held]
        held = [one[window:] for one in held]
    if max(map(len, held)) > shortest + alike:
        raise UserError(f"{name}: noisy, clean and enhanced are not equally long")
    if shortest:
        yield [one[:shortest] for one in held]
