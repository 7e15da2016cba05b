"""A benchmark as a table, and as a chart."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from ..errors import MissingExtraError, UserError
from ..markdown import table
from ..paths import replacing, require_free
from .results import SHORT_S, HopTimes, Report

TIMES = ("mean µs", "p50", "p99", "max")
CHART_SUFFIXES = (".png", ".svg", ".pdf")


def to_table(report: Report) -> str:
    """The report in Markdown: the headline, the network alone, the whole chain, and the machine."""
    return "\n\n".join(
        part
        for part in (
            _headline(report),
            _network_table(report),
            _denoiser_table(report),
            _footnotes(report),
        )
        if part
    )


def _headline(report: Report) -> str:
    """How many times faster than each other one we are, with the same sound."""
    lines = []
    for other in report.results:
        if (ours := report.ours_beside(other)) is None:
            continue
        ratios = []
        if ours.network and other.network:
            ratios.append(f"{other.network.mean / ours.network.mean:.1f}x as fast for a frame")
        if ours.live_speed and other.live_speed:
            ratios.append(f"{ours.live_speed / other.live_speed:.1f}x live")
        if ours.file_speed and other.file_speed:
            ratios.append(f"{ours.file_speed / other.file_speed:.1f}x on a file")
        lines.append(f"- {ours.name} against {other.name}: {', '.join(ratios)}")
    return "\n".join(lines)


def _network_table(report: Report) -> str:
    rows = [[result.name, *_times(result.network)] for result in report.results if result.network]
    head = ["the network alone, one frame (16 ms) per call", *TIMES]
    return table(head, rows) if rows else ""


def _denoiser_table(report: Report) -> str:
    head = ["sound in, sound out", "Hz", "hop ms", *TIMES, "x real time, live"]
    head += [
        f"x real time, {report.seconds:g} s file",
        f"s for {SHORT_S} s",
        "peak MB",
        "latency ms",
    ]
    rows = [
        [
            result.name,
            f"{result.sample_rate:,}",
            _number(result.hop_ms if result.hop else None, "g"),
            *_times(result.hop),
            _number(result.live_speed, ".0f"),
            _number(result.file_speed, ".0f"),
            _number(result.short_file_s, ".2f"),
            _number(result.peak_mb, ".0f"),
            _number(result.latency_ms, "g"),
        ]
        for result in report.results
        if not result.problem
    ]
    return table(head, rows) if rows else ""


def _footnotes(report: Report) -> str:
    versions = ", ".join(
        f"{result.name} {result.version}" for result in report.results if not result.problem
    )
    lines = [
        ", ".join(f"{name} {value}" for name, value in report.machine.items()),
        f"model {report.model}; {versions}",
        "Files: a whole process from start to exit, medians.",
    ]
    lines += [f"{r.name} {r.version} failed: {r.problem}" for r in report.results if r.problem]
    if report.absent:
        lines.append(f"Not installed: {', '.join(report.absent)}.")
    return "\n".join(f"- {line}" for line in lines)


def _times(times: HopTimes | None) -> list[str]:
    if times is None:
        return ["-"] * len(TIMES)
    return [_number(value, ".0f") for value in (times.mean, times.p50, times.p99, times.max)]


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def require_chart(target: Path, overwrite: bool = False) -> None:
    """Refuse a chart that cannot be drawn before minutes of measuring, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "bench")
    require_free(target, overwrite)
    if target.suffix.lower() not in CHART_SUFFIXES:
        raise UserError(
            f"no charts as {target.name}: its name must end in {' '.join(CHART_SUFFIXES)}"
        )


def plot(report: Report, target: Path) -> None:
    """Bars of how many times real time each one runs, live and on a file: PNG, SVG or PDF."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    results = [result for result in report.results if not result.problem][::-1]
    figure = Figure(figsize=(8, 1 + 0.6 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(results))
    for offset, label, speeds in (
        (0.2, "live, hop by hop", [result.live_speed for result in results]),
        (-0.2, "a file, start-up included", [result.file_speed for result in results]),
    ):
        bars = axes.barh(rows + offset, [speed or 0 for speed in speeds], 0.38, label=label)
        axes.bar_label(bars, [f"{speed:.0f}x" if speed else "" for speed in speeds], padding=3)
    axes.set_yticks(rows, [result.name for result in results])
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.margins(x=0.15)
    axes.set_xlabel(f"times real time on one core ({report.machine['cpu']})")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(target) as path:
        figure.savefig(path, format=target.suffix[1:].lower(), dpi=150)
