"""From a source through an `Enhancer` into a sink: the one loop behind files, pipes and batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..audio.formats import RawFormat
from ..audio.opening import Output, open_sink, open_source
from ..audio.pipe import PipeSink
from ..audio.streams import Sink, Source
from ..errors import ReadError, UserError
from ..paths import require_distinct, require_free
from ..signals import SILENCE_DB, Level, Samples
from .engines import Engine, default_engine
from .enhancer import Enhancer, Settings
from .overlap import Behind, ahead

# Frames in a block. Threads that hand blocks to each other wait less often for long ones; memory
# sets the other bound, also with many channels.
LEAST_FRAMES, MOST_FRAMES = 32, 384

Progress = Callable[[float, "float | None"], None]  # seconds done since last time, seconds in all


@dataclass
class Summary:
    """What a run did, for people and machines."""

    input: str
    output: str
    sample_rate: int
    channels: int
    duration_s: float = 0.0
    elapsed_s: float = 0.0
    level_in_db: float = SILENCE_DB
    level_out_db: float = SILENCE_DB
    clipped: int = 0
    replaced: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Seconds of audio per second of work."""
        return self.duration_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def removed_db(self) -> float:
        """How much lower the output's level is."""
        return self.level_in_db - self.level_out_db

    def to_dict(self) -> dict[str, Any]:
        """Plain data, rounded to what means something."""
        facts = asdict(self) | {"speed": self.speed, "removed_db": self.removed_db}
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in facts.items()}


def denoise(
    source: str,
    target: str,
    engine: Engine | None = None,
    settings: Settings | None = None,
    output: Output | None = None,
    raw: RawFormat | None = None,
    progress: Progress | None = None,
    threads: int = 1,
) -> Summary:
    """Enhance one file or stream: all that `gtcrn denoise` does.

    Parameters
    ----------
    source, target
        Paths; ``-`` is stdin or stdout.
    engine, settings
        What enhances, and how; the native engine with the default model if there is none.
    output
        How `target` is written: like `source` where it does not say.
    raw
        What comes from `source`, where it has no header.
    progress
        Called as the work goes on.
    threads
        How many may work at the same time; more than one read and write beside the work, and take
        channels side by side. What comes out is the same.

    Returns
    -------
    What was done: duration, levels in dB, clipped samples, notes for the user.

    Raises
    ------
    UserError
        Anything a user can put right; `target` is then as it was.

    Examples
    --------
    >>> from gtcrn_cli import denoise
    >>> summary = denoise("examples/noisy.wav", "enhanced.wav")
    >>> round(summary.duration_s, 1)
    6.5
    """
    output = output or Output()
    require_distinct(source, target)
    if target != "-":
        require_free(target, output.overwrite)
    opened = open_source(source, raw)
    engine = engine or default_engine()
    try:
        enhancer = Enhancer(engine, opened.sample_rate, opened.channels, settings, threads)
    except UserError as error:
        raise UserError(f"{opened.name}: {error}") from None
    sink = open_sink(target, opened, output)
    summary = run(
        opened, enhancer, sink, progress, allow_truncated=output.allow_truncated, threads=threads
    )
    summary.notes[:0] = opened.notes
    summary.notes += sink.notes
    if sink.lost_tags:
        summary.notes.append(f"the format holds no tags: {', '.join(sink.lost_tags)} lost")
    if summary.clipped:
        summary.notes.append(f"{summary.clipped} samples clipped: --subtype FLOAT would keep them")
    if summary.replaced:
        summary.notes.append(
            f"{summary.replaced} samples were no sound (NaN, infinite, beyond 100 dB full scale) "
            "and became silence"
        )
    return summary


class _AtOnce(AbstractContextManager["_AtOnce"]):
    """What `overlap.Behind` is, in this thread."""

    def __init__(self, write: Callable[[Samples], None]) -> None:
        self.put = write

    def drain(self) -> None:
        """Do nothing: each block has been written already."""

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no thread to end."""


def _clipped(block: Samples) -> int:
    """How many samples are beyond full scale; in most blocks none, which is quick to see."""
    if max(block.max(initial=0), -block.min(initial=0)) <= 1:
        return 0
    return int(np.count_nonzero(np.abs(block) > 1))


def run(
    source: Source,
    enhancer: Enhancer,
    sink: Sink,
    progress: Progress | None = None,
    *,
    allow_truncated: bool = False,
    threads: int = 1,
) -> Summary:
    """Enhance all of `source` into `sink`.

    Parameters
    ----------
    source, enhancer, sink
        Of the same sample rate and channel count.
    progress
        Called after every block.
    allow_truncated
        Where the source breaks off, take what is there for all of it, and note it.
    threads
        More than one: read and write in threads of their own.

    Raises
    ------
    UserError
        The source cannot be read to its end (what was finished is kept under the name in the
        message) or gives no sound at all, or the sink cannot be written (nothing is kept).
    """
    start = time.perf_counter()
    level_in, level_out = Level(), Level()
    summary = Summary(source.name, sink.name, source.sample_rate, source.channels)
    total_s = None if source.length is None else source.length / source.sample_rate
    samples = 0

    def put(block: Samples) -> None:
        level_out.add(block)
        if sink.clips:
            summary.clipped += _clipped(block)
        writer.put(block)

    frames = max(LEAST_FRAMES, min(MOST_FRAMES, 2 * MOST_FRAMES // source.channels))
    all_blocks = source.blocks(frames * enhancer.hop)
    with (
        sink,
        Behind(sink.write, isinstance(sink, PipeSink))
        if threads > 1
        else _AtOnce(sink.write) as writer,
        ahead(all_blocks) if threads > 1 else nullcontext(all_blocks) as blocks,
    ):
        try:
            for block in blocks:
                samples += len(block)
                put(enhancer.push(block))
                level_in.add(block)
                if progress:
                    progress(len(block) / source.sample_rate, total_s)
            put(enhancer.flush())
            writer.drain()
        except ReadError as error:
            if samples == 0:
                raise
            put(enhancer.flush())
            writer.drain()
            if not allow_truncated:
                kept = f"the first {samples / source.sample_rate:.1f} s: {sink.keep_partial()}"
                raise UserError(f"{error}; {kept}; --allow-truncated takes it as it is") from None
            summary.notes.append(f"{error}; what is there was taken for all of it")
        if samples == 0 and not (source.is_certain and source.length == 0):
            raise UserError(f"{source.name}: there is no sound in it")

    summary.duration_s = samples / source.sample_rate
    summary.elapsed_s = time.perf_counter() - start
    summary.level_in_db, summary.level_out_db = level_in.db, level_out.db
    summary.replaced = enhancer.replaced
    return summary
