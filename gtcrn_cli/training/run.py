"""A run in its folder: the state that it goes on from, and its end."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
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
from .log import log_columns
from .plan import Plan

log = logging.getLogger(__name__)

# What of a `Plan` a command decides, and no option.
BY_COMMAND = ("segments", "average", "freeze", "weight_decay", "clip")
DATA_OPTIONS = {
    "speech": "--speech (and --original-speech, --share)",
    "noise": "--noise (and --original-noise, --share)",
    "rooms": "--rooms",
    "microphones": "--microphones",
}
STOPS = [signal.SIGINT, signal.SIGTERM] + [
    getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name)
]


@dataclass(frozen=True)
class Circumstances:
    """What makes a run another one, beside its plan and its recordings.

    Attributes
    ----------
    network
        `GTCRNConfig.name`: two of them may have weights of the same names and shapes.
    weights
        Digest of the model that it begins with; ``None`` if with random weights.
    processes
        How many train together: each has examples of its own.
    on_gpu
        A GPU makes other examples, and is rated by DNSMOS in other steps.
    """

    network: str
    weights: str | None = None
    processes: int = 1
    on_gpu: bool = False


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
        Fingerprints of what it is trained on, and of the recipe.
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
    circumstances: Circumstances
    step: int = 0
    hours: float = 0.0

    @classmethod
    def begin(
        cls,
        folder: Path,
        plan: Plan,
        network: GTCRN,
        corpora: dict[str, str],
        circumstances: Circumstances,
    ) -> Run:
        """A new run with this network, or what is in the folder, if there is one.

        Raises
        ------
        UserError
            The folder has a model and no run, or a table called ``log.csv`` that is none of a run;
            or a run with another plan, of other recordings or in other circumstances, or one that
            has taken more steps than those of the plan.
        """
        ema = {name: value.clone() for name, value in network.state_dict().items()}
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        run = cls(folder, plan, network, ema, optimizer, corpora, circumstances)
        if run.last.exists():
            run.load()
        elif run.model.exists():
            raise UserError(f"{run.model} exists, but no run that could go on: give another folder")
        log_columns(run.log)  # rows would be added to it
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
        kept = self._read()
        self._compare_circumstances(kept.get("circumstances"))
        self._compare_plan(kept["plan"])
        self._compare_corpora(kept.get("corpora", {}))
        try:
            self.network.load_state_dict(kept["network"])
        except RuntimeError:
            raise self._refusal(
                "is of another network", "give the --config (or the model) that it was started with"
            ) from None
        if kept["step"] > self.plan.steps:
            raise self._refusal(
                f"has taken {kept['step']} steps already",
                f"give --steps {kept['step']} to end it there, or more",
            )
        self.optimizer.load_state_dict(kept["optimizer"])
        for name, value in kept["ema"].items():
            self.ema[name].copy_(value)
        self.step, self.hours = kept["step"], kept["hours"]

    def _read(self) -> dict[str, Any]:
        try:
            kept = torch.load(self.last, map_location="cpu", weights_only=True)
            parts = ("plan", "step", "hours", "network", "ema", "optimizer")
            if all(part in kept for part in parts) and "steps" in kept["plan"]:
                return dict(kept)
        except OSError as error:
            raise UserError(f"cannot read {self.last}: {error.strerror or error}") from None
        except Exception:  # a damaged file fails to unpickle in every way there is
            pass
        raise UserError(
            f"{self.last} is damaged, or no run of gtcrn train: give another folder"
        ) from None

    def _refusal(self, what: str, advice: str) -> UserError:
        return UserError(f"the run in {self.folder} {what}: {advice}, or give another folder")

    def _compare_circumstances(self, kept: dict[str, Any] | None) -> None:
        """Refuse to go on in others; earlier versions kept none."""
        if kept is None:
            return
        before, now = Circumstances(**kept), self.circumstances
        option = "--start-from (finetune: --model)"
        if before.weights is None and now.weights is not None:
            raise self._refusal("began with random weights", "leave out --start-from")
        if before.weights is not None and now.weights is None:
            raise self._refusal("began with the weights of a model", f"give it with {option}")
        if before.network != now.network:
            raise self._refusal(
                f"trains the network {before.network}, not {now.network}",
                f"give --config {before.network} (or the model that it began with)",
            )
        if before.weights != now.weights:
            raise self._refusal("began with another model", f"give that with {option}")
        if before.processes != now.processes:
            raise self._refusal(
                f"was started with {before.processes} processes, not {now.processes}",
                "give that many (--nproc-per-node of torch.distributed.run)",
            )
        if before.on_gpu != now.on_gpu:
            place, name = ("a GPU", "cuda") if before.on_gpu else ("a CPU", "cpu")
            raise self._refusal(f"was started on {place}", f"give --device {name}")

    def _compare_plan(self, kept: dict[str, Any]) -> None:
        """Refuse to go on by another one, but for the number of steps."""
        before, now = dict(kept), asdict(self.plan)
        for plan in (before, now):  # as far as it showed: see `Plan.rate`
            plan["warmup"] = min(plan.get("warmup", 0), kept["steps"] // 10)
        others = [name for name in now if name not in ("steps", *BY_COMMAND)]
        for name in (*BY_COMMAND, *others):
            if before.get(name) == now[name]:
                continue
            if name in BY_COMMAND:
                raise self._refusal(
                    f"was started by another command ({name} {before.get(name)}, not {now[name]})",
                    "go on with that one, with --start-from if it had that, and without if not",
                )
            option = f"--{name.replace('_', '-')}"
            raise self._refusal(
                f"was started with {option} {kept.get(name)}, not {getattr(self.plan, name)}",
                "give that",
            )

    def _compare_corpora(self, kept: dict[str, str]) -> None:
        """Refuse to go on with other recordings; earlier versions kept fewer fingerprints."""
        if kept.get("recipe", self.corpora["recipe"]) != self.corpora["recipe"]:
            log.warning(
                "the run in %s goes on by another recipe than it was started with: examples are "
                "mixed as this version does",
                self.folder,
            )
        anew = f"begin another run with --start-from (finetune: --model) {self.model}"
        differing = [k for k in DATA_OPTIONS if k in kept and kept[k] != self.corpora[k]]
        if not differing:
            return
        kind = differing[0]
        if kept.get("recordings") == self.corpora["recordings"] and kind in ("speech", "noise"):
            raise self._refusal(
                "draws its recordings in other shares",
                f"give the --share that it was started with, or {anew}",
            )
        raise self._refusal(
            f"was started with other {kind}",
            f"give the same {DATA_OPTIONS[kind]}, or {anew}",
        )

    def save(self) -> None:
        """Write all that `load` needs."""
        state = {
            "step": self.step,
            "hours": self.hours,
            "plan": asdict(self.plan),
            "corpora": self.corpora,
            "circumstances": asdict(self.circumstances),
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

    @property
    def has_model(self) -> bool:
        """Whether the model file has the averaged weights as they are now."""
        try:
            return Checkpoint.load(self.model).digest == self.checkpoint({}).digest
        except UserError:
            return False


def leave_signals_to_the_parent(worker: int) -> None:
    """A terminal's Ctrl-C and many a kill reach every process: one that mixes ends with its parent.

    The parent needs it for one more step, and the loader ends it, also when the parent was killed.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def scarce_memory(
    what: str = "a training step", advice: str = "lower --batch-s, or --workers"
) -> Iterator[None]:
    """Say what helps when memory runs out; on a CPU torch has no error of its own for that."""
    signs = ("can't allocate memory", "not enough memory", "by signal: Killed")
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = f"{error} {error.__cause__}"  # torch says of a loader's process there how it ended
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
            sign in said for sign in signs
        ):
            raise UserError(f"memory does not suffice for {what}: {advice}") from None
        raise


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the signals that stop a process, so that the step under way is finished and saved.

    At the end the first one goes to whom it would have gone. One that is ignored stays so.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
