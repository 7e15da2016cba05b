"""The training loop: mixtures in, a model file out.

One page, top to bottom. A run is a folder: ``last.pt`` (all that is needed to go on),
``model.safetensors`` (the averaged weights, to use), ``log.csv``. A run that was stopped goes on
where it was, and ends as if it had never been stopped: examples depend on the seed and the step
alone, and everything else that changes is in ``last.pt``.
"""

from __future__ import annotations

import csv
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import UserError
from .losses import EnhancementLoss, PerceptualLoss, si_snr_log10, wideband_pesq
from .mixtures import Corpora, Recipe, mixture
from .network.checkpoint import Checkpoint
from .network.config import SAMPLE_RATE, GTCRNConfig
from .network.model import GTCRN, build_network
from .spectrum import analyze_torch, synthesize_torch
from .training_ops import speed_up

TRAIN, VALID = 0, 1  # second number of an example's seed
VALIDATION_SEED = 0
VALIDATION_S = 5.0
SAVE_EVERY_S = 45.0
LOG_EVERY = 20  # steps
QUALITY_EVERY = 2  # steps

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
        Seconds of audio in a step of each process, however long its segments are.
    segments
        ``(share of the run, seconds)``: segments get longer late, when the recurrent state has to
        learn more than seconds.
    learning_rate
        At its peak, after `warmup` steps; from there half a cosine down to zero.
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
        return max(1, round(self.batch_s / seconds)), round(seconds * SAMPLE_RATE)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Mixtures(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """The batch of each step, made where it is asked for: in the loader's own process."""

    corpora: Corpora
    recipe: Recipe
    plan: Plan
    rank: int = 0
    ranks: int = 1

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Noisy and clean samples, ``[B, N]`` each."""
        count, length = self.plan.segment(step)
        seeds = [(self.plan.seed, TRAIN, step, self.rank + i * self.ranks) for i in range(count)]
        return stack(mixture(self.corpora, self.recipe, length, seed) for seed in seeds)


def stack(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Examples to a batch."""
    noisy, clean = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(noisy)), torch.from_numpy(np.stack(clean))


def train(
    run: Path,
    plan: Plan,
    recipe: Recipe,
    corpora: Corpora,
    valid: Corpora,
    *,
    start_from: Checkpoint | None = None,
    config: GTCRNConfig | None = None,
    card: dict[str, Any] | None = None,
    device: str = "cpu",
    workers: int = 1,
    validate_every: int = 1000,
    validation_examples: int = 64,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    observe: Callable[[int, nn.Module], None] = lambda step, network: None,
) -> Checkpoint:
    """Train a network, or go on with a run that was stopped.

    Parameters
    ----------
    run
        The run's folder. If it holds ``last.pt``, the run goes on from there.
    start_from
        Weights to begin a new run with, instead of random ones.
    config
        The network, if it begins with random weights.
    card
        What the model file shall say beside the recipe and the scores.
    workers
        Processes that make mixtures; 0 makes them here.
    report
        Gets a row of figures every `LOG_EVERY` steps and after every validation.
    observe
        Gets the network with its gradients, as they are in every step.

    Returns
    -------
    The averaged weights, also in ``run/model.safetensors``.

    Raises
    ------
    UserError
        The run was started with another plan, the disk is full, or memory does not suffice.
    KeyboardInterrupt
        Ctrl-C or SIGTERM; the run's state is saved.
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if ranks > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")

    torch.manual_seed(plan.seed)
    network = build_network(start_from) if start_from else GTCRN(config)
    network.train().to(device)
    if device == "cpu":
        speed_up(network)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    origin = [p.detach().clone() for p in trained]
    first, hours = 0, 0.0
    last = run / "last.pt"
    if last.exists():
        first, hours = restore(last, plan, network, average, optimizer)

    loss_of = EnhancementLoss(
        plan.snr,
        plan.suppression,
        plan.perceptual,
        plan.intelligibility,
        plan.quality * QUALITY_EVERY,
    ).to(device)
    batches = torch.utils.data.DataLoader(
        Mixtures(corpora, recipe, plan, rank, ranks),
        batch_size=None,
        sampler=range(first, plan.steps),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=leave_signals_to_the_parent,
    )
    validation = validation_set(valid, VALIDATION_SEED, validation_examples)
    log = Log(run / "log.csv", report) if rank == 0 else Log(None, lambda row: None)
    card = {**(card or {}), "recipe": asdict(plan)}
    result = build_checkpoint(average, network.config, card)
    saved_at = logged_at = time.monotonic()
    sums: dict[str, float] = {}
    with stop_signals() as stopped, scarce_memory():
        for step, (noisy, clean) in zip(range(first, plan.steps), batches, strict=True):
            freeze_statistics(network, average, plan, step)
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step)
            optimizer.zero_grad(set_to_none=True)
            noisy, clean = analyze_torch(noisy.to(device)), analyze_torch(clean.to(device))
            enhanced, _ = network(noisy)
            loss, parts = loss_of(enhanced, clean, noisy, step % QUALITY_EVERY == 0)
            loss.backward()
            observe(step, network)
            stopping = share_gradients(trained, bool(stopped), ranks)
            norm = nn.utils.clip_grad_norm_(trained, plan.clip)
            if torch.isfinite(norm):  # one bad batch must not end a run of days
                optimizer.step()
                pull(trained, origin, plan.rate(step) * plan.anchor)
            update_average(average, network, min(plan.average, (step + 1) / (step + 10)))
            audio_s = ranks * math.prod(plan.segment(step)) / SAMPLE_RATE
            hours += audio_s / 3600

            for name, value in {"loss": loss, **parts, "norm": norm}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            done = step + 1
            if done % LOG_EVERY == 0:
                now = time.monotonic()
                row = {name: value / LOG_EVERY for name, value in sums.items()}
                log({"step": done, "hours": hours, "rate": plan.rate(step), **row,
                     "times_real_time": LOG_EVERY * audio_s / (now - logged_at)})  # fmt: skip
                logged_at, sums = now, {}
            if done % validate_every == 0 or done == plan.steps:
                scores = validate(network, average, validation, device)
                log({"step": done, "hours": hours, **scores})
                trained_card = {**card, "hours": round(hours, 2), "validation in training": scores}
                result = build_checkpoint(average, network.config, trained_card)
                if rank == 0:
                    result.save(run / "model.safetensors")
                logged_at = time.monotonic()
            if time.monotonic() - saved_at > SAVE_EVERY_S or done == plan.steps or stopping:
                if rank == 0:
                    keep(last, done, hours, plan, network, average, optimizer)
                saved_at = time.monotonic()
            if stopping:
                raise KeyboardInterrupt
    return result


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
    network.load_state_dict(kept["network"])
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
    """Write all that `restore` needs beside `last`, then rename."""
    partial = last.with_name(f".{last.name}.{os.getpid()}")
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
        torch.save(state, partial)
        partial.replace(last)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise UserError(f"cannot save the run in {last.parent}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


@torch.no_grad()
def update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Move the averaged weights (and batch statistics) towards the network's."""
    values = network.state_dict()
    moving = [name for name, value in values.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in moving], [values[n] for n in moving], 1 - decay)
    for name in values.keys() - set(moving):
        average[name].copy_(values[name])


