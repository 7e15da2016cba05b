"""How good enhanced speech is: many trials judged, and tables of what they score.

Measures are taken at 16 kHz, on the mean of all channels; the enhancing itself happens at the
file's own rate and channels.
"""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from ..enhancement.engines import load_engine
from ..enhancement.enhancer import Settings
from ..errors import MissingExtraError, UserError
from ..markdown import table
from ..network.checkpoint import Checkpoint
from ..paths import refuse_url
from .alignment import LEAST_MS
from .judging import Failure, Trial, TrialResult, attempt, prepare
from .recognition import ASR, KINDS, Recognition
from .recordings import audio_files

if any(
    find_spec(package) is None for package in ("pebble", "pesq", "pystoi", "scipy", "speechmos")
):
    raise MissingExtraError("evaluation", "evaluate")  # before an hour of enhancing

DIED = "its process died over it (out of memory, or a crash in the package of a measure)"


@dataclass(frozen=True)
class Mean:
    """The mean of a measure over all files with its 95 % confidence interval (Student's t)."""

    value: float
    margin: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of those values that are numbers."""
        known = np.array([v for v in values if math.isfinite(v)])
        if len(known) == 0:
            return cls(math.nan, math.nan, 0)
        if len(known) == 1:
            return cls(float(known[0]), math.nan, 1)
        from scipy import stats

        margin = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known))
        return cls(float(known.mean()), float(margin), len(known))

    @classmethod
    def of_ratio(cls, parts: Sequence[int], wholes: Sequence[int]) -> Mean:
        """The sum of the parts over that of the wholes.

        The margin is that of a ratio estimate (Cochran 1977, section 2.11): files are what varies.
        """
        if sum(wholes) == 0:
            return cls(math.nan, math.nan, 0)
        ratio = sum(parts) / sum(wholes)
        residues = [part - ratio * whole for part, whole in zip(parts, wholes, strict=True)]
        # Their mean is zero, so what is left of a mean's margin is the spread.
        margin = Mean.of(residues).margin * len(parts) / sum(wholes)
        return cls(ratio, margin, len(parts))

    def __str__(self) -> str:
        if self.count == 0:
            return "-"
        return f"{self.value:.3f}" + (f" ± {self.margin:.3f}" if self.count > 1 else "")


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
    by_stem = {kind: _audio_by_stem(path, noisy) for kind, path in
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


def _audio_by_stem(folder: Path, other: Path) -> dict[str, Path]:
    refuse_url(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file but {other} is not: give files or folders alike")
    if not folder.is_dir():
        raise UserError(f"no such file or folder: {folder}")
    files = audio_files(folder)
    if not files:
        raise UserError(f"there are no audio files in {folder}")
    by_stem: dict[str, Path] = {}
    for path in files:
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in by_stem:
            raise UserError(
                f"{by_stem[stem]} and {path.name} differ in nothing but their endings, by which "
                "files are not paired: leave one of them"
            )
        by_stem[stem] = path
    return by_stem


def evaluate(
    trials: Sequence[Trial],
    checkpoint: Checkpoint | None,
    engine: str = "native",
    with_dnsmos: bool = True,
    jobs: int = 1,
    settings: Settings | None = None,
    align: bool = False,
    asr: ASR | None = None,
) -> Iterator[TrialResult | Failure]:
    """Judge many trials, in order, in `jobs` processes; results come as they are ready.

    With `align`, outputs of other tools are held against what they are about in time. With `asr`, a
    recogniser hears the trials that have a clean original. What goes wrong with one trial, even the
    end of its process, is that trial's `Failure`.

    Raises
    ------
    UserError
        The engine cannot run the model here.
    """
    from pebble import ProcessExpired, ProcessPool

    if checkpoint is not None:
        load_engine(checkpoint, engine)  # what cannot be loaded is told before any process starts
    # Spawned: a fork of a process with threads may hang.
    pool = ProcessPool(
        jobs,
        initializer=prepare,
        initargs=(checkpoint, engine, with_dnsmos, settings, align, asr),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        waiting = iter(trials)
        pending = deque((t, pool.schedule(attempt, (t,))) for t in islice(waiting, 2 * jobs))
        while pending:
            trial, future = pending.popleft()
            try:
                yield future.result()
            except ProcessExpired:
                yield Failure(trial.name, DIED)
            pending.extend((t, pool.schedule(attempt, (t,))) for t in islice(waiting, 1))
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def delay_in_words(results: Sequence[TrialResult]) -> str | None:
    """How late the outputs of another tool are, if any is."""
    late = sorted(r.delay_ms for r in results if r.delay_ms and abs(r.delay_ms) >= LEAST_MS)
    if not late:
        return None
    span = f"{late[0]:+.2f}" if late[0] == late[-1] else f"{late[0]:+.2f} to {late[-1]:+.2f}"
    return f"{len(late)} of {len(results)} enhanced files are not in time ({span} ms; + is late)"


# Tables


def summarize(results: Sequence[TrialResult]) -> dict[str, dict[str, Mean]]:
    """Means by measure, of the noisy files and of the enhanced ones."""
    return {
        name: {
            "noisy": Mean.of([r.noisy[name] for r in results]),
            "enhanced": Mean.of([r.enhanced[name] for r in results]),
        }
        for name in results[0].enhanced
    }


def recognitions(results: Sequence[TrialResult]) -> list[Recognition]:
    """What was heard, of those that were heard."""
    return [r.recognition for r in results if r.recognition is not None]


def word_error_rates(results: Sequence[TrialResult]) -> dict[str, Mean]:
    """All errors over all words, by `KINDS`; none where no recogniser was asked."""
    heard = recognitions(results)
    rates = {}
    for kind in KINDS if heard else ():
        counted = [one for one in heard if kind in one.errors]
        rates[kind] = Mean.of_ratio(
            [one.errors[kind] for one in counted], [one.words for one in counted]
        )
    return rates


def as_markdown(results: Sequence[TrialResult]) -> str:
    """The means as a table, and the word error rate of all words."""
    rows = [
        [name, str(means["noisy"]), str(means["enhanced"]), str(means["enhanced"].count)]
        for name, means in summarize(results).items()
    ]
    rates = word_error_rates(results)
    if not rates:
        return table(["measure", "noisy", "enhanced", "files"], rows) + "\n"
    rows = [[*row[:3], "", row[3]] for row in rows]
    rows.append(["WER", *(str(rates[kind]) for kind in KINDS), str(rates["noisy"].count)])
    heard = recognitions(results)
    from_text = sum(one.from_text for one in heard)
    sources = {
        f"the text beside {from_text} clean files": from_text,
        f"what was heard in {len(heard) - from_text} clean files": len(heard) - from_text,
    }
    said = " and ".join(source for source, count in sources.items() if count)
    words = sum(one.words for one in heard)
    rows_of_text = f"WER: all errors over all {words} words of {said}."
    heading = ["measure", "noisy", "enhanced", "clean", "files"]
    return table(heading, rows) + f"\n\n{rows_of_text}\n"


def as_csv(results: Sequence[TrialResult]) -> str:
    """A line for each file: its name, every measure, noisy and enhanced, and any delay found.

    Where a recogniser was asked, also its error rates, and the errors and words that they are made
    of: the sum of the errors over the sum of the words is the rate of all files.
    """
    names = list(results[0].enhanced)
    delays = any(result.delay_ms is not None for result in results)
    heard = bool(recognitions(results))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heading = [f"{kind} {n}" for n in names for kind in ("noisy", "enhanced")]
    heading += ["delay ms"] if delays else []
    counts = [f"{kind} word errors" for kind in KINDS] + ["words", "words from"]
    writer.writerow(["file", *heading, *([f"{k} WER" for k in KINDS] + counts if heard else [])])
    for result in results:
        values = [v[n] for n in names for v in (result.noisy, result.enhanced)]
        if delays:
            values.append(math.nan if result.delay_ms is None else result.delay_ms)
        cells: list[str | int] = [f"{v:.4f}" if math.isfinite(v) else "" for v in values]
        if (one := result.recognition) is not None:
            rates = (rate_of(one, kind) for kind in KINDS)
            cells += ["" if rate is None else f"{rate:.4f}" for rate in rates]
            cells += [one.errors.get(kind, "") for kind in KINDS]
            cells += [one.words, "text" if one.from_text else "clean"]
        writer.writerow([result.name, *cells])
    return buffer.getvalue()


def rate_of(one: Recognition, kind: str) -> float | None:
    """The word error rate of one file; ``None`` where nothing is said, or it is the reference."""
    return one.errors[kind] / one.words if one.words and kind in one.errors else None


def as_json(results: Sequence[TrialResult]) -> str:
    """Files and means; what could not be measured is null."""

    def plain(number: float | None) -> float | None:
        return None if number is None or not math.isfinite(number) else round(number, 4)

    def with_margin(m: Mean) -> dict[str, float | None]:
        return {"mean": plain(m.value), "margin": plain(m.margin), "files": m.count}

    means: dict[str, dict[str, dict[str, float | None]]] = {
        name: {kind: with_margin(m) for kind, m in pair.items()}
        for name, pair in summarize(results).items()
    }
    if rates := word_error_rates(results):
        means["WER"] = {kind: with_margin(rate) for kind, rate in rates.items()}
    files = [
        {
            "file": r.name,
            "noisy": {n: plain(v) for n, v in r.noisy.items()},
            "enhanced": {n: plain(v) for n, v in r.enhanced.items()},
        }
        | ({} if r.delay_ms is None else {"delay_ms": plain(r.delay_ms)})
        | ({} if r.recognition is None else {"recognition": _recognition(r.recognition, plain)})
        for r in results
    ]
    return json.dumps({"means": means, "files": files}, indent=2, ensure_ascii=False) + "\n"


def _recognition(
    one: Recognition, plain: Callable[[float | None], float | None]
) -> dict[str, object]:
    return {
        "WER": {kind: plain(rate_of(one, kind)) for kind in KINDS},
        "errors": one.errors,
        "words": one.words,
        "words_from": "text" if one.from_text else "clean",
        "said": one.said,
        "heard": one.heard,
    }
