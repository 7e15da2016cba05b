"""The training loop: mixtures in, a model file out.

One page, top to bottom. A run is a folder: ``last.pt`` (all that is needed to go on),
``model.safetensors`` (the averaged weights, to use), ``log.csv``. A run that was stopped goes on
where it was, and ends as if it had never been stopped: everything that changes from step to step is
in ``last.pt``, and so is what the examples of a step depend on, its number apart: the plan, the
recordings, the processes, whether a GPU makes them. Who gives others is refused. What may differ is
rounding: on another machine, with other --threads, and on a GPU from run to run.
"""

from __future__ import annotations

import math
import os
import pickle
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
from .log import Log
from .losses import EnhancementLoss
from .mixtures import mixture
from .plan import TRAIN, Plan
from .recipe import Recipe
from .rendering import Renderer
from .run import Circumstances, Run, leave_signals_to_the_parent, scarce_memory, stop_signals
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
        The run was started with another plan or other recordings, or see `Circumstances`; it has
        taken more steps already; the disk is full, or memory does not suffice.
    KeyboardInterrupt
        Ctrl-C. It takes effect when the run's state is saved, and so do SIGTERM and SIGHUP, whose
        effect is whatever it was before.
    """
    device = own_device(device)
    on_gpu = device.startswith("cuda")
    with scarce_memory(), all_processes(device) as (rank, ranks):
        torch.manual_seed(plan.seed)
        network = build_network(start_from) if start_from else GTCRN(config)
        network.train().to(device)
        use_fast_layers(network, device)
        weights = start_from.digest if start_from else None
        circumstances = Circumstances(network.config.name, weights, ranks, on_gpu)
        made_of = {**corpora.fingerprints, "recipe": repr(recipe)}
        state = Run.begin(run, plan, network, made_of, circumstances)
        trained = [p for p in network.parameters() if p.requires_grad]
        origin = [p.detach().clone() for p in trained]
        if state.step and start_from:  # a run that goes on is drawn to where it began
            known = dict(build_network(start_from).named_parameters())
            origin = [known[n].to(device) for n, p in network.named_parameters() if p.requires_grad]
        quality_every = 1 if on_gpu else QUALITY_EVERY
        loss_of = EnhancementLoss(
            plan.snr,
            plan.suppression,
            plan.perceptual,
            plan.intelligibility,
            plan.quality * quality_every,
            rated=max(1, plan.segment(0)[0] // 4) if on_gpu else 1,
        ).to(device)
        with scarce_memory(
            "all recordings at once", "give less --speech and --noise, or --device cpu"
        ):
            render = Renderer(corpora).to(device) if on_gpu else None
        batches = torch.utils.data.DataLoader(
            Sketches(corpora, recipe, plan, rank)
            if on_gpu
            else Mixtures(corpora, recipe, plan, rank, ranks),
            batch_size=None,
            sampler=range(state.step, plan.steps),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            # Batches come through a pipe. Tensors would come in shared memory, of which containers
            # have little, and torch waits for ever where it is full.
            collate_fn=pickle.dumps,
            worker_init_fn=leave_signals_to_the_parent,
        )
        validation = validation_set(valid, VALIDATION_SEED, validation_examples)
        log = Log(run / "log.csv", report) if rank == 0 else Log(None, lambda row: None)
        card = {**(card or {}), "recipe": asdict(plan)}

        def keep_model() -> Checkpoint:
            scores = validate(network, state.ema, validation, device)
            log({"step": state.step, "hours": state.hours, **scores})
            heard = {"hours": round(state.hours, 2), "validation in training": scores}
            model = state.checkpoint({**card, **heard})
            if rank == 0:
                model.save(state.model)
            return model

        result = state.checkpoint(card)
        if state.step == plan.steps and not state.has_model:
            result = keep_model()
        saved_at = logged_at = time.monotonic()
        sums: dict[str, Any] = {}
        summed, summed_s, stopping = 0, 0.0, False
        with stop_signals() as stopped:
            for step, pickled in zip(range(state.step, plan.steps), batches, strict=True):
                batch = pickle.loads(pickled)
                noisy, clean = render(batch) if render else batch
                freeze_statistics(state, step)
                for group in state.optimizer.param_groups:
                    group["lr"] = plan.rate(step)
                state.optimizer.zero_grad(set_to_none=True)
                noisy, clean = analyze_torch(noisy.to(device)), analyze_torch(clean.to(device))
                measured = statistics(network)
                before = [value.clone() for value in measured]
                enhanced, _ = network(noisy)
                loss, parts = loss_of(enhanced, clean, noisy, step % quality_every == 0)
                loss.backward()
                observe(step, network)
                gradients = [p.grad for p in trained if p.grad is not None]
                stopping = average([*gradients, *measured], bool(stopped), ranks)
                norm = nn.utils.clip_grad_norm_(trained, plan.clip)
                if torch.isfinite(norm):
                    state.optimizer.step()
                    l2_sp(trained, origin, plan.rate(step) * plan.anchor)
                    update_ema(state.ema, network, min(plan.average, (step + 1) / (step + 10)))
                else:  # one bad batch must not end a run of days, nor stay in what it measured
                    for value, good in zip(measured, before, strict=True):
                        value.copy_(good)
                audio_s = ranks * math.prod(plan.segment(step)) / SAMPLE_RATE
                state.step, state.hours = step + 1, state.hours + audio_s / 3600

                for name, value in {"loss": loss, **parts, "norm": norm}.items():
                    sums[name] = sums.get(name, 0.0) + value.detach()
                summed, summed_s = summed + 1, summed_s + audio_s
                if state.step % LOG_EVERY == 0:
                    row = {name: float(value) / summed for name, value in sums.items()}
                    speed = summed_s / (time.monotonic() - logged_at)
                    log({"step": state.step, "hours": state.hours, "rate": plan.rate(step), **row,
                         "times_real_time": speed})  # fmt: skip
                    logged_at, sums, summed, summed_s = time.monotonic(), {}, 0, 0.0
                if state.step % validate_every == 0 or state.step == plan.steps:
                    began = time.monotonic()
                    result = keep_model()
                    logged_at += time.monotonic() - began
                late = time.monotonic() - saved_at > SAVE_EVERY_S
                if late or stopping or state.step == plan.steps:
                    if rank == 0:
                        state.save()
                    saved_at = time.monotonic()
                if stopping:
                    break
        if stopping:
            raise KeyboardInterrupt  # as another process was told to stop
        return result


def own_device(device: str) -> str:
    """A device by one name: ``cpu:0`` is ``cpu``.

    Of several processes on one machine each has a GPU of its own, by its ``LOCAL_RANK``.
    """
    if torch.device(device).type == "cpu":
        return "cpu"
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
    measuring = [m for m in run.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    if not measuring:
        return
    # A run that goes on comes here again: then both are the same, or its steps have become fewer.
    for name, value in run.network.named_buffers():
        value.copy_(run.ema[name])
    for module in measuring:
        module.eval()


def statistics(network: nn.Module) -> list[Tensor]:
    """Means and variances that a step changes: of the normalisations that are not frozen."""
    return [
        value
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.training
        for value in module.buffers()
        if value.is_floating_point()
    ]


@torch.no_grad()
def l2_sp(parameters: list[Any], origin: list[Tensor], share: float) -> None:
    """Move parameters towards where they began by a share of the way (Li et al. 2018)."""
    if share > 0:
        torch._foreach_lerp_(parameters, origin, share)


@torch.no_grad()
def average(tensors: list[Tensor], stopping: bool, ranks: int) -> bool:
    """Average tensors over all processes, in one message; whether any of them is to stop."""
    if ranks == 1:
        return stopping
    flag = tensors[0].new_tensor([float(stopping)])
    flat = torch.cat([flag, *(tensor.flatten() for tensor in tensors)])
    torch.distributed.all_reduce(flat)
    pieces = flat[1:].split([tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor) / ranks)
    return bool(flat[0] > 0)
