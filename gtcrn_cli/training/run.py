"""A run in its folder: the state that it goes on from, its log, its end."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..network.checkpoint import Checkpoint
from ..network.model import GTCRN
from ..paths import replacing
from .plan import Plan

LOG_SIGN = b"step,hours,"  # how a `Log` begins, also those of earlier versions


@dataclass
class Run:
    """A training run: what changes from step to step, and so what a stopped one goes on from.

    Attributes
    ----------
    folder
        ``last.pt``, ``model.safetensors`` and ``log.csv`` lie here.
    ema
        The exponential moving average of the network's weights and statistics, by name.
    corpora
        Fingerprints of what it is trained on.
    step
        Steps that were taken.
    hours
        Of audio that was seen.
    """

    folder: Path
    plan: Plan
    network: GTCRN
    ema: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    corpora: dict[str, str]
    step: int = 0
    hours: float = 0.0

    @classmethod
    def begin(cls, folder: Path, plan: Plan, network: GTCRN, corpora: dict[str, str]) -> Run:
        """A new run with this network, or what is in the folder, if there is one.

        Raises
        ------
        UserError
            The folder has a model and no run, or a table called ``log.csv`` that is none of a run;
            or a run with another plan, or of other recordings.
        """
        ema = {name: value.clone() for name, value in network.state_dict().items()}
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        run = cls(folder, plan, network, ema, optimizer, corpora)
        if run.last.exists():
            run.load()
        elif run.model.exists():
            raise UserError(f"{run.model} exists, but no run that could go on: give another folder")
        if not _is_log(run.log):  # rows would be added to it
            raise UserError(f"{run.log} exists, and is no log of a run: give another folder")
        return run

    @property
    def last(self) -> Path:
        """All that is needed to go on."""
        return self.folder / "last.pt"

    @property
    def model(self) -> Path:
        """The averaged weights, to use."""
        return self.folder / "model.safetensors"

    @property
    def log(self) -> Path:
        """A table of how it went."""
        return self.folder / "log.csv"

    def load(self) -> None:
        """Put a stopped run's state back."""
        try:
            kept = torch.load(self.last, map_location="cpu", weights_only=True)
            plan, ema = kept["plan"], kept["ema"]
        except Exception as error:  # a damaged file fails to unpickle in every way there is
            raise UserError(
                f"{self.last} cannot be read: {error}; delete it to start again"
            ) from None
        for name, value in asdict(self.plan).items():
            if name != "steps" and plan.get(name) != value:
                raise UserError(
                    f"the run in {self.folder} was started with {name} = {plan.get(name)}, not "
                    f"{value}: give that, or another folder"
                )
        for kind, fingerprint in kept.get("corpora", {}).items():  # earlier versions kept none
            if self.corpora[kind] != fingerprint:
                raise UserError(
                    f"the run in {self.folder} was started with other {kind}: give that, or begin "
                    f"another run with --start-from {self.model}"
                )
        try:
            self.network.load_state_dict(kept["network"])
        except RuntimeError:
            raise UserError(
                f"the run in {self.folder} is of another network: give the --config (or the "
                "model) that it was started with, or another folder"
            ) from None
        self.optimizer.load_state_dict(kept["optimizer"])
        for name, value in ema.items():
            self.ema[name].copy_(value)
        self.step, self.hours = kept["step"], kept["hours"]

    def save(self) -> None:
        """Write all that `load` needs."""
        state = {
            "step": self.step,
            "hours": self.hours,
            "plan": asdict(self.plan),
            "corpora": self.corpora,
            "network": self.network.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.last) as path, path.open("wb") as file:
                torch.save(state, file)
        except (OSError, RuntimeError, UserError) as error:  # torch: a full disk is a RuntimeError
            raise UserError(f"cannot save the run in {self.folder}: {error}") from None

    def checkpoint(self, card: dict[str, Any]) -> Checkpoint:
        """The averaged weights as a model file has them."""
        weights = {k: v.cpu().numpy().copy() for k, v in self.ema.items() if v.is_floating_point()}
        return Checkpoint(weights, self.network.config, card)


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


def _is_log(path: Path) -> bool:
    """Whether rows may be added to a file: there is none, or an empty one, or it is a `Log`."""
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            head = file.read(len(LOG_SIGN))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return LOG_SIGN.startswith(head)


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
