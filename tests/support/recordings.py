"""Recordings of every format, and how they are read."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000
MONO_ONLY = ("GSM610", "G721_32", "SVX", "SDS")


def speechlike(seconds: float, channels: int, rate: int = RATE) -> np.ndarray:
    """Loud and soft by turns, so that encoders save bits for later."""
    rng = np.random.default_rng(7)
    time = np.arange(round(seconds * rate)) / rate
    level = np.repeat(rng.random(len(time) // 2000 + 1) ** 4, 2000)[: len(time)]
    voice = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 25))
    sound = level * voice * 0.2 + level[::-1] * rng.standard_normal(len(time)) * 0.1
    return np.stack([np.roll(sound, 30 * c) for c in range(channels)], 1).astype(np.float32)


def write(path: Path, kind: tuple[str, str], seconds: float = 3.0, channels: int = 2) -> Path:
    channels = 1 if set(kind) & set(MONO_ONLY) else channels
    samples = speechlike(seconds, channels)
    with soundfile.SoundFile(path, "w", RATE, channels, kind[1], format=kind[0]) as file:
        for start in range(0, len(samples), 4096):
            file.write(samples[start : start + 4096])
    return path


def run(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, timeout=60)


def read(source, size: int = 5_000) -> np.ndarray:
    return np.concatenate([*source.blocks(size), np.zeros((0, source.channels), np.float32)])


def pipe_with(data: bytes):
    reading, writing = os.pipe()

    def fill() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:
            file.write(data)

    threading.Thread(target=fill, daemon=True).start()
    return os.fdopen(reading, "rb", buffering=0)