@torch.no_grad()
def freeze_statistics(
    network: nn.Module, average: dict[str, Tensor], plan: Plan, step: int
) -> None:
    """From `Plan.freeze` on normalise by the averaged statistics, as the finished network does."""
    first_frozen = math.ceil(plan.freeze * plan.steps)
    if step < first_frozen:
        return
    if step == first_frozen:
        for name, value in network.named_buffers():
            value.copy_(average[name])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def pull(parameters: list[Any], origin: list[Tensor], share: float) -> None:
    """Move parameters towards others by a share of the way."""
    if share > 0:
        torch._foreach_lerp_(parameters, origin, share)


def share_gradients(parameters: list[nn.Parameter], stopping: bool, ranks: int) -> bool:
    """Average the gradients of all processes, in one message; whether any of them is to stop."""
    if ranks == 1:
        return stopping
    grads = [p.grad for p in parameters if p.grad is not None]
    flag = grads[0].new_tensor([float(stopping)])
    flat = torch.cat([flag, *(grad.flatten() for grad in grads)])
    torch.distributed.all_reduce(flat)
    pieces = flat[1:].split([grad.numel() for grad in grads])
    for grad, piece in zip(grads, pieces, strict=True):
        grad.copy_(piece.view_as(grad) / ranks)
    return bool(flat[0] > 0)


def build_checkpoint(
    average: dict[str, Tensor], config: GTCRNConfig, card: dict[str, Any]
) -> Checkpoint:
    """The averaged weights as a model file has them."""
    weights = {k: v.cpu().numpy().copy() for k, v in average.items() if v.is_floating_point()}
    return Checkpoint(weights, config, card)


def validation_set(corpora: Corpora, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Examples of held-out speakers and noises, the same in every run with that seed.

    By turns a plain one (one noise at 0-17.5 dB, as public test sets have it) and one of all that
    training makes; only such as have speech in noise, of `VALIDATION_S` each.
    """
    plain = Recipe().only(snr_db=(0, 17.5), level_db=(-35, -15))
    hard = replace(Recipe(), noise_only=0.0, nearly_clean=0.0, plain=0.0, speed=0.0)
    length = round(VALIDATION_S * SAMPLE_RATE)
    return stack(
        mixture(corpora, hard if i % 2 else plain, length, (seed, VALID, i)) for i in range(count)
    )


def write_validation_set(folder: Path, examples: tuple[Tensor, Tensor]) -> None:
    """As float WAV in ``noisy/`` and ``clean/``, for `gtcrn evaluate`."""
    import soundfile

    for kind, batch in zip(("noisy", "clean"), examples, strict=True):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, samples in enumerate(batch.numpy()):
            path = folder / kind / f"{number:04d}.wav"
            soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")


@torch.no_grad()
def validate(
    network: GTCRN, average: dict[str, Tensor], examples: tuple[Tensor, Tensor], device: str
) -> dict[str, float]:
    """Scores of the averaged weights on `validation_set`."""
    judged = GTCRN(network.config).to(device)
    judged.load_state_dict(average)
    judged.eval()
    losses, si_snr_db, pesq = [], [], []
    loss_of, disturbance_of = EnhancementLoss().to(device), PerceptualLoss().to(device)
    for noisy, clean in zip(*(t.split(8) for t in examples), strict=True):
        noisy, clean = analyze_torch(noisy.to(device)), analyze_torch(clean.to(device))
        enhanced, _ = judged(noisy)
        losses.append(float(loss_of(enhanced, clean, noisy)[0]) * len(noisy))
        ratio = si_snr_log10(synthesize_torch(enhanced), synthesize_torch(clean))
        si_snr_db.append(10 * float(ratio.sum()))
        pesq.append(float(wideband_pesq(disturbance_of(enhanced, clean)).sum()))
    sums = {"valid_loss": sum(losses), "valid_si_sdr_db": sum(si_snr_db), "valid_pesq": sum(pesq)}
    return {name: value / len(examples[0]) for name, value in sums.items()}


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
