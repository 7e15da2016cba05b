"""A folder tree of recordings, enhanced by any number of workers.

    order = Order("recordings", "clean")
    result = run_batch(order, Model(load_model()), lambda model: LocalWorkers(model, 4))

What a run did is in the output's manifest, so the next one does what is missing or has changed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from platformdirs import user_state_path

from ..audio.ffmpeg import CONTAINERS
from ..audio.formats import FORMAT_OF_EXTENSION, Encoding, encoding_for
from ..audio.opening import Output
from ..errors import UserError
from ..paths import user_folder
from .jobs import Job, Model, Outcome, Workers, run_jobs
from .manifest import FILE_NAME, Manifest, Record
from .plan import BatchPlan, Item, Order, make_plan
from .storage import absolute, is_url, join, remove_partials

FileStatus = Literal["done", "unchanged", "failed", "skipped"]
STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)
# Takes the seconds of sound that are done, and of all, as far as is known.
BatchProgress = Callable[[float, float], None]


@dataclass(frozen=True)
class Entry:
    """One line of a report.

    Attributes
    ----------
    input, output
        Locations; there is no output where nothing came out.
    status
        ``done`` in this run; ``unchanged`` since an earlier one; ``failed``; or ``skipped``, as
        it is no sound file.
    reason
        Why it failed or was skipped; what was odd about an output that was there.
    trace
        Where a failure that should not be happened, for a bug report.
    summary
        `pipeline.Summary` as plain data.
    """

    input: str
    output: str | None
    status: FileStatus
    reason: str | None = None
    trace: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; summaries name temporary files where locations are remote."""
        facts = {k: v for k, v in self.summary.items() if k not in ("input", "output")}
        named = {"input": self.input, "output": self.output, "status": self.status}
        why = {"reason": self.reason} | ({"trace": self.trace} if self.trace else {})
        return named | why | facts


@dataclass
class BatchResult:
    """What a run did, and what is known of the files that it had no need to touch."""

    order: Order
    model: Model
    entries: list[Entry] = field(default_factory=list)
    elapsed_s: float = 0.0

    def count(self, status: FileStatus) -> int:
        """How many files ended so."""
        return sum(entry.status == status for entry in self.entries)

    @property
    def failures(self) -> list[Entry]:
        """The entries of files that failed."""
        return [entry for entry in self.entries if entry.status == "failed"]

    @property
    def duration_s(self) -> float:
        """Seconds of sound that were enhanced in this run."""
        return sum(e.summary["duration_s"] for e in self.entries if e.status == "done")

    @property
    def speed(self) -> float:
        """Seconds of sound per second of work."""
        return self.duration_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def skipped(self) -> Counter[str]:
        """How many files were skipped for which reason."""
        return Counter(entry.reason or "" for entry in self.entries if entry.status == "skipped")


def run_batch(
    order: Order,
    model: Model,
    hire: Callable[[Model], Workers],
    manifest_path: Path | None = None,
    progress: BatchProgress | None = None,
    fail_fast: bool = False,
    tell: Callable[[Entry], None] = lambda entry: None,
) -> BatchResult:
    """Do what is left to do of an order. What is done stays done, however this ends.

    Parameters
    ----------
    order, model
        What to do, and the network to do it with.
    hire
        Gives the workers; not called when there is nothing to do.
    manifest_path
        Where the manifest is, if not where `manifest_of` says.
    progress
        Called after every file.
    fail_fast
        Stop at the first failure.
    tell
        Called with every entry as soon as it is known.

    Raises
    ------
    UserError
        The source is missing, the output is no place for a batch, another batch is at work there,
        or the workers went away. A single file's trouble is in the result.
    """
    start = time.perf_counter()
    _require_folder(order.output)
    with Manifest(manifest_path or manifest_of(order.output)) as manifest:
        plan = make_plan(order, model.checkpoint.digest, manifest)
        result = BatchResult(order, model, entries_of(plan, order))
        for entry in result.entries:
            tell(entry)
        if plan.todo and not (fail_fast and result.failures):
            manifest.claim((item.target, item.source) for item in plan.todo)
            for item, outcome in _outcomes(plan, order, hire(model), progress, fail_fast):
                if outcome.error is None:
                    manifest.add(_record(item, outcome, plan.options))
                result.entries.append(_entry(item, outcome))
                tell(result.entries[-1])
    result.elapsed_s = time.perf_counter() - start
    return result


