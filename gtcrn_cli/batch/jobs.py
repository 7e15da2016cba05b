"""Many files through `concurrent.futures`: worker processes here, or anything else of that kind.

A job says all that a worker needs besides the model, and a worker answers every job with an
`Outcome`, whatever happened. Only a worker that died cannot: then its files are tried once more,
each alone, so that the one that kills workers is found and the others are done. Workers here and
elsewhere and what they are sent belong together, hence the length.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from ..audio.opening import Output
from ..enhancement.engines import Engine, load_engine
from ..enhancement.enhancer import Settings
from ..enhancement.pipeline import denoise
from ..errors import UserError
from ..memory import keep_freed_memory
from ..native import machine_code
from ..network.checkpoint import Checkpoint
from .outputs import checksum, is_same_sound, is_sound
from .storage import Found, delivered, fetched, look_up

GRACE_S = 2  # for a worker that is told to stop
TOGETHER_S = 120.0  # of sound to hand over at once, in short files: each time costs milliseconds
RETRIES = 2  # after trouble that may pass, such as that of a network


@dataclass(frozen=True)
class Model:
    """The network that workers load: each of them once, whatever the number of files.

    Attributes
    ----------
    checkpoint
        Travels to the workers, so they need no model files.
    engine, device
        As `engines.load_engine` takes them.
    """

    checkpoint: Checkpoint
    engine: str = "native"
    device: str = "cpu"

    @cached_property
    def key(self) -> str:
        """Tells models that a worker has loaded apart."""
        return f"{self.checkpoint.digest} {self.engine} {self.device}"


@dataclass(frozen=True)
class Job:
    """One file to enhance: locations as `storage` knows them, and how.

    Where its output is not to replace what is at the target, this may still be what a worker had
    made before it was lost: see `_enhance`.
    """

    source: str
    target: str
    model: str  # `Model.key`
    settings: Settings
    output: Output
    expected_s: float  # of sound, as far as is known before
    replaces: int | None = None  # the checksum of what may be replaced; without one, anything


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    error
        Why it failed; ``None`` if it did not.
    trace
        Where, if that is nothing a user can put right.
    may_pass
        Whether it can be expected to work another time.
    summary
        `pipeline.Summary` as plain data.
    output_size, checksum
        Of the output, in bytes, and see `outputs.checksum`.
    """

    job: Job
    error: str | None = None
    trace: str | None = None
    may_pass: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    output_size: int = 0
    checksum: int | None = None


_engines: dict[str, Engine] = {}  # of this worker


def prepare(model: Model) -> None:
    """Load the model in this process, for the jobs that name it."""
    keep_freed_memory()
    if model.key not in _engines:
        _engines[model.key] = load_engine(model.checkpoint, model.engine, model.device)


def process(jobs: Sequence[Job]) -> list[Outcome]:
    """Do jobs in this process; raises nothing that a job can cause."""
    return [_outcome(job) for job in jobs]


def _outcome(job: Job) -> Outcome:
    try:
        return _enhance(job)
    except UserError as error:
        return Outcome(job, str(error))
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        may_pass = not isinstance(error, FileNotFoundError | PermissionError)
        return Outcome(job, f"{error.strerror or error}{place}", may_pass=may_pass)
    except Exception as error:
        return Outcome(job, f"{type(error).__name__}: {error}", traceback.format_exc())
    except SystemExit:  # told to stop, and everything half-written is removed by now
        os._exit(1)


def _enhance(job: Job) -> Outcome:
    output = job.output
    if isinstance(look_up(job.target), Found) and not (output.overwrite and _is_replaceable(job)):
        if is_sound(job.target):
            return _compare(job)
        output = replace(output, overwrite=True)  # a power cut has left it
    with (
        fetched(job.source) as noisy,
        delivered(job.target, output.overwrite) as enhanced,
    ):
        summary = _denoise(job, noisy, enhanced, output)
        made = _made(job, summary, enhanced)
    return made


def _is_replaceable(job: Job) -> bool:
    """Whether what is at the target is what may be replaced, to the byte."""
    if job.replaces is None:
        return True
    with fetched(job.target) as there:
        return checksum(there) == job.replaces


