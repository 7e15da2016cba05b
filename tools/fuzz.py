"""Damages recordings of every format, and sees that nothing is lost over them without a word.

    python tools/fuzz.py --count 10000 --seed 1 [--keep FOLDER] [--jobs 2]

Each case is a small recording with bits flipped, a part cut out, put in twice or swapped, or with
another recording spliced in; some have tags, pictures, chapters and chunks. It goes through a file,
a pipe on stdin, or a batch, to WAV or to its own format. Right is:

- an output that is whole, and as long as what ffmpeg decodes of the same bytes (to 0.15 s), or
- one line for the user, and nothing left but what is called ``.partial``.

Wrong is a traceback, a hang, a crash, a leftover, or success with less sound than there is. The
exit code is 1 if anything was wrong. Cases come from the seed and the number alone, so each can be
done again (``--first``). A worker process does the work: what crashes a decoder ends only that.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from gtcrn_cli.audio.ffmpeg import KEEP_TIME

LIMIT_S = 60  # for one case, on a busy machine
TOLERANCE_S = 0.15  # by which decoders may differ: what is trimmed of both ends of an MP3
BATCH = 25  # damaged files in one batch
RATE = 16_000
DURATION_S = 1.2

# Written by libsndfile: ending, format, subtype, channels
WRITTEN = [
    ("wav", "WAV", "PCM_16", 2),
    ("wav", "WAV", "PCM_24", 1),
    ("wav", "WAV", "FLOAT", 1),
    ("wav", "WAV", "ULAW", 1),
    ("wav", "WAV", "IMA_ADPCM", 1),
    ("wav", "WAV", "MS_ADPCM", 2),
    ("wav", "WAV", "GSM610", 1),
    ("wav", "WAVEX", "PCM_16", 2),
    ("wav", "RF64", "PCM_16", 1),
    ("w64", "W64", "PCM_16", 1),
    ("aiff", "AIFF", "PCM_16", 1),
    ("aiff", "AIFF", "FLOAT", 1),
    ("au", "AU", "PCM_16", 1),
    ("caf", "CAF", "PCM_16", 1),
    ("caf", "CAF", "ALAC_16", 1),
    ("flac", "FLAC", "PCM_16", 2),
    ("flac", "FLAC", "PCM_24", 1),
    ("ogg", "OGG", "VORBIS", 1),
    ("opus", "OGG", "OPUS", 2),
    ("mp3", "MP3", "MPEG_LAYER_III", 1),
    ("voc", "VOC", "PCM_16", 1),
    ("sf", "IRCAM", "PCM_16", 1),
    ("wav", "NIST", "PCM_16", 1),
    ("wav", "SVX", "PCM_16", 1),
]
# Made by ffmpeg: name and options
MADE = [
    ("bare.mp3", "-c:a libmp3lame -q:a 5 -write_xing 0 -id3v2_version 0"),
    ("cbr.mp3", "-c:a libmp3lame -b:a 48k -ac 1"),
    ("tape.mp2", "-c:a mp2 -ar 32000"),
    ("other.opus", "-c:a libopus -b:a 24k"),
    ("other.ogg", "-c:a libvorbis"),
    ("stream.flac", "-c:a flac -f flac pipe:1"),
    ("a.m4a", "-c:a aac"),
    ("fast.m4a", "-c:a aac -movflags +faststart"),
    ("a.aac", "-c:a aac"),
    ("a.mka", "-c:a libopus"),
    ("a.webm", "-c:a libvorbis"),
    ("a.avi", "-c:a libmp3lame"),
    ("a.ts", "-c:a mp2"),
    ("a.wma", "-c:a wmav2"),
    ("a.wv", "-c:a wavpack"),
    ("a.tta", "-c:a tta"),
    ("a.ac3", "-c:a ac3"),
]
# Of those above, what gets tags, pictures and chapters, too; and chunks of a WAV.
TAGGED = ("10", "15", "17", "18", "19")
CHAPTERS = """;FFMETADATA1
title=A talk
[CHAPTER]
TIMEBASE=1/1000
START=0
END=600
title=one
[CHAPTER]
TIMEBASE=1/1000
START=600
END=1200
title=two
"""
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(300)
CHUNKS = [
    (b"bext", b"a recorder".ljust(602, b"\0")),
    (b"iXML", b"<BWFXML><SCENE>1</SCENE></BWFXML>"),
    (b"cue ", struct.pack("<IIIIIII", 1, 1, 4800, 0x61746164, 0, 0, 4800)),
    (b"LIST", b"adtllabl" + struct.pack("<II", 10, 1) + b"mark\0\0"),
    (b"LIST", b"INFOINAM" + struct.pack("<I", 6) + b"A talk"),
    (b"smpl", bytes(36)),
    (b"id3 ", b"ID3\x03\0\0\0\0\0\x10TIT2\0\0\0\x06\0\0\0talk"),
    (b"odd ", b"one"),
]
WAYS = ("file", "file", "stdin", "batch")
SAME = 0.4  # share of cases that go to their own format


@dataclass
class Finding:
    """What became of one case; `wrong` is empty where all is as it should be."""

    number: int
    base: str
    damage: str
    way: str
    ended: str
    wrong: str = ""
    detail: str = ""


def make_bases(folder: Path) -> list[Path]:
    """Small recordings of all formats that can be made here."""
    rng = np.random.default_rng(0)
    time_s = np.arange(round(DURATION_S * RATE)) / RATE
    level = np.repeat(rng.random(len(time_s) // 800 + 1) ** 3, 800)[: len(time_s)]
    sound = level * np.sin(2 * np.pi * 200 * time_s) * 0.3 + 0.05 * rng.standard_normal(len(time_s))
    for i, (ending, kind, subtype, channels) in enumerate(WRITTEN):
        path = folder / f"{i:02}-{kind}-{subtype}.{ending}".lower()
        samples = np.stack([sound] * channels, 1)
        soundfile.write(path, samples, RATE, subtype, format=kind)
    for path in sorted(folder.iterdir()):
        if path.name[:2] in TAGGED:
            add_tags(shutil.copy(path, path.with_name(f"tagged-{path.name}")))
    add_chunks(folder / "00-wav-pcm_16.wav", folder / "tagged-chunks.wav")
    if has_ffmpeg():
        (folder / "chapters.txt").write_text(CHAPTERS)
        plain = folder / "00-wav-pcm_16.wav"
        for name, options in MADE:
            target, arguments = folder / f"ffmpeg-{name}", options.split()
            command = ["ffmpeg", "-v", "error", "-y", "-i", str(plain), *arguments]
            if arguments[-1] == "pipe:1":
                with target.open("wb") as file:
                    subprocess.run(command, stdout=file, check=True)
            else:
                subprocess.run([*command, str(target)], check=True)
        chapters = ["-f", "ffmetadata", "-i", str(folder / "chapters.txt"), "-map_metadata", "1"]
        for name, codec in (("tagged.m4a", "aac"), ("tagged.mka", "flac"), ("tagged.mp3", "mp3")):
            command = ["ffmpeg", "-v", "error", "-y", "-i", str(plain), *chapters, "-c:a", codec]
            subprocess.run([*command, str(folder / name)], check=True)
        (folder / "chapters.txt").unlink()
    return sorted(folder.iterdir())


def add_tags(path: Path) -> None:
    """Texts and a picture, by the tag library that gtcrn uses, too."""
    import mutagen
    from mutagen import flac, id3

    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if path.suffix in (".mp3", ".aiff"):
        file.tags.add(id3.TIT2(encoding=3, text=["A talk"]))
        file.tags.add(id3.APIC(encoding=3, mime="image/png", type=3, desc="", data=PICTURE))
        file.tags.add(id3.CHAP(element_id="c1", start_time=0, end_time=600, sub_frames=[]))
    else:
        picture = flac.Picture()
        picture.mime, picture.type, picture.data = "image/png", 3, PICTURE
        file.tags["title"] = ["A talk"]
        if path.suffix == ".flac":
            file.add_picture(picture)
        else:
            file.tags["metadata_block_picture"] = [base64.b64encode(picture.write()).decode()]
    file.save()


def add_chunks(source: Path, target: Path) -> None:
    """A WAV with what recorders and editors write, before the sound and behind it."""
    data = source.read_bytes()
    laid = [name + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for name, c in CHUNKS]
    data = data[:12] + b"".join(laid[:3]) + data[12:] + b"".join(laid[3:])
    target.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


def has_ffmpeg() -> bool:
    """Whether there is something to compare with."""
    return shutil.which("ffmpeg") is not None


def damaged(data: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """What was done, and what came of it."""
    kind = str(
        rng.choice(["flip", "flip head", "cut", "cut out", "twice", "zero", "junk", "splice"])
    )
    size = len(data)
    first, last = sorted(int(x) for x in rng.integers(0, size, 2))
    last = min(last, first + int(rng.integers(1, 4_000)))
    if kind.startswith("flip"):
        changed = bytearray(data)
        end = min(size, 120) if kind == "flip head" else size
        for at in rng.integers(0, end, int(rng.integers(1, 9))):
            changed[at] ^= 1 << int(rng.integers(0, 8))
        return kind, bytes(changed)
    if kind == "cut":
        return kind, data[: max(1, first)]
    if kind == "cut out":
        return kind, data[:first] + data[last:]
    if kind == "twice":
        return kind, data[:last] + data[first:]
    if kind == "zero":
        return kind, data[:first] + bytes(last - first) + data[last:]
    if kind == "junk":
        return kind, data[:first] + rng.bytes(int(rng.integers(1, 3_000))) + data[first:]
    other = others[int(rng.integers(len(others)))]
    begin = int(rng.integers(0, len(other)))
    return kind, data[:last] + other[begin if rng.random() < 0.7 else 0 :]


def case(number: int, seed: int, bases: list[Path]) -> tuple[Path, str, str, bytes, bool]:
    """Base, damage, way and bytes of a case, and whether it goes to its own format."""
    rng = np.random.default_rng([seed, number])
    base = bases[int(rng.integers(len(bases)))]
    way = str(rng.choice(WAYS))
    damage, data = damaged(base.read_bytes(), [path.read_bytes() for path in bases[::5]], rng)
    return base, damage, way, data, rng.random() < SAME


def decoded(path: Path, options: list[str]) -> int:
    """Samples that ffmpeg decodes of a file; 0 where it decodes nothing."""
    command = ["ffmpeg", "-v", "quiet", "-nostdin", "-protocol_whitelist", "file,pipe"]
    command += ["-i", f"file:{path}", "-map", "0:a:0", *options, "-ac", "1", "-f", "s16le", "-"]
    try:
        found = subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_S / 2)
    except subprocess.TimeoutExpired:
        return 0
    return len(found.stdout) // 2


def lost(written: Path | str, source: Path) -> str:
    """What is missing of a recording, in words; times within a container count where it has any.

    Where a damaged header tells another rate than the frames do, all samples are there, too.
    """
    if not has_ffmpeg():
        return ""
    there = 0
    try:
        info = soundfile.info(written)
    except soundfile.LibsndfileError:  # one of ffmpeg's
        again = Path(tempfile.gettempdir(), f"gtcrn-fuzz-{os.getpid()}.wav")
        subprocess.run(["ffmpeg", "-v", "quiet", "-y", "-i", str(written), str(again)], check=False)
        if not again.exists():
            return f"{written} cannot be read"
        try:
            return lost(again, source)
        finally:
            again.unlink()
    for options in (
        ["-ar", str(info.samplerate)],
        ["-ar", str(info.samplerate), "-af", KEEP_TIME],
        [],
    ):
        there = decoded(source, options)
        if info.frames >= there - TOLERANCE_S * info.samplerate:
            return ""
    return f"{info.frames} samples of {there} at {info.samplerate} Hz"


class Bench:
    """Does cases in this process, with the network loaded once."""

    def __init__(self, folder: Path, seed: int, bases: list[Path]) -> None:
        from gtcrn_cli.enhancement.engines import load_engine
        from gtcrn_cli.network.checkpoint import load_model

        self.engine = load_engine(load_model())
        self.folder = folder
        self.seed = seed
        self.bases = bases

    def do(self, number: int) -> Finding:
        """One case through a file or stdin."""
        base, damage, way, data, same = case(number, self.seed, self.bases)
        finding = Finding(number, base.name, damage, way, "")
        source = self.folder / f"in{base.suffix}"
        target = self.folder / "out" / f"out{base.suffix if same else '.wav'}"
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        source.write_bytes(data)
        self._denoise(source, target, way, data, finding)
        self._look_at(target, finding)
        if finding.ended == "done" and not finding.wrong:
            missing = lost(target, source)
            finding.wrong, finding.detail = ("less sound", missing) if missing else ("", "")
        return finding

    def _denoise(self, source: Path, target: Path, way: str, data: bytes, finding: Finding) -> None:
        from gtcrn_cli.enhancement.pipeline import denoise
        from gtcrn_cli.errors import UserError

        try:
            with on_stdin(data) if way == "stdin" else contextlib.nullcontext():
                summary = denoise("-" if way == "stdin" else str(source), str(target), self.engine)
            finding.ended = "done"
            finding.detail = "; ".join(summary.notes)
        except UserError as error:
            finding.ended, finding.detail = "told", str(error)
            if "\n" in str(error).strip():
                finding.wrong = "more than a line"
        except Exception:
            finding.ended, finding.wrong = "broke", "traceback"
            finding.detail = traceback.format_exc()

    def _look_at(self, target: Path, finding: Finding) -> None:
        left = sorted(path.name for path in target.parent.iterdir())
        done, partial = [target.name], [f"out.partial{target.suffix}"]
        expected = [done] if finding.ended == "done" else [[], partial]
        if left not in expected and not finding.wrong:
            finding.wrong, finding.detail = "leftovers", f"{left}; {finding.detail}"

    def do_batch(self, numbers: list[int]) -> Iterator[Finding]:
        """Many cases in one batch, as a command of its own."""
        folder, output = self.folder / "batch", self.folder / "clean"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(output, ignore_errors=True)
        folder.mkdir()
        findings = {}
        for number in numbers:
            base, damage, _, data, _ = case(number, self.seed, self.bases)
            name = f"{number}{base.suffix}"
            (folder / name).write_bytes(data)
            findings[name] = Finding(number, base.name, damage, "batch", "told")
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "gtcrn_cli", "batch", str(folder), str(output)]
        if not case(numbers[0], self.seed, self.bases)[-1]:
            command += ["--format", "wav"]
        command += ["--report", str(report), "--jobs", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        entries = json.loads(report.read_text())["files"] if report.exists() else []
        for entry in entries:
            finding = findings[Path(entry["input"]).name]
            finding.ended = "done" if entry["status"] == "done" else "told"
            finding.detail = entry.get("reason") or ""
            if entry.get("trace"):
                finding.wrong, finding.detail = "traceback", entry["trace"]
            elif "died" in finding.detail:
                finding.wrong = "crash"
            elif finding.ended == "done":
                source = folder / Path(entry["input"]).name
                if missing := lost(entry["output"], source):
                    finding.wrong, finding.detail = "less sound", missing
        if not entries or "Traceback" in done.stderr:
            for finding in findings.values():
                finding.wrong, finding.detail = "batch broke", done.stderr[-2_000:]
        elif any(path.suffix == ".part" for path in output.rglob("*")):
            next(iter(findings.values())).wrong = "leftovers"
        yield from findings.values()


@contextlib.contextmanager
def on_stdin(data: bytes) -> Iterator[None]:
    """`data` through a pipe, as this process's stdin."""
    reading, writing = os.pipe()

    def feed() -> None:
        with contextlib.suppress(OSError), os.fdopen(writing, "wb") as file:
            file.write(data)

    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        os.dup2(kept, 0)  # ends the pipe, and with it the thread
        os.close(kept)
        feeder.join()