def preview(order: Order, model: Model, manifest_path: Path | None = None) -> BatchPlan:
    """What `run_batch` would do; nothing is written."""
    _require_folder(order.output)
    with Manifest(manifest_path or manifest_of(order.output), look_only=True) as manifest:
        return make_plan(order, model.checkpoint.digest, manifest)


def _require_folder(output: str) -> None:
    if not is_url(output) and Path(output).is_file():
        raise UserError(f"{output} is a file: give a folder for what is enhanced")


def manifest_of(output: str) -> Path:
    """Where the manifest of an output folder is: in it, or for a URL in the user's state folder."""
    if not is_url(output):
        return Path(output, FILE_NAME)
    name = hashlib.sha256(os.fsencode(absolute(output))).hexdigest()[:16]
    return user_folder(user_state_path, "XDG_STATE_HOME") / "batches" / f"{name}.jsonl"


def entries_of(plan: BatchPlan, order: Order) -> list[Entry]:
    """What can be said before any work."""
    unchanged = [
        Entry(record.source, join(order.output, record.target), "unchanged", summary=record.summary)
        for record in plan.unchanged
    ]
    edited = "it has been changed since it was made, and is left so: --overwrite makes it anew"
    unchanged += [
        Entry(
            record.source,
            join(order.output, record.target),
            "unchanged",
            edited,
            summary=record.summary,
        )
        for record in plan.edited
    ]
    return unchanged + [
        Entry(file.path, None, "failed" if file.trouble else "skipped", file.reason)
        for file in plan.passed
    ]


def _outcomes(
    plan: BatchPlan, order: Order, workers: Workers, progress: BatchProgress | None, fail_fast: bool
) -> Iterator[tuple[Item, Outcome]]:
    """Do what is planned; when nobody asks for more, the workers stop at once."""
    items = {join(order.output, item.target): item for item in plan.todo}
    output = Output(
        _format_name(order.format),
        order.subtype,
        allow_truncated=order.allow_truncated,
        bit_rate=order.bit_rate,
    )
    jobs = (
        Job(
            item.source,
            target,
            workers.model.key,
            order.settings,
            replace(output, overwrite=item.overwrite),
            item.expected_s,
            item.replaces,
        )
        for target, item in items.items()
    )
    hours = _Hours(plan.todo)
    if progress:
        progress(*hours.now)
    unfinished = set(items)
    try:
        for outcome in run_jobs(jobs, workers):
            item = items[outcome.job.target]
            unfinished.discard(outcome.job.target)
            yield item, outcome
            if progress:
                hours.add(item, outcome)
                progress(*hours.now)
            if fail_fast and outcome.error is not None:
                return
    finally:
        workers.close(at_once=bool(unfinished))
        remove_partials(items)  # of workers that died or were stopped


class _Hours:
    """Hours of sound: those done, and a guess of those ahead that what is done corrects."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._ahead_s = sum(item.expected_s for item in items)
        self._expected_s = 0.0
        self._done_s = 0.0

    def add(self, item: Item, outcome: Outcome) -> None:
        """Count in an item that is done."""
        self._ahead_s -= item.expected_s
        if outcome.error is None:
            self._expected_s += item.expected_s
            self._done_s += outcome.summary["duration_s"]

    @property
    def now(self) -> tuple[float, float]:
        """Seconds done, and in all."""
        correction = self._done_s / self._expected_s if self._expected_s else 1.0
        return self._done_s, self._done_s + self._ahead_s * correction


def require_format(ending: str | None) -> None:
    """Refuse a ``--format`` that no file can have.

    Raises
    ------
    UserError
        Nobody knows it.
    """
    name = _format_name(ending)
    if name is not None:
        encoding_for("", Encoding(), name)


def _format_name(ending: str | None) -> str | None:
    """libsndfile's name for outputs whose ending does not tell it."""
    known = ending is None or f".{ending.lower()}" in (*FORMAT_OF_EXTENSION, *CONTAINERS)
    return None if known else ending


def _record(item: Item, outcome: Outcome, options: str) -> Record:
    return Record(
        item.target,
        item.source,
        item.size,
        item.stamp,
        options,
        outcome.output_size,
        outcome.summary,
        outcome.checksum,
    )


def _entry(item: Item, outcome: Outcome) -> Entry:
    job = outcome.job
    if outcome.error is not None:
        return Entry(job.source, None, "failed", outcome.error, outcome.trace)
    return Entry(job.source, job.target, "done", item.why, summary=outcome.summary)
