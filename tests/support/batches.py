"""How tests run batches, and what they do to files and processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import soundfile

from gtcrn_cli.batch.jobs import Job, LocalWorkers, Model, Outcome, Workers, prepare, process
from gtcrn_cli.batch.manifest import FILE_NAME
from gtcrn_cli.batch.run import BatchResult
from gtcrn_cli.paths import PARTIAL


def sparse_recording(path: Path, duration_s: int) -> None:
    """Silence that takes time to work through, but no room on the disk."""
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        file.write(np.zeros(1))
    data = bytearray(path.read_bytes())
    size = 32_000 * duration_s
    data[4:8] = (len(data) - 10 + size).to_bytes(4, "little")
    data[40:44] = size.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(data[:44])
        file.truncate(44 + size)


@contextmanager
def killing_who_reads(path: Path, pid: int, times: int = 100) -> Iterator[list[int]]:
    """Kill, with SIGKILL, every process below `pid` that opens `path`, up to so many `times`."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.02):
            for child in psutil.Process(pid).children(recursive=True):
                try:
                    if (
                        child.pid not in killed
                        and len(killed) < times
                        and any(file.path == str(path) for file in child.open_files())
                    ):
                        killed.append(child.pid)
                        child.kill()
                except psutil.Error:
                    continue

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield killed
    finally:
        over.set()
        hunter.join()


COMMAND = [sys.executable, "-m", "gtcrn_cli", "batch"]


def two_workers(model: Model) -> Workers:
    return LocalWorkers(model, 2)


class InThisProcess(Workers):
    """One worker, without a process of its own."""

    lost = ()
    count = 1

    def __init__(self, model: Model) -> None:
        self.model = model
        prepare(model)

    def submit(self, jobs: Sequence[Job]) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        future.set_result(process(jobs))
        return future

    def renew(self) -> None:
        raise AssertionError("it cannot be lost")

    def close(self, at_once: bool) -> None:
        pass


def nobody(model: Model) -> Workers:
    raise AssertionError("there was nothing to do")


def gtcrn_batch(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def digests(root: Path) -> dict[str, str]:
    """Of all that is at final names."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name != FILE_NAME and not PARTIAL.fullmatch(path.name)
    }


def statuses(result: BatchResult) -> dict[str, str]:
    return {Path(entry.input).name: entry.status for entry in result.entries}
