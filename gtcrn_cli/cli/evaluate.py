"""`gtcrn evaluate`: how good enhanced speech is."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import EngineName, Model, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..evaluation.scoring import Result


class FormatChoice(str, Enum):
    """Choices of --format."""

    markdown = "markdown"
    csv = "csv"
    json = "json"


def evaluate(
    noisy: Annotated[
        Path, typer.Argument(help="Noisy speech: a file or a folder.", show_default=False)
    ],
    clean: Annotated[
        Path | None,
        typer.Argument(help="The clean originals, by the same names.", show_default="DNSMOS only"),
    ] = None,
    enhanced: Annotated[
        Path | None,
        typer.Option(
            help="Judge these outputs of any tool, by the same names.",
            show_default="what --model makes of NOISY",
        ),
    ] = None,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    dnsmos: Annotated[bool, typer.Option(help="Also DNSMOS, which takes longest.")] = True,
    format_name: Annotated[
        FormatChoice,
        typer.Option("--format", help="Markdown has the means; csv and json have every file."),
    ] = FormatChoice.markdown,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write there.", show_default="stdout")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Processes; 0 is one for each core.")
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Measure PESQ, STOI, SI-SDR and DNSMOS of noisy speech before and after enhancement.

    Means are given with their 95 % confidence interval.
    """
    from ..evaluation.scoring import as_csv, as_json, as_markdown, find_trials
    from ..evaluation.scoring import evaluate as judge_all
    from ..network.checkpoint import load_model
    from ..paths import require_free, write_whole

    if clean is None and not dnsmos:
        raise typer.BadParameter("without CLEAN only DNSMOS can be measured, and --no-dnsmos it is")
    if output is not None:
        require_free(output, overwrite)
    trials = find_trials(noisy, clean, enhanced)
    results = judge_all(
        trials,
        None if enhanced else load_model(model),
        engine,
        dnsmos,
        min(jobs or os.cpu_count() or 1, len(trials)),
    )
    collected = list(_with_bar(results, len(trials), sys.stderr.isatty() and not quiet))
    to_text = {"markdown": as_markdown, "csv": as_csv, "json": as_json}[format_name.value]
    text = to_text(collected)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text.encode())


def _with_bar(results: Iterator[Result], count: int, visible: bool) -> Iterator[Result]:
    from rich.console import Console
    from rich.progress import track

    yield from track(
        results, "judging", count, console=Console(stderr=True), disable=not visible, transient=True
    )
