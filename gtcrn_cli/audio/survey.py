"""What is in a file, and how long it is: its headers, held against its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import BinaryIO

from . import chains, containers, mpeg
from .formats import RawFormat
from .sniffing import signature
from .views import View, bytes_at, size_of

PASSED_BYTES = 8_192  # of no sound in an MPEG stream: more are said as loss
FAR_END = 1 << 40  # bytes: where a file of unknown length claims to end


@dataclass
class Part:
    """One recording of a file.

    Attributes
    ----------
    view
        Where it is; ``None`` for the whole file as it is.
    raw
        What is in the view, where that has no header.
    length
        In samples, where a header tells it that libsndfile does not see.
    estimate
        In samples, where no header tells it; then libsndfile knows less.
    least
        Samples that libsndfile must find by its header; else the header is damaged.
    endless
        The view to read then, for so many samples as are counted in it.
    is_damaged
        Whether some of it is no sound.
    """

    view: View | None = None
    raw: RawFormat | None = None
    length: int | None = None
    estimate: int | None = None
    least: int = 0
    endless: tuple[View, int] | None = None
    is_damaged: bool = False


@dataclass
class Survey:
    """What was found out about a file before reading it.

    Attributes
    ----------
    parts
        The recordings in it.
    notes
        What is odd.
    layout
        Of a PCM container.
    is_cut
        Whether it ends in the middle of something.
    is_damaged
        Whether much of it is no sound.
    is_mpeg
        Whether its frames were counted.
    """

    parts: list[Part]
    notes: list[str] = field(default_factory=list)
    layout: containers.Layout | None = None
    is_cut: bool = False
    is_damaged: bool = False
    is_mpeg: bool = False


def survey(file: BinaryIO, name: str) -> Survey:
    """Hold what an open file says of its length against what is there."""
    begun = bytes_at(file, 0, 4)
    layout = containers.measure(file)
    if layout is not None:
        return _survey_container(file, layout)
    if begun == b"OggS":
        return _survey_ogg(file)
    links = chains.flac_links(file) if begun in (b"fLaC",) or begun[:3] == b"ID3" else []
    if links and links[0].start <= mpeg.after_tags(file, 0, size_of(file)):
        return _survey_flac(file, links)
    if begun[:3] == b"ID3" or (signature(file) is None and mpeg.is_mpeg(file, name)):
        return survey_mpeg(file)
    return Survey([Part()])


def _survey_container(file: BinaryIO, layout: containers.Layout) -> Survey:
    start, end = 0, size_of(file)
    found = Survey([], [layout.odd] if layout.odd else [])
    while layout.next_at is not None:
        behind = start + layout.next_at
        found.parts.append(Part(View(file, start, _end_of_sound(file, start, layout) or behind)))
        start += layout.next_at
        following = containers.measure(View(file, start, end))
        if following is None:
            break
        layout = following
    view = None
    last = None if layout.is_short else _end_of_sound(file, start, layout)
    if start or last or (layout.fits and layout.patches):
        patches = {start + at: new for at, new in layout.patches.items()}
        view = View(file, start, last or end, patches)
    found.parts.append(Part(view))
    found.layout = layout
    return found


def _end_of_sound(file: BinaryIO, start: int, layout: containers.Layout) -> int | None:
    """Where the sound of a recording ends, if libsndfile would read what follows it, too."""
    begun = bytes_at(file, start, 12)
    reads_on = begun[:4] == b"riff" or begun[8:] in (b"8SVX", b"16SV")
    return start + layout.data_at + layout.there if reads_on else None


def _survey_ogg(file: BinaryIO) -> Survey:
    links = chains.ogg_links(file)
    found = Survey([Part(View(file, link.start, link.end)) for link in links])
    if len(links) <= 1:
        found.parts = [Part()]
    if links:
        found.is_cut = links[-1].is_cut
        if not links[-1].has_end and not found.is_cut:
            found.notes.append("the input has no end mark: whether it is whole cannot be told")
    return found


def _survey_flac(file: BinaryIO, links: list[chains.Link]) -> Survey:
    found = Survey([])
    for link in links:
        length, patches = chains.flac_length(file, link)
        start = 0 if link is links[0] else link.start
        found.parts.append(Part(View(file, start, link.end, patches), length=length))
        if length is None:
            found.notes = ["the header of the input does not tell its length: all of it is read"]
    return found


def survey_mpeg(file: BinaryIO) -> Survey:
    """The same of what is known to be MPEG audio, whatever it begins with."""
    runs = mpeg.runs(file)
    found = Survey([], is_mpeg=True)
    for i, run in enumerate(runs):
        whole_tags = i == 0 and run.start <= mpeg.after_tags(file, 0, run.end)
        start = 0 if whole_tags else run.start
        endless = View(file, start, run.end, claimed_end=run.end + FAR_END)
        if run.promised is None:
            found.parts.append(Part(endless, estimate=run.samples, is_damaged=run.damaged > 0))
        else:
            part = Part(View(file, start, run.end), endless=(endless, run.samples))
            part.is_damaged = run.damaged > 0
            part.least = run.samples - mpeg.MOST_TRIMMED
            found.parts.append(part)
    if damaged := sum(run.damaged for run in runs):
        found.notes.append(f"the input is damaged: {damaged} bytes in it are no sound")
        found.is_damaged = damaged > max(PASSED_BYTES, size_of(file) // 10)
    if any(run.promised is None for run in runs):
        found.notes.append("no header of the input tells its length: all of it is read")
    if not runs or (len(runs) == 1 and runs[0].promised == runs[0].samples and not runs[0].damaged):
        found.parts[:1] = [replace(part, view=None) for part in found.parts[:1]] or [Part()]
    return found
