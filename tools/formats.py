"""Formats as they are: `gtcrn denoise` without effect, on all of them; makes docs/formats.md.

    python tools/formats.py [--write] [--ffmpeg FOLDER] [--every 1]

Each recording has a click at its first and at its last sample and speech between, other speech in
every channel, and a title where the format has one. It goes through `gtcrn denoise --strength 0`,
a pipe and a batch. What comes out is held against what a reader (libsndfile, ffmpeg) makes of the
recording that went in: length, start, clicks, order of the channels, title, exit code. FOLDER is
put before the PATH: it has another ``ffmpeg``, and an ``ffprobe``, to be measured as well. The
exit code is 1 if something is not exact and `REASONS` has no words for it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

import gtcrn_cli
from gtcrn_cli.audio import speakers
from gtcrn_cli.audio.formats import FORMAT_OF_EXTENSION
from gtcrn_cli.cli import main as cli_main
from gtcrn_cli.enhancement import pipeline  # noqa: F401 - once, and not in each process
from gtcrn_cli.markdown import table
from gtcrn_cli.native.machine_code import load_kernel
from gtcrn_cli.signals import lag

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "formats.md"
RATES = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)
CHANNELS = (1, 2, 6)
DURATION_S = 1.0
CLICK = 0.9
CLICK_TOLERANCE = 0.1
LONGEST_DELAY = 6_000  # samples

# Codecs of libsndfile in which a click does not stay one sample.
LOSSY = ("VORBIS", "OPUS", "MPEG", "ADPCM", "GSM610", "G721", "G723", "DWVW_12", "DPCM_8")
ENDINGS = {name: ending for ending, name in reversed(FORMAT_OF_EXTENSION.items())}
ENDINGS |= {"WAVEX": ".wav", "RF64": ".wav", "OGG": ".ogg", "MP3": ".mp3", "AIFF": ".aiff"}

# Written by ffmpeg: ending, encoder, what else it needs
MADE = [
    (".aac", "aac", ""),
    (".ac3", "ac3", ""),
    (".eac3", "eac3", ""),
    (".avi", "mp3", "-c:a libmp3lame"),
    (".avi", "pcm_s16le", "-c:a pcm_s16le"),
    (".flv", "mp3", "-c:a libmp3lame"),
    (".m4a", "aac", ""),
    (".m4a", "alac", "-c:a alac"),
    (".mka", "vorbis", "-c:a libvorbis"),
    (".mka", "aac", "-c:a aac"),
    (".mka", "mp3", "-c:a libmp3lame"),
    (".mka", "opus", "-c:a libopus"),
    (".mka", "flac", "-c:a flac"),
    (".mka", "pcm_s16le", "-c:a pcm_s16le"),
    (".mov", "aac", "-c:a aac"),
    (".mp2", "mp2", ""),
    (".mp4", "aac", ""),
    (".mpg", "mp2", "-c:a mp2"),
    (".ts", "mp2", "-c:a mp2"),
    (".ts", "aac", "-c:a aac"),
    (".tta", "tta", ""),
    (".webm", "opus", "-c:a libopus"),
    (".webm", "vorbis", "-c:a libvorbis"),
    (".wma", "wmav2", ""),
    (".wv", "wavpack", ""),
]
RATES_BY_FFMPEG = (16_000, 44_100, 48_000)

# Why something is not exact, by the deviation and the format or codec that it is of.
LATE = "the file does not tell the encoder's delay (Matroska: with this ffmpeg), each pass adds one"
PADDED = "the encoder fills up its last frame"
VIDEO_TIME = "silence up to the time of the first sample, so that it stays with a picture"
REASONS: dict[tuple[str, str], str] = {
    ("", "start"): LATE,
    ("", "length"): f"{PADDED}; and as `start`",
    ("wmav2", "start"): "ffmpeg gives no sound before the second frame: silence stands for it",
    ("wmav2", "length"): f"{PADDED}; and as `start`",
    ("", "pipe: start"): VIDEO_TIME,
    ("", "pipe: length"): VIDEO_TIME,
    ("VOC", "length"): "with one channel libsndfile reads the end mark as a sample, once each time",
    ("VOC", "batch: length"): "as `length`",
    ("VOC", "exit code 1"): "8 bits hold not every rate: refused before the work",
    ("PCM_24", "start"): "PAF of more than two channels is mixed up by libsndfile itself",
    ("PCM_24", "channels"): "as `start`",
}


def recording(sample_rate: int, channels: int) -> np.ndarray:
    """Clicks at both ends, and in every channel other speech: float64 ``[N, C]``."""
    length = round(DURATION_S * sample_rate)
    samples = np.zeros((length, channels))
    for channel in range(channels):
        speech, rate = soundfile.read(ROOT / f"tests/data/clean-{channel % 5}.flac")
        at = np.arange(length) / sample_rate * rate + 16_000 + 4_000 * (channel // 5)
        part = np.interp(at, np.arange(len(speech)), speech)
        samples[:, channel] = 0.3 * part / np.abs(part).max()
    fade = np.clip(np.arange(length) / (0.02 * sample_rate), 0, 1)
    samples *= (fade * fade[::-1])[:, None]
    samples[0] = samples[-1] = CLICK
    return samples


def delay(late: np.ndarray, early: np.ndarray) -> int:
    """Samples by which the first channel of one is behind that of the other."""
    return lag(late[:, 0], early[:, 0], LONGEST_DELAY)


def deviations(
    before: np.ndarray, after: np.ndarray, channels: int, *, lossless: bool
) -> list[str]:
    """What is other in one recording than in the other, of those that people would notice."""
    if after.shape[1] != channels:
        return [f"{after.shape[1]} channels"]
    found = []
    if len(after) != len(before):
        found.append("length")
    if not len(after) or not np.any(after):
        return ["silence"]
    shift = delay(after, before)
    if shift:
        found.append("start")
    elif lossless:
        ends = [abs(float(after[i, 0] - before[i, 0])) for i in (0, len(before) - 1)
                if i < len(after)]  # fmt: skip
        found += ["clicks"] if max(ends) > CLICK_TOLERANCE else []
    first, second = (x[: min(len(before), len(after))] for x in (before, np.roll(after, -shift, 0)))
    like = np.abs(first.T @ second)
    if channels > 1 and list(like.argmax(0)) != list(range(channels)):
        found.append("channels")
    return found


def gtcrn(
    *arguments: str | Path, stdin: Path | None = None, stdout: Path | None = None
) -> tuple[int, str]:
    """Exit code and stderr of a command, in a process that has the network compiled already."""
    with tempfile.TemporaryFile() as complaints:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(os.open(stdin or os.devnull, os.O_RDONLY), 0)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(stdout or os.devnull, flags, 0o644), 1)
                os.dup2(complaints.fileno(), 2)
                sys.argv = ["gtcrn", *map(str, arguments)]
                cli_main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        complaints.seek(0)
        says = complaints.read().decode(errors="replace").strip()
    return os.waitstatus_to_exitcode(status), says


@dataclass
class Row:
    """All recordings of one format and codec."""

    count: int = 0
    exact: int = 0
    found: Counter[str] = field(default_factory=Counter)
    says: set[str] = field(default_factory=set)
    delays: dict[str, set[float]] = field(default_factory=dict)

    def add(self, found: Sequence[str]) -> None:
        """Take in what was found of one recording."""
        self.count += 1
        self.exact += not found
        self.found.update(set(found))


Rows = dict[tuple[str, str], Row]
Way = Callable[[Path, int], Rows]


def by_libsndfile(path: Path) -> np.ndarray:
    """What libsndfile reads, in the order of WAV."""
    with soundfile.SoundFile(path) as file:
        samples = file.read(dtype="float64", always_2d=True)
        order = speakers.order_of(file.format, file.subtype, file.channels)
    return samples[:, order] if order else samples


def title_of(path: Path) -> str:
    """As libsndfile has it."""
    with soundfile.SoundFile(path) as file:
        return file.title


def libsndfile_recordings(folder: Path, every: int) -> Iterator[tuple[str, str, int, int, Path]]:
    """All that it writes and reads: format, subtype, rate, channels, path."""
    count = itertools.count()
    for kind in soundfile.available_formats():
        if kind in ("RAW", "SD2"):  # without a header; with a second file
            continue
        for subtype in soundfile.available_subtypes(kind):
            for rate, channels in itertools.product(RATES, CHANNELS):
                if next(count) % every:
                    continue
                path = folder / f"{kind}-{subtype}-{rate}-{channels}{ENDINGS.get(kind, '.snd')}"
                samples = recording(rate, channels)
                order = speakers.order_of(kind, subtype, channels)
                if order:
                    samples = samples[:, np.argsort(order)]
                try:
                    with soundfile.SoundFile(path, "w", rate, channels, subtype, None, kind) as f:
                        with contextlib.suppress(RuntimeError, soundfile.LibsndfileError):
                            f.title = "A title"  # where there is a place for one
                        f.write(samples)
                    by_libsndfile(path)
                except (soundfile.LibsndfileError, AssertionError, ValueError):
                    path.unlink(missing_ok=True)
                    continue  # no such thing, or it can only be written
                yield kind, subtype, rate, channels, path


def through_libsndfile(folder: Path, every: int) -> dict[tuple[str, str], Row]:
    """File, pipe and batch of every format and subtype."""
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    inputs, clean = folder / "in", folder / "batch"
    inputs.mkdir()
    cases = list(libsndfile_recordings(inputs, every))
    gtcrn("batch", inputs, clean, "--strength", "0", "-q", "--jobs", "1")
    for kind, subtype, rate, channels, path in cases:
        lossless = not any(name in subtype for name in LOSSY)
        before, title = by_libsndfile(path), title_of(path)
        found = []
        target = folder / f"out{path.suffix}"
        target.unlink(missing_ok=True)
        arguments = ("denoise", "--strength", "0", "--threads", "1")
        kept = (*arguments, "--format", kind, path, target)
        code, says = gtcrn(*kept)
        row = rows[kind, subtype]
        if code:
            found.append(f"exit code {code}")
            row.says.add(_without_path(says, path, target))
        else:
            found += deviations(before, by_libsndfile(target), channels, lossless=lossless)
            if title and title_of(target) != title:
                found.append("title")
        piped = folder / "piped.wav"
        code, says = gtcrn(*arguments, "-", "-", stdin=path, stdout=piped)
        if code:
            found.append(f"pipe: exit code {code}")
            row.says.add(_without_path(says, path, target))
        else:
            after = by_libsndfile(piped)
            found += [
                f"pipe: {what}"
                for what in deviations(before, after, channels, lossless=lossless)
            ]  # fmt: skip
        batched = clean / path.name
        if path.suffix != ".snd" and not any(f.startswith("exit") for f in found):
            if not batched.exists():
                found.append("batch: nothing")
            else:
                after = by_libsndfile(batched)
                found += [
                    f"batch: {what}"
                    for what in deviations(before, after, channels, lossless=lossless)
                ]  # fmt: skip
        row.add(found)
        if found:
            print(kind, subtype, rate, channels, found, file=sys.stderr, flush=True)
    return rows


def _without_path(says: str, *paths: Path) -> str:
    for path in paths:
        says = says.replace(str(path), f"NAME{path.suffix}")
    return says.splitlines()[-1] if says else ""


def holds(path: Path, sample_rate: int, channels: int) -> bool:
    """Whether a recording has that rate and that many channels; encoders take what is near."""
    entries = "stream=sample_rate,channels"
    command = ["ffprobe", "-v", "quiet", "-select_streams", "a:0", "-show_entries", entries]
    found = subprocess.run(
        [*command, "-of", "csv=p=0", str(path)], capture_output=True, check=False
    )
    return found.stdout.decode().split()[:1] == [f"{sample_rate},{channels}"]


def by_ffmpeg(path: Path, channels: int) -> np.ndarray:
    """What ``ffmpeg -i`` makes of it."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a:0", "-f", "f32le", "-"]
    found = subprocess.run(command, capture_output=True, check=False)
    return np.frombuffer(found.stdout, "<f4").astype(float).reshape(-1, channels)