def work(seed: int, numbers: list[int], folder: Path, bases: list[Path]) -> None:
    """A worker: a line of JSON for each case, and before it its number."""
    bench = Bench(folder, seed, bases)
    batch: list[int] = []
    for number in numbers:
        print(number, flush=True)
        if case(number, seed, bases)[2] == "batch":
            batch.append(number)
            if len(batch) == BATCH:
                for finding in bench.do_batch(batch):
                    print(json.dumps(asdict(finding)), flush=True)
                batch = []
        else:
            print(json.dumps(asdict(bench.do(number))), flush=True)
    for finding in bench.do_batch(batch) if batch else ():
        print(json.dumps(asdict(finding)), flush=True)


def supervise(seed: int, numbers: list[int], folder: Path, bases: Path) -> Iterator[Finding]:
    """Runs workers until all cases are done; one that crashes or hangs loses only its case."""
    left = list(numbers)
    while left:
        command = [sys.executable, __file__, "--worker", str(folder), "--bases", str(bases)]
        command += ["--seed", str(seed), "--numbers", ",".join(map(str, left))]
        quiet = subprocess.DEVNULL
        worker = subprocess.Popen(
            command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True, bufsize=1
        )
        assert worker.stdout is not None
        current, why = -1, ""
        for line in _lines(worker):
            if line.startswith("{"):
                finding = Finding(**json.loads(line))
                left.remove(finding.number)
                yield finding
            else:
                current = int(line)
        try:
            worker.wait(LIMIT_S / 2)
        except subprocess.TimeoutExpired:
            why = "hang"
            worker.kill()
            worker.wait()
        if worker.returncode or why:
            if current not in left:  # before its first case, or in none
                raise SystemExit(f"the worker ended with {worker.returncode}: nothing can be tried")
            left.remove(current)
            detail = f"worker ended with {worker.returncode}"
            yield Finding(current, "", "", "", "broke", why or "crash", detail)