def _made(job: Job, summary: dict[str, Any], output: Path) -> Outcome:
    return Outcome(
        job, summary=summary, output_size=output.stat().st_size, checksum=checksum(output)
    )


def _compare(job: Job) -> Outcome:
    """Do a job whose target is there, though nothing says by whom. What a worker had made before it
    or its batch was killed is what comes out now; anything else is somebody's, and stays.
    """
    output = replace(job.output, allow_truncated=True)  # no part is to be kept of what is made here
    with (
        fetched(job.source) as noisy,
        fetched(job.target) as there,
        tempfile.TemporaryDirectory(prefix="gtcrn-") as folder,
    ):
        made = Path(folder, there.name)
        summary = _denoise(job, noisy, made, output)
        if not is_same_sound(made, there):
            raise UserError(
                f"{job.target} exists, and is not what is made now: add --overwrite to replace it"
            )
        return _made(job, summary, there)


def _denoise(job: Job, noisy: Path, enhanced: Path, output: Output) -> dict[str, Any]:
    """Enhance one file of this machine into another; a summary as plain data."""
    try:
        engine = _engines[job.model]
        return denoise(str(noisy), str(enhanced), engine, job.settings, output).to_dict()
    except UserError as error:
        message = str(error).replace(str(noisy), job.source)
        message = message.replace(str(enhanced.parent), job.target.rpartition("/")[0])
        raise UserError(message) from None


class Workers(Protocol):
    """A `concurrent.futures.Executor` whose workers have the model, and that can be had anew.

    Attributes
    ----------
    lost
        Exceptions of a future that mean: the worker died over it.
    """

    model: Model
    lost: tuple[type[Exception], ...]

    @property
    def count(self) -> int:
        """Jobs that run at the same time."""
        ...

    def submit(self, jobs: Sequence[Job]) -> Future[list[Outcome]]:
        """Hand over jobs for one worker; a broken executor shows in the future, like all else."""
        ...

    def renew(self) -> None:
        """Replace an executor that is broken."""
        ...

    def close(self, at_once: bool) -> None:
        """Let the workers go; `at_once` in the middle of their work, leaving nothing half done."""
        ...


class LocalWorkers(Workers):
    """Processes on this machine.

    Threads would do for the engine, which does not hold the GIL. But what surrounds it does, for
    a fifth of the time; and a file that crashes a decoder takes only its process with it.
    """

    lost = (BrokenExecutor,)

    def __init__(self, model: Model, count: int) -> None:
        self._others = set(multiprocessing.active_children())
        # Not as an argument: more than a pipe holds, it would make the parent wait for each worker
        # that starts, and for ever for one that dies then.
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="gtcrn-")
            self._model_file = Path(self._folder.name, "model")
            self._model_file.write_bytes(pickle.dumps(model))
        except OSError as error:
            raise UserError(
                f"no place for temporary files ({error.strerror}): set TMPDIR to a folder with room"
            ) from None
        # Without a cache that can be written, each worker would compile the network anew.
        self._code = None if machine_code.can_keep() else Path(self._folder.name)
        machine_code.keep_in(self._code)
        prepare(model)  # what cannot be loaded is told before any worker starts
        self.model = model
        self._count = count
        self._executor = self._open()

    @property
    def count(self) -> int:
        """See `Workers`."""
        return self._count

    def submit(self, jobs: Sequence[Job]) -> Future[list[Outcome]]:
        """See `Workers`."""
        try:
            return self._executor.submit(process, jobs)
        except (BrokenExecutor, OSError) as error:  # OSError: it broke as it started a worker
            future: Future[list[Outcome]] = Future()
            future.set_exception(BrokenExecutor(str(error)))
            return future

    def renew(self) -> None:
        """See `Workers`."""
        self._end_workers()
        self._executor.shutdown()
        self._executor = self._open()

    def _open(self) -> ProcessPoolExecutor:
        # Not forked: the parent may have threads, which a forked child would miss.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self._count, context, _start_worker, (self._model_file, self._code)
        )

    def close(self, at_once: bool) -> None:
        """See `Workers`."""
        if at_once:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._end_workers()
        self._executor.shutdown()
        machine_code.keep_in(None)
        self._folder.cleanup()

    def _end_workers(self) -> None:
        """End all that there are. The executor would wait for ever for a worker that was still
        being started when another died: it is told neither to stop nor of any job.
        """
        workers = set(multiprocessing.active_children()) - self._others
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + 2 * GRACE_S
        for worker in workers:
            worker.join(max(0, end - time.monotonic()))
            worker.kill()