def title_by_ffprobe(path: Path) -> str:
    """Of the file, or of its sound."""
    entries = "format_tags=title:stream_tags=title"
    command = ["ffprobe", "-v", "quiet", "-show_entries", entries, "-of", "csv=p=0", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def through_ffmpeg(folder: Path, every: int) -> dict[tuple[str, str], Row]:
    """File, pipe and batch of what ffmpeg writes, and how late each is."""
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    grid = itertools.product(MADE, RATES_BY_FFMPEG, CHANNELS)
    for (ending, codec, options), rate, channels in itertools.islice(grid, 0, None, every):
        plain, path = folder / "plain.wav", folder / f"in{ending}"
        target, piped = folder / f"out{ending}", folder / "piped.wav"
        for old in (path, target, piped):
            old.unlink(missing_ok=True)
        original = recording(rate, channels)
        soundfile.write(plain, original, rate, "FLOAT", format="WAVEX")
        with soundfile.SoundFile(plain, "w", rate, channels, "FLOAT", format="WAVEX") as file:
            if channels == 6:
                speakers.write_mask(file, speakers.mask_of("5.1"))
            file.write(original)
        command = ["ffmpeg", "-v", "quiet", "-y", "-i", str(plain), "-metadata", "title=A title"]
        command += [*options.split(), "-vn", str(path)]
        if subprocess.run(command, check=False).returncode or not path.exists():
            continue  # the encoder has no such rate or channels
        if not holds(path, rate, channels):
            continue
        decoded = by_ffmpeg(path, channels)
        row = rows[ending, codec]
        found = []
        arguments = ("denoise", "--strength", "0", "--threads", "1")
        code, says = gtcrn(*arguments, path, target)
        if code:
            found.append(f"exit code {code}")
            row.says.add(_without_path(says, path, target))
        else:
            after = by_ffmpeg(target, channels)
            found += deviations(decoded, after, channels, lossless=False)
            if title_by_ffprobe(path) != title_by_ffprobe(target):
                found.append("title")
            if "does not tell where its sound starts" in says:
                row.says.add("note")
            row.delays.setdefault("before", set()).add(delay(decoded, original) / rate)
            row.delays.setdefault("after", set()).add(delay(after, original) / rate)
            row.delays.setdefault("longer before", set()).add((len(decoded) - len(original)) / rate)
            row.delays.setdefault("longer after", set()).add((len(after) - len(original)) / rate)
        code, says = gtcrn(*arguments, "-", "-", stdin=path, stdout=piped)
        if code:
            found.append(f"pipe: exit code {code}")
            row.says.add(_without_path(says, path, target))
        else:
            after = by_libsndfile(piped)
            found += [
                f"pipe: {what}" for what in deviations(decoded, after, channels, lossless=False)
            ]
        row.add(found)
    return rows


def version_of_ffmpeg() -> str:
    """As it says itself."""
    out = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False)
    return out.stdout.split()[2]


