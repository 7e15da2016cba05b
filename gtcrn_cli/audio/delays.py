"""How late the sound of a file starts that ffmpeg writes, where the file does not tell.

Encoders put samples before the sound. MP4 has a field for that, which all take off. Frames without
a container and older containers have none, and Matroska's is used by newer versions of ffmpeg only:
players play those samples. How many they are is measured with the ffmpeg that is there;
docs/formats.md has them of two.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..signals import lag

EXACT = ("3gp", "ipod", "mov", "mp4", "tta", "wv")  # with a field for it, or without a delay
PROBE_S = 0.5
LONGEST_S = 0.2


@lru_cache
def measure(muxer: str, encoder: tuple[str, ...], sample_rate: int, channels: int) -> int:
    """Samples by which the sound is late as ``ffmpeg -i`` reads it; 0 where it is not, or fails.

    Parameters
    ----------
    muxer
        By ffmpeg's name.
    encoder
        ffmpeg's arguments that choose it; none: the container's own.
    sample_rate, channels
        In Hz; of what is encoded.
    """
    if muxer in EXACT:
        return 0
    random = np.random.default_rng(0)
    sound = np.zeros(round(PROBE_S * sample_rate), np.float32)
    burst = slice(len(sound) // 4, len(sound) // 2)
    noise = np.convolve(random.standard_normal(len(sound)), np.ones(4) / 40, "same")
    sound[burst] = noise[burst]
    form = ["-f", "f32le", "-ar", str(sample_rate), "-ac", str(channels)]
    start = ["ffmpeg", "-v", "quiet", "-y", "-protocol_whitelist", "file,pipe"]
    with tempfile.TemporaryDirectory(prefix="gtcrn-") as folder:
        path = f"file:{Path(folder, 'probe')}"
        every = np.repeat(sound[:, None], channels, 1).astype("<f4").tobytes()
        command = [*start, *form, "-i", "pipe:0", *encoder, "-f", muxer, path]
        subprocess.run(command, input=every, stdout=subprocess.DEVNULL, check=False)
        command = [*start, "-i", path, *form, "pipe:1"]
        read = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).stdout
    samples = np.frombuffer(read[: len(read) // (4 * channels) * 4 * channels], "<f4")
    if not samples.any():
        return 0
    longest = round(LONGEST_S * sample_rate)
    late = samples.reshape(-1, channels)[:, 0]
    return max(0, lag(late, sound, longest))
