"""The training loop: mixtures in, a model file out.

One page, top to bottom. A run is a folder: ``last.pt`` (all that is needed to go on),
``model.safetensors`` (the averaged weights, to use), ``log.csv``. A run that was stopped goes on
where it was, and ends as if it had never been stopped: examples depend on the seed and the step
alone, and everything else that changes is in ``last.pt``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..network.checkpoint import Checkpoint
from ..network.config import SAMPLE_RATE, GTCRNConfig
from ..network.model import GTCRN, build_network
from .corpora import Corpora
from .fast.layers import speed_up
from .losses import EnhancementLoss
from .mixtures import mixture
from .plan import TRAIN, Plan
from .recipe import Recipe
from .run import (
    Log,
    build_checkpoint,
    keep,
    leave_signals_to_the_parent,
    restore,
    scarce_memory,
    stop_signals,
)
from .stft import analyze_torch
from .validation import VALIDATION_SEED, stack, validate, validation_set

SAVE_EVERY_S = 45.0
LOG_EVERY = 20  # steps
QUALITY_EVERY = 2  # steps


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
    if not last.exists() and (run / "model.safetensors").exists():
        raise UserError(
            f"{run / 'model.safetensors'} exists, but no run that could go on: give another folder"
        )
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
