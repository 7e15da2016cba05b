"""`gtcrn train` and `gtcrn finetune`: from clean speech and noise to a model file.

Two commands in one file, as they share most of their options, and options take many lines.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MissingExtraError, UserError
from ..paths import refuse_url
from .options import refuse_options

if TYPE_CHECKING:
    from ..network.config import GTCRNConfig
    from ..training.clips import Clip
    from ..training.corpora import Corpora, Corpus

DATA, HOW = "What to train on", "How to train"

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The folder of this training. A stopped training is resumed.",
        show_default=False,
    ),
]
Speech = Annotated[
    list[Path],
    typer.Option(
        metavar="PATH",
        help="Clean speech: a folder with one folder for each speaker, or a .tsv index of clips. "
        "May be given more than once.",
    ),
]
Noise = Annotated[
    list[Path],
    typer.Option(
        metavar="PATH",
        help="Noise: a folder of recordings, or a .tsv index of clips. May be given more than "
        "once.",
    ),
]
Rooms = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="A folder of room impulse responses.",
        show_default="simulated rooms only",
    ),
]
Microphones = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="A folder of microphone impulse responses.", show_default="none"
    ),
]
BatchS = Annotated[
    float,
    typer.Option(min=1, metavar="S", help="Seconds of audio in a step of each process."),
]
Seed = Annotated[
    int, typer.Option(min=0, metavar="N", help="The seed of all that is drawn at random.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="What computes: cpu, cuda, cuda:1, mps.")]
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="Threads that compute, on a CPU.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Processes that mix examples; with 0 they are mixed between the steps.",
    ),
]
ValidateEvery = Annotated[int, typer.Option(min=1, metavar="N", help="Steps between validations.")]


def train(
    context: typer.Context,
    run: Run,
    speech: Speech,
    noise: Noise,
    rooms: Rooms = None,
    microphones: Microphones = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A model to begin with. With --config it must be an 'add' model; it is grown "
            "into that network.",
            show_default="random weights",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|JSON",
            help="Another network, by how it takes skips: none, add, concat, attention, gated, "
            "hybrid, or five of them with commas; then +dense, +input, +compress=8, +levels=0,1, "
            "+float16, +bfloat16.",
            show_default="that of --start-from, or add, the published one",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all.")] = 20_000,
    batch_s: BatchS = 16.0,
    learning_rate: Annotated[
        float, typer.Option(min=0, metavar="RATE", help="The learning rate at its peak.")
    ] = 1.5e-3,
    snr: Annotated[
        float, typer.Option(min=0, metavar="X", help="Weight of the SNR in the loss.")
    ] = 4.5,
    suppression: Annotated[
        float,
        typer.Option(min=0, metavar="X", help="Weight of removed speech in the loss."),
    ] = 40.0,
    perceptual: Annotated[
        float, typer.Option(min=0, metavar="X", help="Weight of the loss that is modelled on PESQ.")
    ] = 0.5,
    intelligibility: Annotated[
        float, typer.Option(min=0, metavar="X", help="Weight of the loss that is modelled on STOI.")
    ] = 20.0,
    quality: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="X",
            help="Weight of DNSMOS in the loss: for the end of a training, as it is slow.",
        ),
    ] = 0.0,
    seed: Seed = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    validate_every: ValidateEvery = 1000,
    write_validation: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Do not train; write 200 validation files for 'gtcrn evaluate'.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a network on noisy speech, which is mixed while training.

    RUN/model.safetensors is the averaged network of the last validation, for --model;
    RUN/log.csv has the losses. Ctrl-C loses nothing: the same command goes on.
    """
    if write_validation is not None:
        training = {str(parameter.name) for parameter in context.command.params}
        training -= {"run", "speech", "noise", "rooms", "microphones", "write_validation"}
        refuse_options(context, training, "is for training, but --write-validation does not train")
    require_torch()
    if write_validation is None:
        require_run(run, device)
    from ..network.checkpoint import load_model
    from ..network.growth import grow

    chosen = read_config(config) if config else None
    begin = load_model(start_from) if start_from else None
    if begin and chosen:
        begin = grow(begin, chosen)
    from ..training.plan import GOING_ON, Plan

    if write_validation is not None:
        _write_validation(write_validation, speech, noise, rooms, microphones)
        return
    clips, corpora, valid = load_corpora(speech, noise, rooms, microphones)
    _train(
        run,
        Plan(
            steps,
            batch_s,
            learning_rate=learning_rate,
            snr=snr,
            suppression=suppression,
            perceptual=perceptual,
            intelligibility=intelligibility,
            quality=quality,
            seed=seed,
            **(GOING_ON if start_from else {}),
        ),
        corpora=corpora,
        valid=valid,
        start_from=begin,
        config=chosen,
        card={"description": f"GTCRN trained in {run.name}", "data": _sources(clips)},
        device=device,
        threads=threads,
        workers=workers,
        validate_every=validate_every,
    )


