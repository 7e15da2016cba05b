"""What tests of batches do to files and processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import soundfile


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
