"""A bar that shows how far long work has come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..enhancement.pipeline import Progress


@contextmanager
def progress_bar(visible: bool) -> Iterator[Progress | None]:
    """A bar with speed and time left on stderr; nothing where it is not `visible`."""
    if not visible:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[sound]}"),
        TextColumn("{task.fields[speed]:>6.0f}x real time"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, speed=0, sound="")

        def advance(seconds: float, total: float | None) -> None:
            bar.update(task, advance=seconds, total=total, speed=bar.tasks[0].speed or 0)
            done = bar.tasks[0].completed
            in_all = "" if total is None else f" of {in_words(total)}"
            bar.update(task, sound=f"{in_words(done)}{in_all}")

        yield advance


def in_words(seconds: float) -> str:
    """A time as one says it: ``12 s``, ``3.5 min``, ``1.2 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