def load_corpora(
    speech: list[Path], noise: list[Path], rooms: Path | None, microphones: Path | None
) -> tuple[dict[str, list[Clip]], Corpora, Corpora]:
    """All clips of speech and of noise; what to train on; what is held out to validate."""
    clips, corpus = _listed(speech, noise)
    return clips, *_halves(corpus, rooms, microphones)


def _listed(
    speech: list[Path], noise: list[Path]
) -> tuple[dict[str, list[Clip]], Callable[[str, bool], Corpus]]:
    """All clips of speech and of noise; and what loads a half of them."""
    from ..training.clips import half, list_all_clips
    from ..training.corpora import load_corpus

    paths_of = {"speech": speech, "noise": noise}
    clips = {kind: list_all_clips(paths, kind) for kind, paths in paths_of.items()}

    def corpus(kind: str, held_out: bool) -> Corpus:
        loaded = load_corpus(half(clips[kind], held_out), log=_say)
        # What validates stays as it was, so that scores of all weights compare.
        return loaded.levelled() if kind == "speech" and not held_out else loaded

    return clips, corpus


def _write_validation(
    folder: Path,
    speech: list[Path],
    noise: list[Path],
    rooms: Path | None,
    microphones: Path | None,
) -> None:
    """Mix what is held out, and load no more than that."""
    from ..training.corpora import Corpora, load_responses
    from ..training.validation import (
        VALIDATION_SEED,
        require_no_validation_set,
        validation_set,
        write_validation_set,
    )

    require_no_validation_set(folder)
    _, corpus = _listed(speech, noise)
    responses = load_responses(rooms), load_responses(microphones)
    valid = Corpora(corpus("speech", True), corpus("noise", True), *responses)
    write_validation_set(folder, validation_set(valid, VALIDATION_SEED, 200))


def finetune(
    run: Run,
    noise: Annotated[
        Path,
        typer.Option(metavar="PATH", help="Your noise: a file or a folder; ten minutes will do."),
    ],
    speech: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Your clean speech: a file or a folder.",
            show_default="what comes with gtcrn",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="The model to begin with."),
    ] = "gtcrn",
    original_speech: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The speech that the model was trained on: a folder or a .tsv index.",
            show_default="a small sample that comes with gtcrn",
        ),
    ] = None,
    original_noise: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The noise that it was trained on: a folder or a .tsv index.",
            show_default="a small sample that comes with gtcrn",
        ),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            min=0.05, max=0.95, metavar="0.05-0.95", help="Share of your own material in each step."
        ),
    ] = 0.5,
    rooms: Rooms = None,
    microphones: Microphones = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all.")] = 1000,
    batch_s: BatchS = 32.0,
    learning_rate: Annotated[
        float, typer.Option(min=0, metavar="RATE", help="The learning rate at its peak.")
    ] = 3e-4,
    anchor: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="X",
            help="How strongly the weights are held near those of --model; 0 is not at all.",
        ),
    ] = 1.0,
    seed: Seed = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    validate_every: ValidateEvery = 250,
) -> None:
    """Fit a model to your own noise (and speech), while it keeps what it has learned.

    Speech and noise of the original training are mixed in, and the weights are held near to
    those that it begins with.
    """
    require_torch()
    require_run(run, device)
    from ..network.checkpoint import load_model
    from ..training.clips import half, list_clips, rehearsal
    from ..training.corpora import load_joined
    from ..training.plan import Plan

    original = {
        kind: list_clips(path or rehearsal(kind), kind)
        for kind, path in (("speech", original_speech), ("noise", original_noise))
    }
    own = {
        "speech": list_clips(speech, "speech") if speech else [],
        "noise": list_clips(noise, "noise"),
    }

    def corpus(kind: str, held_out: bool) -> Corpus:
        mine = half(own[kind], held_out)
        if own[kind] and not mine and not held_out:
            raise UserError(f"all of your {kind} is held out to validate: mark some of it 'train'")
        return load_joined(mine, half(original[kind], held_out), share, _say)

    corpora, valid = _halves(corpus, rooms, microphones)
    begin = load_model(model)
    _train(
        run,
        Plan(
            steps,
            batch_s,
            learning_rate=learning_rate,
            warmup=50,
            weight_decay=0.0,
            average=0.99,
            freeze=0.0,
            anchor=anchor,
            seed=seed,
        ),
        corpora=corpora,
        valid=valid,
        start_from=begin,
        card={
            "description": f"{model} fitted to {noise.name}",
            "licence": begin.card.get("licence", "unknown"),
            "data": _sources(own),
            "fitted from": {"sha256": begin.digest, **begin.card},
        },
        device=device,
        threads=threads,
        workers=workers,
        validate_every=validate_every,
    )


