"""`gtcrn ablate`: what each way of taking skips costs, and what it is worth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .train import (
    Microphones,
    Noise,
    Rooms,
    Speech,
    load_corpora,
    read_config,
    require_run,
    require_torch,
)


def ablate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The folder for the trainings and the results. A stopped training is resumed.",
        ),
    ],
    speech: Speech,
    noise: Noise,
    rooms: Rooms = None,
    microphones: Microphones = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A network to train, such as hybrid+dense; may be given again.",
            show_default="eleven that differ from 'add' in one thing",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, metavar="N", help="Steps of each run.")] = 2000,
    batch_s: Annotated[
        float, typer.Option(min=2, metavar="S", help="Seconds of audio in a step.")
    ] = 16.0,
    warmup: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Steps in which the learning rate rises to its peak; at most a tenth of all.",
        ),
    ] = 50,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Runs of each network.")] = 3,
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Seed of the first run; the others count on from it."
        ),
    ] = 1,
    examples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Held-out examples to score.")
    ] = 100,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Threads that compute.")] = 1,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that mix examples.")
    ] = 1,
) -> None:
    """Train networks on the same data and budget, and compare quality and cost.

    Prints a table; FOLDER/results.json has all of it, FOLDER/figure.svg shows it. Networks are
    named as in 'gtcrn train --config'.
    """
    require_torch()
    require_run(folder, "cpu")
    results_file, figure = folder / "results.json", folder / "figure.svg"
    import torch

    from ..errors import MissingExtraError
    from ..paths import write_whole
    from ..training.ablation import NETWORKS, as_markdown, draw, require_results
    from ..training.ablation import ablate as run_ablation
    from ..training.plan import Plan

    require_results(results_file, figure)
    configs = [read_config(name) for name in config or NETWORKS]
    say = partial(typer.echo, err=True)
    torch.set_num_threads(threads)
    _, corpora, valid = load_corpora(speech, noise, rooms, microphones)
    plan = Plan(
        steps,
        batch_s,
        segments=((0.0, 2.0),),
        warmup=warmup,
        perceptual=0.0,
        intelligibility=0.0,
        average=0.99,
        seed=seed,
    )
    results = run_ablation(folder, configs, plan, seeds, examples, corpora, valid, workers, say)
    write_whole(results_file, results.to_json().encode())
    typer.echo(as_markdown(results), nl=False)
    try:
        draw(results, figure)
    except MissingExtraError as error:
        say(f"no figure: {error}")
