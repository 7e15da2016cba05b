"""How a network is trained: the plan that a run keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..network.config import SAMPLE_RATE

TRAIN, VALID = 0, 1  # second number of an example's seed

# The fields of a `Plan` that differ when it begins with trained weights.
GOING_ON: dict[str, Any] = {
    "segments": ((0.0, 8.0),),
    "warmup": 100,
    "average": 0.997,
    "freeze": 0.0,
}


@dataclass(frozen=True)
class Plan:
    """How a network is trained. A run keeps its plan: half way only `steps` may change.

    Attributes
    ----------
    steps
        In all. A run that goes on with another number falls in with the schedule of that one.
    batch_s
        Seconds of audio in a step of each process. No segment is longer than that.
    segments
        ``(share of the run, seconds)``: segments get longer late, when the recurrent state has to
        learn more than seconds.
    learning_rate
        At its peak, after `warmup` steps; from there half a cosine down to zero.
    warmup
        Steps in which the rate rises, but at most a tenth of all.
    snr, suppression, perceptual, intelligibility, quality
        Weights in `EnhancementLoss`. The last one is for the end of a training, and of every second
        step, twice as heavy: it costs more than all the rest.
    freeze
        Share of the run after which batch normalisation keeps its statistics: small batches of long
        segments would measure them badly, and the network learns to live with them. Weights that
        were trained before have good ones: 0.
    anchor
        Pull towards the weights at the start, as weight decay pulls towards zero: fine-tuning then
        forgets less (L2-SP, Li et al. 2018).
    average
        Of the exponential moving average of the weights, which is what is validated and kept.
    """

    steps: int = 20_000
    batch_s: float = 16.0
    segments: tuple[tuple[float, float], ...] = ((0.0, 2.0), (0.2, 4.0), (0.5, 8.0))
    learning_rate: float = 1.5e-3
    warmup: int = 300
    weight_decay: float = 1e-4
    clip: float = 3.0
    average: float = 0.999
    snr: float = 4.5
    suppression: float = 40.0
    perceptual: float = 0.5
    intelligibility: float = 20.0
    quality: float = 0.0
    freeze: float = 0.5
    anchor: float = 0.0
    seed: int = 1

    def segment(self, step: int) -> tuple[int, int]:
        """Examples in a step's batch, and the samples of each."""
        seconds = [s for share, s in self.segments if step >= share * self.steps][-1]
        seconds = min(seconds, self.batch_s)
        return round(self.batch_s / seconds), round(seconds * SAMPLE_RATE)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warmup = min(self.warmup, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