def _train(run: Path, plan: Any, *, threads: int, **options: Any) -> None:
    """What both commands end with: train, and say how it goes."""
    import torch

    from ..training.loop import train as run_training
    from ..training.recipe import Recipe

    torch.set_num_threads(threads)
    with _progress(plan.steps) as report:
        run_training(run, plan, Recipe(), report=report, **options)
    _say(f"{run / 'model.safetensors'}: use it with --model {run / 'model.safetensors'}")


def require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingExtraError("training", "train")


def require_run(run: Path, device: str) -> None:
    """Refuse a folder that cannot be written and a device that is not there, before all work.

    Raises
    ------
    UserError
        With the reason.
    """
    refuse_url(run)
    place = run.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{place} is no folder: give a folder for the run")
    if not os.access(place, os.W_OK):
        raise UserError(f"the folder {place} cannot be written to")
    import torch

    from ..training.loop import own_device

    try:  # what trains: there are devices that hold nothing, and some that know no gradients
        x = torch.ones(1, device=own_device(device), requires_grad=True)
        torch.autograd.grad(x.square(), x)[0].item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"torch cannot use the device {device!r}: {reason}") from None


def read_config(text: str) -> GTCRNConfig:
    """The network that --config names, or describes as a JSON object.

    Raises
    ------
    BadParameter
        There is no such network.
    """
    from ..network.config import GTCRNConfig

    try:
        if not text.lstrip().startswith("{"):
            return GTCRNConfig.parse(text)
        fields = json.loads(text)
        if unknown := GTCRNConfig.unknown(fields):
            known = ", ".join(GTCRNConfig.__dataclass_fields__)
            raise UserError(f"there is no {unknown[0]!r}: choose from {known}")
        return GTCRNConfig.from_dict(fields)
    except UserError as error:
        raise typer.BadParameter(f"--config: {error}") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--config is not a JSON object: {error}") from None


def _halves(
    corpus: Callable[[str, bool], Corpus], rooms: Path | None, microphones: Path | None
) -> tuple[Corpora, Corpora]:
    """What to train on, and what is held out to validate."""
    from ..training.corpora import Corpora, load_responses

    responses = load_responses(rooms), load_responses(microphones)
    train_half, valid_half = (
        Corpora(corpus("speech", held_out), corpus("noise", held_out), *responses)
        for held_out in (False, True)
    )
    return train_half, valid_half


def _sources(clips: dict[str, list[Clip]]) -> list[str]:
    """The names of all sources, for the card."""
    return sorted({c.source or c.path.parent.name for kind in clips.values() for c in kind})


def _say(message: str) -> None:
    """Of several processes that train together the first one speaks."""
    if _is_first():
        typer.echo(message, err=True)


def _is_first() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """A bar with a curve of the loss on a terminal; else a line for each row of the log."""
    if not sys.stderr.isatty() or not _is_first():
        yield lambda row: _say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (
        MofNCompleteColumn(),
        BarColumn(20),
        TextColumn("{task.fields[curve]} loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:.0f}x real time"),
        TextColumn("{task.fields[validation]}"),
        TimeLeft(),
    )
    losses: list[float] = []
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=steps, curve="", loss=0.0, speed=0.0, validation="")

        def report(row: dict[str, float]) -> None:
            if "valid_loss" in row:
                said = (
                    f"valid {row['valid_loss']:.3f}, SI-SDR {row['valid_si_sdr_db']:.2f} dB, "
                    f"PESQ about {row['valid_pesq']:.2f}"
                )
                bar.update(task, validation=said)
                return
            losses.append(row["loss"])
            bar.update(
                task,
                completed=int(row["step"]),
                curve=_sparkline(losses),
                loss=row["loss"],
                speed=row["times_real_time"],
            )

        yield report


def _sparkline(values: list[float], width: int = 24) -> str:
    """The course of all values that are numbers in one line of block characters."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[int(7.99 * (m - low) / (high - low + 1e-9))] for m in means)