def reason_for(kind: str, codec: str, what: str) -> str:
    """The words for a deviation; empty where there are none."""
    for key in ((codec, what), (kind, what), ("", what)):
        if key in REASONS:
            return REASONS[key]
    return ""


def format_rows(rows: dict[tuple[str, str], Row], unexplained: list[str]) -> Iterator[list[str]]:
    """Of the table."""
    for (kind, codec), row in rows.items():
        words = []
        for what, count in sorted(row.found.items()):
            reason = reason_for(kind, codec, what)
            if not reason:
                unexplained.append(f"{kind} {codec}: {what} ({count} of {row.count}) {row.says}")
            words.append(f"{what} ({count}): {reason or 'not explained'}")
        yield [f"{kind} {codec}", str(row.count), str(row.exact), "; ".join(words) or "-"]


def _span_ms(values: set[float]) -> str:
    low, high = (f"{1000 * value:.1f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def delay_rows(rows: dict[tuple[str, str], Row]) -> Iterator[list[str]]:
    """Of the table."""
    for (ending, codec), row in rows.items():
        if row.delays:
            kinds = ("before", "after", "longer before", "longer after")
            note = "yes" if "note" in row.says else "no"
            yield [f"{ending} {codec}", *(_span_ms(row.delays[kind]) for kind in kinds), note]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="docs/formats.md")
    parser.add_argument("--ffmpeg", type=Path, help="a folder with another ffmpeg and ffprobe")
    parser.add_argument("--every", type=int, default=1, help="each Nth recording only")
    parser.add_argument("--only", choices=("libsndfile", "ffmpeg"))
    parser.add_argument("--keep", type=Path, help="folder for what was measured: not done again")
    options = parser.parse_args()
    load_kernel()
    unexplained: list[str] = []
    head = ["format and codec", "recordings", "exact", "what is not, in how many, and why"]
    parts = [INTRODUCTION.format(gtcrn=gtcrn_cli.__version__)]

    def measured(way: Way, name: str) -> Rows:
        kept = options.keep / f"{name}.pickle" if options.keep else None
        if kept and kept.exists():
            return pickle.loads(kept.read_bytes())
        with tempfile.TemporaryDirectory(prefix="gtcrn-formats-") as folder:
            rows = dict(way(Path(folder), options.every))
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(rows))
        return rows

    if options.only != "ffmpeg":
        rows = measured(through_libsndfile, "libsndfile")
        version = soundfile.__libsndfile_version__
        parts.append(f"## libsndfile {version} (soundfile {soundfile.__version__})")
        parts.append(table(head, format_rows(rows, unexplained)))
        parts.append(KNOWN)
    if options.only != "libsndfile":
        path = os.environ["PATH"]
        for folder in (None, options.ffmpeg) if options.ffmpeg else (None,):
            os.environ["PATH"] = f"{folder}{os.pathsep}{path}" if folder else path
            rows = measured(through_ffmpeg, version_of_ffmpeg())
            parts.append(f"## ffmpeg {version_of_ffmpeg()}")
            parts.append(table(head, format_rows(rows, unexplained)))
            parts.append(DELAYS)
            parts.append(table(DELAY_HEAD, delay_rows(rows)))
    page = "\n\n".join(parts) + "\n"
    if options.write:
        PAGE.write_text(page)
    else:
        print(page)
    for line in unexplained:
        print(f"not explained: {line}", file=sys.stderr)
    raise SystemExit(int(bool(unexplained)))


