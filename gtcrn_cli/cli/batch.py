"""`gtcrn batch`: a folder tree, on all cores or on a cluster."""

from __future__ import annotations

import json
import os
import sys
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .conduct import code_of
from .options import (
    AllowTruncated,
    AttenLimit,
    Bitrate,
    Channels,
    ChannelsChoice,
    Device,
    EngineName,
    HighBand,
    HighBandChoice,
    Model,
    PresetName,
    Quiet,
    Strength,
    Subtype,
    available_cores,
    bits_per_s,
    settings_of,
)
from .progress import in_words, progress_bar

if TYPE_CHECKING:
    from ..batch import jobs
    from ..batch.plan import BatchPlan
    from ..batch.run import BatchResult, Entry

SHOWN = 50  # of what failed, and of outputs of which there is something to say

EXAMPLES = """
\b
Examples:
  gtcrn batch recordings/ clean/
  gtcrn batch recordings/ clean/ --format flac --exclude 'raw/*' --report report.html
  find . -name '*.wav' -mtime -1 | gtcrn batch - clean/
  gtcrn batch s3://bucket/in s3://bucket/out --cluster tcp://10.0.0.1:8786
"""


def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A folder, its URL (s3://...), or - for a list of files on stdin.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="The folder or URL for the enhanced tree.", show_default=False
        ),
    ],
    preset: PresetName = None,
    strength: Strength = None,
    atten_limit: AttenLimit = None,
    high_band: HighBand = HighBandChoice.gate,
    channels: Channels = ChannelsChoice.independent,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    device: Device = "cpu",
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            show_default="all sound files",
            help="Only files that match, whatever their ending; may be given again.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="No files or folders that match; may be given again."),
    ] = None,
    hidden: Annotated[
        bool,
        typer.Option("--hidden", help="Include files and folders whose names begin with a dot."),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            help="Leave alone what an earlier run made from the same input with the same options."
        ),
    ] = True,
    suffix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Put this at the end of every name, before its ending.",
            show_default="none",
        ),
    ] = "",
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            show_default="each as it is",
            metavar="NAME",
            help="The format of all outputs: wav, flac, ogg, opus, mp3, m4a, ...",
        ),
    ] = None,
    subtype: Subtype = None,
    bitrate: Bitrate = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace files that exist, also those that no batch made."
        ),
    ] = False,
    allow_truncated: AllowTruncated = False,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write what was done and which files need a look: .json, .csv or .html (with "
            "pages to listen and compare, in FILE_files), or - for JSON on stdout. An earlier "
            "report is replaced. May be given again.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default="in OUT", help="Where to keep the list of what is done."
        ),
    ] = None,
    job_count: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            show_default="one for each core",
            help="How many files are worked on at the same time.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on the cluster of this Dask scheduler, like tcp://10.0.0.1:8786.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print what would be done: input, tab, output."),
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option("--allow-empty", help="Exit with code 0 where there is nothing to do."),
    ] = False,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", help="Stop at the first failure."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a line for every file as soon as it is done, each a JSON object."
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Remove the noise from every recording in a folder tree. Run it again to go on."""
    settings = settings_of(strength, atten_limit, high_band, channels, preset)
    if cluster is not None and job_count is not None:
        raise typer.BadParameter("--jobs is for this machine: the cluster has its own number")
    if dry_run and (as_json or report):
        option = "--json" if as_json else "--report"
        raise typer.BadParameter(
            f"--dry-run does nothing that {option} could tell of: leave it out"
        )
    if hidden and source == "-":
        raise typer.BadParameter("--hidden is for folders: a list means all that it names")
    if manifest is not None and realpath(manifest) in map(realpath, report or ()):
        raise typer.BadParameter("--manifest and --report cannot be the same file")

    from ..batch.jobs import LocalWorkers, Workers
    from ..batch.jobs import Model as JobModel
    from ..batch.plan import Order
    from ..batch.report import STDOUT, json_report, require_report, write_report
    from ..batch.run import preview, require_format, run_batch
    from ..batch.selection import Selection
    from ..network.checkpoint import load_model

    if as_json and STDOUT in (report or []):
        raise typer.BadParameter("--json and --report - both print on stdout: give one")
    for path in report or []:
        require_report(path, overwrite)
    format_name = format_name and format_name.lstrip(".")
    require_format(format_name)
    order = Order(
        _listed() if source == "-" else source,
        output,
        Selection(_globs(include, source), _globs(exclude, source), hidden),
        settings,
        suffix,
        format_name,
        subtype,
        bits_per_s(bitrate),
        overwrite,
        skip_existing,
        allow_truncated,
        on_cluster=cluster is not None,
    )
    network = JobModel(load_model(model), engine, device)
    if dry_run:
        plan = preview(order, network, manifest)
        _print_plan(plan, output)
        if not (allow_empty or plan.todo or plan.unchanged or plan.edited):
            raise UserError(_nothing(source, include, exclude))
        return

    def hire(network: jobs.Model) -> Workers:
        if cluster is not None:
            from ..batch.cluster import ClusterWorkers

            return ClusterWorkers(network, cluster)
        return LocalWorkers(network, job_count or (available_cores() if device == "cpu" else 1))

    try:
        with progress_bar(visible=sys.stderr.isatty() and not quiet) as advance:
            done_s = 0.0

            def progress(seconds: float, in_all: float) -> None:
                nonlocal done_s
                if advance:
                    advance(seconds - done_s, in_all)
                done_s = seconds

            def tell(entry: Entry) -> None:
                if as_json:
                    typer.echo(json.dumps(entry.to_dict()))

            result = run_batch(order, network, hire, manifest, progress, fail_fast, tell)
    except (KeyboardInterrupt, SystemExit) as stop:
        typer.echo("gtcrn: stopped; the same command goes on from here", err=True)
        raise typer.Exit(code_of(stop)) from None
    notes = []
    for path in report or []:
        if path == STDOUT:
            typer.echo(json_report(result), nl=False)
        else:
            notes += write_report(result, path)
    _say(result, quiet)
    for note in notes:
        typer.echo(f"gtcrn: {note}", err=True)
    if result.failures:
        raise typer.Exit(1)
    if not allow_empty and len(result.entries) == result.count("skipped"):
        raise UserError(_nothing(source, include, exclude))


def _globs(given: list[str] | None, source: str) -> tuple[str, ...]:
    """Globs as they are; and one that begins with the input folder, as shells complete it, also
    from there.
    """
    root = f"{source.removeprefix('./').rstrip('/')}/"
    plain = [glob.removeprefix("./") for glob in given or ()]
    below = [f"/{glob.removeprefix(root)}" for glob in plain if glob.startswith(root)]
    return (*(given or ()), *below)


def _nothing(source: str, include: list[str] | None, exclude: list[str] | None) -> str:
    where = "in the list on stdin" if source == "-" else f"in {source}"
    like = f" like {' or '.join(include)}" if include else ""
    like += f" but {' and '.join(exclude)}" if exclude else ""
    return f"nothing to do: there is no sound file{like} {where} (--allow-empty: that is fine)"


def _listed() -> tuple[str, ...]:
    """The files that stdin names, one a line or, as of ``find -print0``, with NUL between them."""
    data = sys.stdin.buffer.read()
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return tuple(os.fsdecode(line) for line in lines if line)


def _print_plan(plan: BatchPlan, output: str) -> None:
    from ..batch.storage import absolute, join

    for item in plan.todo:
        target = join(absolute(output), item.target)
        typer.echo(f"{item.source}\t{target}")
        if item.why:
            typer.echo(f"gtcrn: {target}: {item.why}", err=True)
    for record in plan.edited:
        target = join(absolute(output), record.target)
        typer.echo(f"gtcrn: {target}: has been changed since it was made: left as it is", err=True)
    for file in plan.passed:
        typer.echo(
            f"gtcrn: {'wrong' if file.trouble else 'skip'}: {file.path}: {file.reason}", err=True
        )
    hours = in_words(sum(item.expected_s for item in plan.todo))
    typer.echo(
        f"gtcrn: {len(plan.todo)} to enhance (some {hours}), "
        f"{len(plan.unchanged) + len(plan.edited)} unchanged",
        err=True,
    )


def _say(result: BatchResult, quiet: bool) -> None:
    """What was done, and at the end what failed."""
    if not quiet:
        done = f"{result.count('done')} enhanced"
        if result.duration_s:
            sound, time = in_words(result.duration_s), in_words(result.elapsed_s)
            done += f" ({sound} of sound in {time}, {result.speed:.0f}x real time)"
        unchanged, failed = result.count("unchanged"), len(result.failures)
        facts = [done]
        facts += [f"{unchanged} unchanged"] if unchanged else []
        facts += [f"{failed} failed"] if failed else []
        facts += [f"{count} skipped: {why}" for why, count in result.skipped.most_common()]
        typer.echo(f"gtcrn: {'; '.join(facts)}", err=True)
        _list(
            [
                f"{entry.output}: {entry.reason}"
                for entry in result.entries
                if entry.reason and entry.status in ("done", "unchanged")
            ],
            "outputs like these",
        )
    failed_ones = []
    for entry in result.failures:
        reason = entry.reason or ""
        place = "" if entry.input in reason else f"{entry.input}: "
        failed_ones.append(f"failed: {place}{reason}")
    _list(failed_ones, "failed")


def _list(lines: list[str], of_what: str) -> None:
    """The first of many lines, and how many more there are."""
    for line in lines[:SHOWN]:
        typer.echo(f"gtcrn: {line}", err=True)
    if len(lines) > SHOWN:
        more = len(lines) - SHOWN
        typer.echo(f"gtcrn: and {more} more {of_what}: --report lists them all", err=True)