def _start_worker(model_file: Path, code: Path | None) -> None:
    """Set a worker process up: the parent alone decides when it ends, but for the parent's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the torch engine; the cores are taken
    machine_code.keep_in(code)
    prepare(pickle.loads(model_file.read_bytes()))


def _stop_worker(signum: int, frame: object) -> None:
    """End by an exception, which cleans up; and surely, as there are places that swallow one."""
    signal.alarm(GRACE_S)
    raise SystemExit(128 + signum)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def run_jobs(jobs: Iterable[Job], workers: Workers) -> Iterator[Outcome]:
    """Do all jobs, begun in their order; outcomes come as they are done.

    Short ones are handed over several at a time. Of those shares only a few more than run at the
    same time are with the executor, so that memory does not grow with the number of jobs.

    Raises
    ------
    UserError
        The workers went away for good.
    """
    queue = _Queue(jobs, workers)
    while queue.hand_over():
        yield from queue.collect()


class _Queue:
    """Jobs on their way through workers that may fail or die.

    A job is waiting, then pending. When its worker dies it becomes a suspect, with all others that
    this worker had; suspects run one by one at the end, so that the one to blame shows.
    """

    def __init__(self, jobs: Iterable[Job], workers: Workers) -> None:
        self._workers = workers
        self._waiting = deque(jobs)
        self._suspects: deque[Job] = deque()
        self._pending: dict[Future[list[Outcome]], list[Job]] = {}
        self._tries: Counter[Job] = Counter()
        self._deaths: Counter[Job] = Counter()

    def hand_over(self) -> bool:
        """Give the workers as much as they can use; says whether anything is under way."""
        while self._waiting and len(self._pending) < 2 * self._workers.count + 2:
            self._submit(self._share())
        if not self._pending and self._suspects:
            self._submit([self._suspects.popleft()])
        return bool(self._pending)

    def collect(self) -> Iterator[Outcome]:
        """Wait until something is done, and sort it: an outcome, another try, or a suspect."""
        finished, _ = wait(self._pending, return_when=FIRST_COMPLETED)
        lost: list[Job] = []
        broken = False
        for future in finished:
            share = self._pending.pop(future)
            try:
                yield from self._final(future.result())
            except self._workers.lost as error:
                lost += share
                broken |= isinstance(error, BrokenExecutor)
            except CancelledError:
                raise UserError(
                    "the workers went away: start them, and the same command goes on"
                ) from None
            except OSError as error:
                reason = f"the connection to the worker failed: {error}"
                yield from self._final([Outcome(job, reason, None, True) for job in share])
        if broken:
            lost += chain.from_iterable(self._pending.values())
            self._pending.clear()
            self._workers.renew()
        yield from self._bury(lost)

    def _submit(self, share: list[Job]) -> None:
        self._pending[self._workers.submit(share)] = share

    def _share(self) -> list[Job]:
        """What one worker is to do next: a job, or several short ones while there are plenty."""
        share = [self._waiting.popleft()]
        total_s = share[0].expected_s
        plenty = len(self._waiting) // (4 * self._workers.count)
        while len(share) <= plenty and total_s + self._waiting[0].expected_s <= TOGETHER_S:
            share.append(self._waiting.popleft())
            total_s += share[-1].expected_s
        return share

    def _final(self, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """The outcomes that stay; the others get another try."""
        for outcome in outcomes:
            if outcome.may_pass and self._tries[outcome.job] < RETRIES:
                self._tries[outcome.job] += 1
                self._waiting.append(outcome.job)
            else:
                yield outcome

    def _bury(self, lost: list[Job]) -> Iterator[Outcome]:
        """Suspect jobs whose worker died; one that was alone as it happened has failed."""
        for job in lost:
            self._deaths[job] += 1
            if self._deaths[job] > 1:
                yield Outcome(job, "its worker died over it, twice (out of memory, or a crash)")
            else:
                self._suspects.append(job)
