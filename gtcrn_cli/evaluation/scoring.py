"""How good enhanced speech is: against its clean original, and by listening models without one.

Measures are taken at 16 kHz, on the mean of all channels; the enhancing itself happens at the
file's own rate and channels.
"""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..enhancement.engines import load_engine
from ..enhancement.enhancer import enhance
from ..errors import MissingExtraError, UserError
from ..markdown import table
from ..network.checkpoint import Checkpoint
from ..network.config import SAMPLE_RATE
from .measures import AGAINST_CLEAN, Scores, dnsmos_scores, snr_db
from .recordings import Mono, audio_files, read_mono, read_samples, to_mono

try:
    import pesq  # noqa: F401  what measures.py takes is missed before an hour of enhancing
    import pystoi  # noqa: F401
    import speechmos  # noqa: F401
    from scipy import stats
except ImportError:
    raise MissingExtraError("evaluation", "evaluate") from None

SHORTEST_S = 0.5  # below that no measure says anything
SNR_GAIN = "SNR gain dB"


@dataclass(frozen=True)
class Trial:
    """A noisy file; its clean original and an enhanced version, if there are any."""

    name: str
    noisy: Path
    clean: Path | None = None
    enhanced: Path | None = None


@dataclass(frozen=True)
class Result:
    """The scores of one trial."""

    name: str
    noisy: Scores
    enhanced: Scores


