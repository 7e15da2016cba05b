"""Short trainings: what they are, how they are stopped, and runs that were only begun."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.training.corpora import Corpora
from gtcrn_cli.training.loop import train
from gtcrn_cli.training.plan import Plan
from gtcrn_cli.training.recipe import Recipe
from gtcrn_cli.training.run import Circumstances, Run

Halves = tuple[Corpora, Corpora]


PLAN = Plan(
    steps=4, batch_s=0.5, segments=((0.0, 0.5),), perceptual=0.0, intelligibility=0.0, freeze=1.0
)


def run_training(run: Path, halves: Halves, plan: Plan = PLAN, **options: Any) -> Checkpoint:
    small = {"workers": 0, "validate_every": 1000, "validation_examples": 1}
    return train(run, plan, Recipe(), *halves, **{**small, **options})


def stop_after(steps: int) -> Callable[[int, nn.Module], None]:
    """For `observe`: Ctrl-C while that many steps have been taken, or are being taken."""

    def observe(step: int, network: nn.Module) -> None:
        if step + 1 == steps:
            signal.raise_signal(signal.SIGINT)

    return observe


def stopped(run: Path, halves: Halves, plan: Plan, steps: int, **options: Any) -> dict[str, Any]:
    """A run that was stopped after some steps: what it keeps."""
    with pytest.raises(KeyboardInterrupt):
        run_training(run, halves, plan, observe=stop_after(steps), **options)
    return torch.load(run / "last.pt", weights_only=True)


def kept_run(
    folder: Path, plan: Plan = PLAN, corpora: dict[str, str] | None = None, **circumstances: Any
) -> None:
    """A run that was begun, and not a step taken."""
    config = GTCRNConfig()
    fingerprints = dict.fromkeys(
        ("recordings", "speech", "noise", "rooms", "microphones", "recipe"), "x"
    )
    now = Circumstances(**{"network": config.name, **circumstances})
    Run.begin(folder, plan, GTCRN(config), {**fingerprints, **(corpora or {})}, now).save()
