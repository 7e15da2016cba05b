"""`gtcrn evaluate`: how good enhanced speech is."""

from __future__ import annotations

import sys
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import UserError
from .conduct import code_of
from .options import (
    AttenLimit,
    Channels,
    ChannelsChoice,
    EngineName,
    HighBand,
    HighBandChoice,
    Model,
    PresetName,
    Quiet,
    Strength,
    available_cores,
    refuse_enhancing_options,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..evaluation.judging import Failure, TrialResult

KEEP_EVERY_S = 10.0


class FormatChoice(str, Enum):
    """Choices of --format."""

    markdown = "markdown"
    csv = "csv"
    json = "json"


class Judged(NamedTuple):
    """What came of all files."""

    results: list[TrialResult]
    failures: list[Failure]


def evaluate(
    context: typer.Context,
    noisy: Annotated[
        Path,
        typer.Argument(
            metavar="NOISY", help="Noisy speech: a file or a folder.", show_default=False
        ),
    ],
    clean: Annotated[
        Path | None,
        typer.Argument(
            metavar="CLEAN",
            help="The clean originals, under the same names.",
            show_default="none: DNSMOS only",
        ),
    ] = None,
    enhanced: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Judge these outputs of any tool, under the same names.",
            show_default="what --model makes of NOISY",
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Take out the delay of the tool that made --enhanced: up to 250 ms either way, "
            "found by cross-correlation, file by file.",
        ),
    ] = False,
    preset: PresetName = None,
    strength: Strength = None,
    atten_limit: AttenLimit = None,
    high_band: HighBand = HighBandChoice.gate,
    channels: Channels = ChannelsChoice.independent,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    dnsmos: Annotated[bool, typer.Option(help="Measure DNSMOS, too, which takes longest.")] = True,
    asr: Annotated[
        Path | None,
        typer.Option(
            "--asr",
            metavar="MODEL_DIR",
            help="Count the words that a recogniser gets wrong, too: the folder of a Whisper in "
            "the form of CTranslate2 (extra 'asr'). The reference is NAME.txt beside the clean "
            "file, or what is heard in the clean file.",
            show_default=False,
        ),
    ] = None,
    asr_language: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="What is spoken, for --asr: en, de, zh, ...",
            show_default="found in each clean file",
        ),
    ] = None,
    format_name: Annotated[
        FormatChoice | None,
        typer.Option(
            "--format",
            show_default="by the ending of OUTPUT: .md, .csv or .json; markdown on stdout",
            help="Markdown has the means; CSV and JSON have every file.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the scores there.", show_default="stdout"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --output if it exists.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=0, metavar="N", help="Processes; 0 is one for each core."),
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Measure PESQ, STOI, SI-SDR and DNSMOS of noisy speech before and after enhancement.

    Means are given with their 95 % confidence interval. Recordings of more than 30 s are scored in
    windows of 20 s. What cannot be judged is listed at the end, and the exit code is 1 then.

    --asr adds the word error rate: all errors divided by all words, noisy, enhanced and clean, of
    texts normalised as Whisper's authors do. The recogniser runs with 8-bit weights, beam 5 and
    temperature 0, one core for each job, and downloads nothing.
    """
    from ..evaluation.recognition import ASR, Whisper
    from ..evaluation.scoring import delay_in_words, find_trials
    from ..evaluation.scoring import evaluate as judge_all
    from ..network.checkpoint import load_model
    from ..paths import require_free

    if clean is None and not dnsmos:
        raise typer.BadParameter("without CLEAN only DNSMOS can be measured: leave out --no-dnsmos")
    if asr is None and asr_language is not None:
        raise typer.BadParameter("--asr-language is for --asr")
    if asr is not None and clean is None:
        raise typer.BadParameter("--asr needs CLEAN: its words are the reference")
    if enhanced is not None:
        refuse_enhancing_options(context, "--enhanced")
    elif align:
        raise typer.BadParameter("--align is for --enhanced: what gtcrn makes is in time")
    settings = settings_of(strength, atten_limit, high_band, channels, preset)
    as_text = writer_of(format_name, output)
    if output is not None:
        require_free(output, overwrite)
    trials = find_trials(noisy, clean, enhanced)
    recogniser = None if asr is None else ASR(asr, asr_language)
    if recogniser is not None:
        Whisper(recogniser)  # before the work: is it one?
    results = judge_all(
        trials,
        None if enhanced else load_model(model),
        engine,
        dnsmos,
        min(jobs or available_cores(), len(trials)),
        settings,
        align,
        recogniser,
    )
    bar = sys.stderr.isatty() and not quiet
    judged = _collect(_with_bar(results, len(trials), bar), as_text, output)
    if said := delay_in_words(judged.results):
        way_out = "removed" if align else "the scores include this delay: --align removes it"
        typer.echo(f"gtcrn: {said}: {way_out}", err=True)
    for failure in judged.failures:
        place = "" if failure.name in failure.reason else f"{failure.name}: "
        typer.echo(f"gtcrn: not judged: {place}{failure.reason}", err=True)
    if judged.failures:
        raise typer.Exit(1)


def writer_of(
    choice: FormatChoice | None, output: Path | None
) -> Callable[[Sequence[TrialResult]], str]:
    """What makes the text that is asked for, or that the output's ending tells."""
    from ..evaluation.scoring import as_csv, as_json, as_markdown

    by_ending = {".md": as_markdown, ".csv": as_csv, ".json": as_json}
    if choice is not None:
        return {"markdown": as_markdown, "csv": as_csv, "json": as_json}[choice.value]
    ending = output.suffix.lower() if output is not None else ".md"
    if ending not in by_ending:
        raise UserError(f"{output}: scores go to a .md, .csv or .json; --format says which else")
    return by_ending[ending]


def _collect(
    outcomes: Iterable[TrialResult | Failure],
    as_text: Callable[[Sequence[TrialResult]], str],
    output: Path | None,
) -> Judged:
    """Gather what comes, and write it at the end; on the way, what there is to a partial file.

    Names that are no text are written with backslashes, as in reports.
    """
    from ..evaluation.judging import TrialResult
    from ..paths import kept_partial_path, write_whole

    partial = None if output is None else kept_partial_path(output)
    judged = Judged([], [])
    results, failures = judged
    kept_at, kept = time.monotonic(), False

    def write(target: Path | None) -> None:
        if not results:
            return
        text = as_text(results).encode("utf-8", "backslashreplace")
        if target is None:
            typer.echo(text.decode(), nl=False)
        else:
            write_whole(target, text)

    try:
        for outcome in outcomes:
            if isinstance(outcome, TrialResult):
                results.append(outcome)
            else:
                failures.append(outcome)
            if partial is not None and time.monotonic() - kept_at > KEEP_EVERY_S:
                write(partial)
                kept_at, kept = time.monotonic(), True
    except (KeyboardInterrupt, SystemExit) as stop:
        write(partial)
        where = f": see {partial}" if results and partial is not None else ""
        typer.echo(f"gtcrn: stopped after {len(results)} files{where}", err=True)
        raise typer.Exit(code_of(stop)) from None
    write(output)
    if kept and partial is not None:
        partial.unlink(missing_ok=True)
    return judged


def _with_bar(
    results: Iterator[TrialResult | Failure], count: int, visible: bool
) -> Iterator[TrialResult | Failure]:
    from rich.console import Console
    from rich.progress import track

    yield from track(
        results, "judging", count, console=Console(stderr=True), disable=not visible, transient=True
    )
