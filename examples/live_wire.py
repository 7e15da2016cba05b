"""Microphone to loudspeaker without the noise: python live_wire.py [SECONDS]

The least that works. `gtcrn live` does it with more care: two sound cards with two clocks, devices
that come and go, a steady latency.
"""

import sys
from typing import Any

import numpy as np
import sounddevice

from gtcrn_cli import Enhancer, load_engine, load_model

SAMPLE_RATE = 48_000
seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
enhancer = Enhancer(load_engine(load_model()), SAMPLE_RATE)
heard = 0.0


def wire(incoming: Any, outgoing: Any, frames: int, time: Any, status: Any) -> None:
    """With blocks of one hop, every block that comes in completes one that goes out."""
    global heard
    enhanced = enhancer.push(incoming)
    outgoing[:] = 0  # the very first block completes nothing yet
    outgoing[: len(enhanced)] = enhanced
    heard = max(heard, float(np.abs(enhanced).max(initial=0)))


with sounddevice.Stream(SAMPLE_RATE, enhancer.hop, channels=1, dtype="float32", callback=wire):
    sounddevice.sleep(round(seconds * 1000))
print(f"peak of what was played: {heard:.3f}")
