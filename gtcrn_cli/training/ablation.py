"""Which way of taking skips is worth what it costs: train each, measure each, show them together.

Every network sees the same examples in the same order and takes the same number of steps, once for
each seed. An ablation is a folder with a run (see `training`) for each network and seed. One that
was stopped goes on; of one that is whole only the times are measured again.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..enhancement.engines import ENGINES, load_engine
from ..enhancement.enhancer import enhance
from ..errors import MissingExtraError, UserError
from ..evaluation.measures import AGAINST_CLEAN
from ..evaluation.recordings import Mono
from ..markdown import table
from ..network.checkpoint import Checkpoint
from ..network.config import BINS, LEVELS, SAMPLE_RATE, GTCRNConfig
from ..network.footprint import Footprint, footprint
from ..paths import replacing, write_whole
from .corpora import Corpora
from .loop import train
from .plan import Plan
from .recipe import Recipe
from .validation import validation_set

if TYPE_CHECKING:
    from torch import nn

NETWORKS = (
    "none",
    "add",
    "concat",
    "attention",
    "gated",
    "hybrid",
    "add+dense",
    "add+input",
    "add+compress=4",
    "add+levels=0,1",
    "add+float16",
)
MEASURES = ("WB-PESQ", "STOI", "SI-SDR dB")
SHOWN = "SI-SDR dB"  # in the figure
EXAMPLES_SEED = 1000  # of the held-out examples that are scored
EARLY_STEPS = 40  # of training, over which gradients are compared
TIMED_FRAMES = {"native": 200, "torch": 5}  # few, so that a busy machine lets some pass
TIMED_ROUNDS = 20
RESULTS_SIGN = b'{\n  "noisy": {'  # how `Ablation.to_json` begins
GRADIENTS_FILE, SCORES_FILE = "gradients.json", "scores.json"

Scores = dict[str, float]  # by measure, means over the examples
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """What was measured of one network.

    Attributes
    ----------
    frame_us
        The fastest of some rounds of one frame per call, by engine.
    scores
        Of each seed.
    gradients
        The norm of the gradient of each encoder level: the median over early steps and seeds.
    """

    network: str
    cost: Footprint
    frame_us: dict[str, float]
    scores: list[Scores]
    gradients: list[float]

    def mean(self, measure: str) -> float:
        """The mean over the seeds."""
        return statistics.fmean(scores[measure] for scores in self.scores)

    def spread(self, measure: str) -> float:
        """The standard deviation over the seeds; 0 if there is but one."""
        values = [scores[measure] for scores in self.scores]
        return statistics.stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Ablation:
    """All rows, and what the examples score as they are."""

    noisy: Scores
    rows: list[Row]

    def to_json(self) -> str:
        """All that was measured."""
        return json.dumps(asdict(self), indent=2) + "\n"


def require_results(results: Path, figure: Path) -> None:
    """Refuse to replace results, or a figure without any, that no comparison has made.

    Raises
    ------
    UserError
        With the name.
    """
    try:
        with results.open("rb") as file:
            made = RESULTS_SIGN.startswith(file.read(len(RESULTS_SIGN)))
    except FileNotFoundError:
        made = not figure.exists()
        results = figure
    except OSError as error:
        raise UserError(f"cannot read {results}: {error.strerror}") from None
    if not made:
        raise UserError(f"{results} exists, and no comparison made it: give a new folder")


def ablate(
    folder: Path,
    configs: Sequence[GTCRNConfig],
    plan: Plan,
    seeds: int,
    examples: int,
    corpora: Corpora,
    valid: Corpora,
    workers: int = 1,
    notify: Notify = lambda message: None,
) -> Ablation:
    """Train and measure networks.

    Parameters
    ----------
    plan
        Of every run; its seed is the first one.
    seeds
        How many runs of each network.
    examples
        How many held-out examples are scored.

    Raises
    ------
    UserError
        The folder holds runs of another plan.
    MissingExtraError
        What scores is not installed.
    """
    noisy, clean = (list(batch.numpy()) for batch in validation_set(valid, EXAMPLES_SEED, examples))
    unprocessed = score(noisy, clean)  # first, as it may be that nothing can be scored
    scores: dict[str, list[Scores]] = {config.name: [] for config in configs}
    gradients: dict[str, list[list[float]]] = {config.name: [] for config in configs}
    for seed in range(plan.seed, plan.seed + seeds):  # rounds: what is cut short stays comparable
        for config in configs:
            notify(f"{config.name}, seed {seed}")
            run = folder / f"{config.name}-{seed}"
            checkpoint = _train(
                run, replace(plan, seed=seed), config, corpora, valid, workers, notify
            )
            scores[config.name].append(_scores_of_run(run, checkpoint, noisy, clean))
            gradients[config.name] += json.loads((run / GRADIENTS_FILE).read_text())
    notify("timing")
    times = time_frames(configs)
    rows = [
        Row(
            config.name,
            footprint(config),
            times[config.name],
            scores[config.name],
            np.median(gradients[config.name], axis=0).tolist(),
        )
        for config in configs
    ]
    return Ablation(unprocessed, rows)


def _train(
    run: Path,
    plan: Plan,
    config: GTCRNConfig,
    corpora: Corpora,
    valid: Corpora,
    workers: int,
    notify: Notify,
) -> Checkpoint:
    """Train a network, or find it trained; notes its early gradients on the way."""
    early: list[list[float]] = []
    kept = run / GRADIENTS_FILE
    if kept.exists():
        early = json.loads(kept.read_text())

    def observe(step: int, network: nn.Module) -> None:
        if step < EARLY_STEPS:
            early[step:] = [gradient_norms(network)]
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps(early).encode())

    return train(
        run,
        plan,
        Recipe(),
        corpora,
        valid,
        config=config,
        workers=workers,
        validate_every=plan.steps,
        validation_examples=2,
        report=lambda row: notify("  ".join(f"{name} {value:.4g}" for name, value in row.items())),
        observe=observe,
    )


def gradient_norms(network: nn.Module) -> list[float]:
    """The norm of the gradient of all parameters of each encoder level, shallowest first."""
    norms = []
    for block in network.get_submodule("encoder.en_convs").children():
        squares = [float(p.grad.square().sum()) for p in block.parameters() if p.grad is not None]
        norms.append(sum(squares) ** 0.5)
    return norms


def _scores_of_run(
    run: Path, checkpoint: Checkpoint, noisy: Sequence[Mono], clean: Sequence[Mono]
) -> Scores:
    """Kept in the run, for those weights and examples."""
    heard = hashlib.sha256(b"".join(samples.tobytes() for samples in (*noisy, *clean)))
    kept, key = run / SCORES_FILE, [checkpoint.digest, heard.hexdigest()]
    if kept.exists():
        content = json.loads(kept.read_text())
        if content["of"] == key:
            return content["scores"]
    engine = load_engine(checkpoint)
    scores = score([enhance(samples, SAMPLE_RATE, engine) for samples in noisy], clean)
    write_whole(kept, json.dumps({"of": key, "scores": scores}).encode())
    return scores


def score(signals: Sequence[Mono], clean: Sequence[Mono]) -> Scores:
    """Means over examples, without those that a measure cannot judge."""
    pairs = list(zip(signals, clean, strict=True))
    return {
        name: float(np.nanmean([AGAINST_CLEAN[name](signal, target) for signal, target in pairs]))
        for name in MEASURES
    }


def time_frames(configs: Sequence[GTCRNConfig]) -> dict[str, dict[str, float]]:
    """Microseconds for a frame by network and engine, one frame per call, as live sound comes.

    Of one thread, without what it waits for others. Rounds go over all networks in turn, and the
    fastest counts: whatever else the machine does shall not look like a difference between them.
    How long a frame takes does not depend on the weights.
    """
    fine = time.get_clock_info("thread_time").resolution < 1e-4  # not so on Windows
    clock = time.thread_time if fine else time.perf_counter
    import torch

    from ..network.model import GTCRN

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engines = []
    for config in configs:
        weights = GTCRN(config).state_dict()
        untrained = Checkpoint({n: t.numpy() for n, t in weights.items() if t.ndim}, config)
        engines += [(config.name, load_engine(untrained, name)) for name in ENGINES]
    noise = np.random.default_rng(0).standard_normal((1, 1, BINS, 2)).astype(np.float32)
    frame = noise.view(np.complex64)[..., 0]
    best: dict[str, dict[str, float]] = {config.name: {} for config in configs}
    for _ in range(TIMED_ROUNDS):
        for network, engine in engines:
            count = TIMED_FRAMES[engine.name]
            _, state = engine.mask(frame, None)
            begin = clock()
            for _ in range(count):
                _, state = engine.mask(frame, state)
            us = (clock() - begin) / count * 1e6
            best[network][engine.name] = min(us, best[network].get(engine.name, us))
    torch.set_num_threads(threads)
    return best


def as_markdown(ablation: Ablation) -> str:
    """The table, and the gradients in a second one."""
    head = ["network", "parameters", "MMAC/s", "state kB", "cached skips B/frame"]
    head += ["native µs/frame", "torch µs/frame", "WB-PESQ", "STOI", "SI-SDR dB"]
    rows = [["(noisy)", *[""] * 6, *(f"{ablation.noisy[name]:.3f}" for name in MEASURES)]]
    for row in ablation.rows:
        scores = [f"{row.mean(name):.3f}" for name in MEASURES]
        if len(row.scores) > 1:
            scores = [f"{row.mean(name):.3f} ± {row.spread(name):.3f}" for name in MEASURES]
        cells = [
            f"`{row.network}`",
            f"{row.cost.parameters:,}",
            f"{row.cost.macs_per_s / 1e6:.1f}",
            f"{row.cost.state_bytes / 1000:.1f}",
            f"{row.cost.skip_bytes_per_frame:,}",
            f"{row.frame_us['native']:.1f}",
            f"{row.frame_us['torch']:.0f}",
            *scores,
        ]
        rows.append(cells)
    gradients = table(
        ["gradient norm of", *(f"level {level}" for level in LEVELS)],
        [[f"`{row.network}`", *(f"{norm:.3f}" for norm in row.gradients)] for row in ablation.rows],
    )
    return f"{table(head, rows)}\n\n{gradients}\n"


def draw(ablation: Ablation, path: Path) -> None:
    """Scores over cost, and gradients by level, as SVG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing", "report") from None
    with rc_context({"svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        quality, gradients = figure.subplots(1, 2)
        for number, row in enumerate(ablation.rows):
            colour = f"C{number % 10}"
            mean, spread = row.mean(SHOWN), row.spread(SHOWN)
            x = row.cost.macs_per_s / 1e6
            quality.errorbar(x, mean, spread, fmt="o", color=colour)
            gradients.semilogy(LEVELS, row.gradients, "o-", color=colour, label=row.network)
        quality.set(xlabel="MMAC/s", ylabel=f"{SHOWN}, mean and spread over seeds")
        gradients.set(xlabel="encoder level", ylabel="gradient norm, early", xticks=LEVELS)
        figure.legend(loc="outside lower center", ncols=6)
        with replacing(path) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})