@dataclass(frozen=True)
class Mean:
    """The mean of a measure over all files with its 95 % confidence interval (Student's t)."""

    value: float
    margin: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of those values that are numbers."""
        known = np.array([v for v in values if math.isfinite(v)])
        if len(known) == 0:
            return cls(math.nan, math.nan, 0)
        if len(known) == 1:
            return cls(float(known[0]), math.nan, 1)
        margin = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known))
        return cls(float(known.mean()), float(margin), len(known))

    def __str__(self) -> str:
        if self.count == 0:
            return "-"
        return f"{self.value:.3f}" + (f" ± {self.margin:.3f}" if self.count > 1 else "")


def score(estimate: Mono, clean: Mono | None, noisy: Mono, with_dnsmos: bool = True) -> Scores:
    """All measures of one signal; those that need the clean original only if there is one."""
    scores: Scores = {}
    if clean is not None:
        silent = not (clean.any() and estimate.any())
        scores = {
            name: math.nan if silent else measure(estimate, clean)
            for name, measure in AGAINST_CLEAN.items()
        }
        scores[SNR_GAIN] = snr_db(estimate, clean) - snr_db(noisy, clean)
    if with_dnsmos:
        scores |= dnsmos_scores(estimate)
    return scores


# Files


def find_trials(noisy: Path, clean: Path | None, enhanced: Path | None = None) -> list[Trial]:
    """Pair files, or the files of folders by their path within them; extensions may differ.

    Raises
    ------
    UserError
        Something is missing or has no counterpart.
    """
    if noisy.is_file():
        for path in (clean, enhanced):
            if path is not None and not path.is_file():
                raise UserError(f"{noisy} is a file but {path} is not: give files or folders alike")
        return [Trial(noisy.name, noisy, clean, enhanced)]
    by_stem = {kind: _audio_by_stem(path) for kind, path in
               (("noisy", noisy), ("clean", clean), ("enhanced", enhanced)) if path}  # fmt: skip
    for kind, folder in (("clean", clean), ("enhanced", enhanced)):
        if folder is None:
            continue
        missing = by_stem["noisy"].keys() - by_stem[kind].keys()
        if missing:
            raise UserError(
                f"{len(missing)} of {len(by_stem['noisy'])} noisy files have no {kind} one of the "
                f"same name in {folder}, for example {min(missing)}"
            )
    return [
        Trial(stem, path, by_stem.get("clean", {}).get(stem), by_stem.get("enhanced", {}).get(stem))
        for stem, path in by_stem["noisy"].items()
    ]


def _audio_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"no such file or folder: {folder}")
    files = audio_files(folder)
    if not files:
        raise UserError(f"there are no audio files in {folder}")
    return {str(p.relative_to(folder).with_suffix("")): p for p in files}


def enhance_file(path: Path, checkpoint: Checkpoint, engine: str = "native") -> Mono:
    """A file through the model at its own rate and channels; then as the measures want it."""
    samples, rate = read_samples(path)
    return to_mono(enhance(samples, rate, load_engine(checkpoint, engine)), rate)


def judge(trial: Trial, checkpoint: Checkpoint | None, engine: str, with_dnsmos: bool) -> Result:
    """Enhance (or read what was enhanced) and score one trial.

    Raises
    ------
    UserError
        A file cannot be read, is too short, or clean and noisy differ in length by over 50 ms.
    """
    noisy = read_mono(trial.noisy)
    if trial.enhanced is not None:
        enhanced = read_mono(trial.enhanced)
    else:
        assert checkpoint is not None  # `evaluate` takes one where a trial has no output of its own
        enhanced = enhance_file(trial.noisy, checkpoint, engine)
    clean = read_mono(trial.clean) if trial.clean is not None else None
    signals = [s for s in (noisy, enhanced, clean) if s is not None]
    shortest, longest = min(map(len, signals)), max(map(len, signals))
    if longest - shortest > 0.05 * SAMPLE_RATE:
        raise UserError(f"{trial.name}: noisy, clean and enhanced are not equally long")
    if shortest < SHORTEST_S * SAMPLE_RATE:
        raise UserError(f"{trial.name} is shorter than {SHORTEST_S} s")
    noisy, enhanced = noisy[:shortest], enhanced[:shortest]
    clean = None if clean is None else clean[:shortest]
    return Result(
        trial.name,
        score(noisy, clean, noisy, with_dnsmos),
        score(enhanced, clean, noisy, with_dnsmos),
    )


def evaluate(
    trials: Sequence[Trial],
    checkpoint: Checkpoint | None,
    engine: str = "native",
    with_dnsmos: bool = True,
    jobs: int = 1,
) -> Iterator[Result]:
    """Judge many trials, in order, in `jobs` processes; results come as they are ready."""
    work = partial(judge, checkpoint=checkpoint, engine=engine, with_dnsmos=with_dnsmos)
    if jobs == 1:
        yield from map(work, trials)
        return
    # Spawned: a fork of a process with threads may hang.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, trials)


# Tables


def summarize(results: Sequence[Result]) -> dict[str, dict[str, Mean]]:
    """Means by measure, of the noisy files and of the enhanced ones."""
    return {
        name: {
            "noisy": Mean.of([r.noisy[name] for r in results]),
            "enhanced": Mean.of([r.enhanced[name] for r in results]),
        }
        for name in results[0].enhanced
    }


def as_markdown(results: Sequence[Result]) -> str:
    """The means as a table."""
    rows = [
        [name, str(means["noisy"]), str(means["enhanced"]), str(means["enhanced"].count)]
        for name, means in summarize(results).items()
    ]
    return table(["measure", "noisy", "enhanced", "files"], rows) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """A line for each file: its name, then every measure, noisy and enhanced."""
    names = list(results[0].enhanced)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", *(f"{kind} {n}" for n in names for kind in ("noisy", "enhanced"))])
    for result in results:
        values = [v[n] for n in names for v in (result.noisy, result.enhanced)]
        writer.writerow([result.name, *(f"{v:.4f}" if math.isfinite(v) else "" for v in values)])
    return buffer.getvalue()


def as_json(results: Sequence[Result]) -> str:
    """Files and means; what could not be measured is null."""

    def plain(number: float) -> float | None:
        return round(number, 4) if math.isfinite(number) else None

    means = {
        name: {
            kind: {"mean": plain(m.value), "margin": plain(m.margin), "files": m.count}
            for kind, m in pair.items()
        }
        for name, pair in summarize(results).items()
    }
    files = [
        {
            "file": r.name,
            "noisy": {n: plain(v) for n, v in r.noisy.items()},
            "enhanced": {n: plain(v) for n, v in r.enhanced.items()},
        }
        for r in results
    ]
    return json.dumps({"means": means, "files": files}, indent=2, ensure_ascii=False) + "\n"