DELAY_HEAD = [
    "container and codec",
    "ms late, by ffmpeg",
    "ms late, by gtcrn",
    "ms longer, by ffmpeg",
    "ms longer, by gtcrn",
    "said",
]
DELAYS = """Encoders put samples before the sound, and codecs fill up their last frame. Where the
container has a field for that, readers take it off. Here is how late and how much longer the sound
is than what was encoded, as `ffmpeg -i` decodes it: of the file that ffmpeg made from a WAV, and of
the one that `gtcrn denoise` made of that. `said`: a note tells the user."""
KNOWN = """\
Whatever part of the recordings is in the table, these are known not to be exact: VOC with
one channel of mu-law or A-law, of which libsndfile reads the end mark as a sample, so that each
pass adds one; VOC of 8 bits at rates that its header cannot hold, which is refused before the
work; PAF of 24 bits with six channels, which libsndfile itself mixes up when it writes them."""
INTRODUCTION = """# Formats as they really are

<!-- made by tools/formats.py: change it there -->

`python tools/formats.py --write --ffmpeg FOLDER` made this page with gtcrn {gtcrn}: recordings of
each format and codec at 8 to 96 kHz with 1, 2 and 6 channels (each Nth of them: `--every`; the
tables say how many), with clicks at the first and the last sample and speech between. They go
through `gtcrn denoise --strength 0`, through a pipe into WAV and through a batch. Exact is:
exit code 0, and the length, start, order of channels, title and (of lossless codecs) clicks
that a reader finds in the input. What libsndfile writes but cannot read back, and rates or channels
that a codec does
not have, are left out."""

if __name__ == "__main__":
    main()