def _lines(worker: subprocess.Popen[str]) -> Iterator[str]:
    """Its output, until it ends or says nothing for too long."""
    assert worker.stdout is not None
    lines: list[str] = []
    ready = threading.Condition()
    over = False

    def pump() -> None:
        nonlocal over
        for line in worker.stdout or ():
            with ready:
                lines.append(line)
                ready.notify()
        with ready:
            over = True
            ready.notify()

    threading.Thread(target=pump, daemon=True).start()
    while True:
        with ready:
            if not lines and not over and not ready.wait(LIMIT_S * 2):
                return
            if not lines and over:
                return
            batch = lines[:]
            lines.clear()
        yield from batch


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the bytes of what went wrong")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bases", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--numbers", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        numbers = [int(n) for n in options.numbers.split(",")]
        work(options.seed, numbers, options.worker, sorted(options.bases.iterdir()))
        return
    start = time.monotonic()
    counts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="gtcrn-fuzz-") as name:
        folder, bases = Path(name, "work"), Path(name, "bases")
        folder.mkdir()
        bases.mkdir()
        made = make_bases(bases)
        numbers = list(range(options.first, options.first + options.count))
        for finding in supervise(options.seed, numbers, folder, bases):
            counts[f"{finding.way}: {finding.ended}"] += 1
            if sum(counts.values()) % 500 == 0:
                print(f"{sum(counts.values())} cases, {wrong} wrong", file=sys.stderr, flush=True)
            if finding.wrong:
                wrong += 1
                print(json.dumps(asdict(finding)), flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    base, _, _, data, _ = case(finding.number, options.seed, made)
                    (options.keep / f"{finding.number}{base.suffix}").write_bytes(data)
    elapsed_s = time.monotonic() - start
    ended = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    print(f"{sum(counts.values())} cases in {elapsed_s:.0f} s: {ended}; {wrong} wrong")
    raise SystemExit(int(wrong > 0))


if __name__ == "__main__":
    main()
