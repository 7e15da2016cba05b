"""A run in its folder: the state that it goes on from, its log, its end."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..network.checkpoint import Checkpoint
from ..network.config import GTCRNConfig
from ..paths import replacing
from .plan import Plan


def restore(
    last: Path,
    plan: Plan,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, float]:
    """Put a stopped run's state back; returns the step to go on with and the hours it has seen."""
    try:
        kept = torch.load(last, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails to unpickle in every way there is
        raise UserError(f"{last} cannot be read: {error}; delete it to start again") from None
    for name, value in asdict(plan).items():
        if name != "steps" and kept["plan"].get(name) != value:
            raise UserError(
                f"the run in {last.parent} was started with {name} = {kept['plan'].get(name)}, not "
                f"{value}: give that, or another folder"
            )
    try:
        network.load_state_dict(kept["network"])
    except RuntimeError:
        raise UserError(
            f"the run in {last.parent} is of another network: give the --config (or the model) "
            "that it was started with, or another folder"
        ) from None
    optimizer.load_state_dict(kept["optimizer"])
    for name, value in kept["average"].items():
        average[name].copy_(value)
    return kept["step"], kept["hours"]


def keep(
    last: Path,
    step: int,
    hours: float,
    plan: Plan,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write all that `restore` needs."""
    state = {
        "step": step,
        "hours": hours,
        "plan": asdict(plan),
        "network": network.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    try:
        last.parent.mkdir(parents=True, exist_ok=True)
        with replacing(last) as path, path.open("wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError, UserError) as error:  # torch calls a full disk a RuntimeError
        raise UserError(f"cannot save the run in {last.parent}: {error}") from None


def build_checkpoint(
    average: dict[str, Tensor], config: GTCRNConfig, card: dict[str, Any]
) -> Checkpoint:
    """The averaged weights as a model file has them."""
    weights = {k: v.cpu().numpy().copy() for k, v in average.items() if v.is_floating_point()}
    return Checkpoint(weights, config, card)


def leave_signals_to_the_parent(worker: int) -> None:
    """A terminal's Ctrl-C and many a kill reach every process: one that mixes ends with its parent.

    The parent needs it for one more step, and the loader ends it, also when the parent was killed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def scarce_memory() -> Iterator[None]:
    """Say what helps when memory runs out; on a CPU torch has no error of its own for that."""
    signs = ("can't allocate memory", "not enough memory", "by signal: Killed")
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
            sign in str(error) for sign in signs
        ):
            advice = "lower --batch-s, or --workers"
            raise UserError(f"memory does not suffice for a training step: {advice}") from None
        raise


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that the step under way is finished and saved."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = [signal.signal(number, lambda n, _: caught.append(n)) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Log:
    """Rows of figures to a CSV file and to `report`. What comes later may have other columns."""

    columns = (
        "step", "hours", "rate", "loss", "spectral", "snr", "suppression", "perceptual",
        "intelligibility", "quality", "norm", "times_real_time",
        "valid_loss", "valid_si_sdr_db", "valid_pesq",
    )  # fmt: skip

    def __init__(self, path: Path | None, report: Callable[[dict[str, float]], None]) -> None:
        self.path, self.report = path, report

    def __call__(self, row: dict[str, float]) -> None:
        self.report(row)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, self.columns, restval="")
                if new:
                    writer.writeheader()
                writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None
