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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..network.checkpoint import Checkpoint
from ..network.config import SAMPLE_RATE, GTCRNConfig
from ..network.model import GTCRN, build_network
from .corpora import Corpora
from .fast.layers import use_fast_layers
from .losses import EnhancementLoss
from .mixtures import mixture
from .plan import TRAIN, Plan
from .recipe import Recipe
from .rendering import Renderer
from .run import Log, Run, leave_signals_to_the_parent, scarce_memory, stop_signals
from .sketches import Sketches
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
        The run was started with another plan or other recordings, the disk is full, or memory does
        not suffice.
    KeyboardInterrupt
        Ctrl-C or SIGTERM; the run's state is saved.
    """
    device = own_device(device)
    with all_processes(device) as (rank, ranks):
        torch.manual_seed(plan.seed)
        network = build_network(start_from) if start_from else GTCRN(config)
        network.train().to(device)
        use_fast_layers(network, device)
        state = Run.begin(run, plan, network, corpora.fingerprints)
        trained = [p for p in network.parameters() if p.requires_grad]
        origin = [p.detach().clone() for p in trained]
        if state.step and start_from:  # a run that goes on is drawn to where it began
            known = dict(build_network(start_from).named_parameters())
            origin = [known[n].to(device) for n, p in network.named_parameters() if p.requires_grad]
        on_gpu = device.startswith("cuda")
        quality_every = 1 if on_gpu else QUALITY_EVERY
        loss_of = EnhancementLoss(
            plan.snr,
            plan.suppression,
            plan.perceptual,
            plan.intelligibility,
            plan.quality * quality_every,
            rated=max(1, plan.segment(0)[0] // 4) if on_gpu else 1,
        ).to(device)
        render = Renderer(corpora).to(device) if on_gpu else None
        batches = torch.utils.data.DataLoader(
            Sketches(corpora, recipe, plan, rank)
            if on_gpu
            else Mixtures(corpora, recipe, plan, rank, ranks),
            batch_size=None,
            sampler=range(state.step, plan.steps),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            worker_init_fn=leave_signals_to_the_parent,
        )
        validation = validation_set(valid, VALIDATION_SEED, validation_examples)
        log = Log(run / "log.csv", report) if rank == 0 else Log(None, lambda row: None)
        card = {**(card or {}), "recipe": asdict(plan)}
        result = state.checkpoint(card)
        saved_at = logged_at = time.monotonic()
        sums: dict[str, Any] = {}
        with stop_signals() as stopped, scarce_memory():
            for step, batch in zip(range(state.step, plan.steps), batches, strict=True):
                noisy, clean = render(batch) if render else batch
                freeze_statistics(state, step)
                for group in state.optimizer.param_groups:
                    group["lr"] = plan.rate(step)
                state.optimizer.zero_grad(set_to_none=True)
                noisy, clean = analyze_torch(noisy.to(device)), analyze_torch(clean.to(device))
                enhanced, _ = network(noisy)
                loss, parts = loss_of(enhanced, clean, noisy, step % quality_every == 0)
                loss.backward()
                observe(step, network)
                stopping = all_reduce_gradients(trained, bool(stopped), ranks)
                norm = nn.utils.clip_grad_norm_(trained, plan.clip)
                if torch.isfinite(norm):  # one bad batch must not end a run of days
                    state.optimizer.step()
                    l2_sp(trained, origin, plan.rate(step) * plan.anchor)
                update_ema(state.ema, network, min(plan.average, (step + 1) / (step + 10)))
                audio_s = ranks * math.prod(plan.segment(step)) / SAMPLE_RATE
                state.step, state.hours = step + 1, state.hours + audio_s / 3600

                for name, value in {"loss": loss, **parts, "norm": norm}.items():
                    sums[name] = sums.get(name, 0.0) + value.detach()
                done = {"step": state.step, "hours": state.hours}
                if state.step % LOG_EVERY == 0:
                    row = {name: float(value) / LOG_EVERY for name, value in sums.items()}
                    now = time.monotonic()
                    log({**done, "rate": plan.rate(step), **row,
                         "times_real_time": LOG_EVERY * audio_s / (now - logged_at)})  # fmt: skip
                    logged_at, sums = now, {}
                if state.step % validate_every == 0 or state.step == plan.steps:
                    scores = validate(network, state.ema, validation, device)
                    log({**done, **scores})
                    heard = round(state.hours, 2)
                    result = state.checkpoint(
                        {**card, "hours": heard, "validation in training": scores}
                    )
                    if rank == 0:
                        result.save(state.model)
                    logged_at = time.monotonic()
                late = time.monotonic() - saved_at > SAVE_EVERY_S
                if late or stopping or state.step == plan.steps:
                    if rank == 0:
                        state.save()
                    saved_at = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt
        return result


def own_device(device: str) -> str:
    """Of several processes on one machine each has a GPU of its own, by its ``LOCAL_RANK``."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device


@contextmanager
def all_processes(device: str) -> Iterator[tuple[int, int]]:
    """This process's number and how many there are, with a way to each other while they train."""
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    if ranks == 1 or torch.distributed.is_initialized():
        yield rank, ranks
        return
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield rank, ranks
    finally:
        torch.distributed.destroy_process_group()


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Move the averaged weights (and batch statistics) towards the network's."""
    values = network.state_dict()
    moving = [name for name, value in values.items() if value.is_floating_point()]
    torch._foreach_lerp_([ema[n] for n in moving], [values[n] for n in moving], 1 - decay)
    for name in values.keys() - set(moving):
        ema[name].copy_(values[name])


@torch.no_grad()
def freeze_statistics(run: Run, step: int) -> None:
    """From `Plan.freeze` on normalise by the averaged statistics, as the finished network does."""
    first_frozen = math.ceil(run.plan.freeze * run.plan.steps)
    if step < first_frozen:
        return
    if step == first_frozen:
        for name, value in run.network.named_buffers():
            value.copy_(run.ema[name])
    for module in run.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def l2_sp(parameters: list[Any], origin: list[Tensor], share: float) -> None:
    """Move parameters towards where they began by a share of the way (Li et al. 2018)."""
    if share > 0:
        torch._foreach_lerp_(parameters, origin, share)


def all_reduce_gradients(parameters: list[nn.Parameter], stopping: bool, ranks: int) -> bool:
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
