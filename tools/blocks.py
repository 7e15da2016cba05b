"""Proves that reading in blocks is reading whole: every format, channel count, rate and bit rate.

    python tools/blocks.py [--every 5]

All that libsndfile writes and much of what ffmpeg makes is read in blocks of 1 to a million
samples and whole, by one call of libsndfile's own, and compared to the bit. What is left out at
the start is held against the same whole. The exit code is 1 if anything differed. ``--every 5``
takes each fifth recording.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from gtcrn_cli.audio import speakers
from gtcrn_cli.audio.reading import FileSource
from gtcrn_cli.errors import UserError

SIZES = (1, 7, 576, 1_000, 4_096, 65_537, 1_000_000)
SKIPS = (1, 4_097, 20_000)
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
CHANNELS = (1, 2, 6)
LEVELS = (0.0, 0.5, 1.0)  # of compression, from the best sound to the smallest file
DURATION_S = 1.0
MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def speechlike(sample_rate: int, channels: int) -> np.ndarray:
    """Loud and soft by turns, so that encoders save bits for later."""
    rng = np.random.default_rng(sample_rate + channels)
    time_s = np.arange(round(DURATION_S * sample_rate)) / sample_rate
    level = np.repeat(rng.random(len(time_s) // 1_000 + 1) ** 4, 1_000)[: len(time_s)]
    voice = sum(np.sin(2 * np.pi * 140 * k * time_s + k) / k for k in range(1, 25))
    sound = level * voice * 0.2 + level[::-1] * rng.standard_normal(len(time_s)) * 0.1
    return np.stack([np.roll(sound, 30 * c) for c in range(channels)], 1)


def written(path: Path) -> Iterator[str]:
    """Recordings by libsndfile, one after the other at the same place; what each is."""
    for kind in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(kind):
            coded = subtype in ("VORBIS", "OPUS") or "MPEG" in subtype
            grid = itertools.product(CHANNELS, RATES, LEVELS if coded else (None,))
            for channels, rate, level in grid:
                if kind in ("RAW", "SD2"):  # no header; a second file
                    continue
                samples = speechlike(rate, channels)
                more = {} if level is None else {"compression_level": level}
                try:
                    file = soundfile.SoundFile(
                        path, "w", rate, channels, subtype, format=kind, **more
                    )
                    with file:
                        for start in range(0, len(samples), 4_096):
                            file.write(samples[start : start + 4_096])
                except (soundfile.LibsndfileError, AssertionError):
                    continue  # the format has no such thing
                yield f"{kind} {subtype} {channels} ch {rate} Hz level {level}"


def made(folder: Path) -> Iterator[tuple[Path, str]]:
    """Recordings by ffmpeg."""
    for rate, channels in itertools.product(MPEG_RATES, (1, 2)):
        plain = folder / "plain.wav"
        soundfile.write(plain, speechlike(rate, channels), rate)
        options = [f"-c:a libmp3lame -b:a {b}k x.mp3" for b in (8, 24, 32, 48, 64, 96, 128, 192)]
        options += [f"-c:a libmp3lame -q:a {q} x.mp3" for q in (0, 4, 9)]
        options += ["-c:a libmp3lame -q:a 5 -write_xing 0 -id3v2_version 0 x.mp3"]
        options += [f"-c:a mp2 -b:a {b}k x.mp2" for b in (64, 96, 160)]
        options += [f"-c:a libopus -ar 48000 -b:a {b}k x.opus" for b in (8, 24, 96)]
        options += [f"-c:a libopus -ar 48000 -frame_duration {ms} x.opus" for ms in (5, 60)]
        options += [f"-c:a libvorbis -q:a {q} x.ogg" for q in (0, 5, 9)]
        options += [f"-c:a flac -compression_level {level} x.flac" for level in (0, 12)]
        options += [f"-c:a adpcm_{kind} x.wav" for kind in ("ms", "ima_wav")]
        options += [f"-c:a pcm_{kind} x.wav" for kind in ("u8", "s24le", "f64le", "alaw", "mulaw")]
        options += [
            f"-c:a pcm_{kind} x.{end}" for kind in ("s16be", "s24be") for end in ("aiff", "caf")
        ]
        options += ["-c:a alac x.caf", "-c:a pcm_s16be x.au", "-c:a pcm_s16le x.w64"]
        for text in options:
            *arguments, name = text.split()
            path = folder / name
            path.unlink(missing_ok=True)
            command = ["ffmpeg", "-v", "quiet", "-y", "-i", plain, *arguments, path]
            if subprocess.run(command, check=False).returncode == 0 and path.exists():
                yield path, f"ffmpeg {text} {channels} ch {rate} Hz"


def differences(path: Path) -> list[str] | None:
    """Where reading in blocks is not reading whole; ``None`` where libsndfile cannot read it."""
    try:
        source = FileSource(path)
    except UserError:
        return None
    found = []
    if not source.is_certain or source.length is None:  # libsndfile alone ends where it guesses
        whole = _read(path, 1 << 22)
    else:
        whole = np.empty((source.length, source.channels), np.float32)
        with soundfile.SoundFile(path) as file:
            pointer = soundfile._ffi.from_buffer("float[]", whole)
            count = soundfile._snd.sf_readf_float(file._file, pointer, source.length)
        encoding = source.encoding
        order = speakers.order_of(encoding.format, encoding.subtype, source.channels)
        whole = whole[:, order] if order else whole  # as WAV has them
        if count != source.length:
            found.append(f"length {source.length}, and {count} can be read")
    for size in SIZES:
        if not np.array_equal(_read(path, size), whole):
            found.append(f"blocks of {size}")
    for skip in SKIPS:
        if not np.array_equal(_read(path, 5_000, skip), whole[skip:]):
            found.append(f"without the first {skip}")
    return found


def _read(path: Path, size: int, skip: int = 0) -> np.ndarray:
    source = FileSource(path)
    if skip:
        source.skip(skip)
    return np.concatenate([np.zeros((0, source.channels), np.float32), *source.blocks(size)])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    every = parser.parse_args().every
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="gtcrn-blocks-") as name:
        plain = Path(name, "x")
        both = [((plain, what) for what in written(plain))]
        if shutil.which("ffmpeg"):
            both.append(made(Path(name)))
        for path, what in itertools.islice(itertools.chain(*both), 0, None, every):
            try:
                found = differences(path)
            except UserError as error:
                found = [str(error)]
            if found is None:
                counts["not read by libsndfile"] += 1
                continue
            counts["the same" if not found else "different"] += 1
            if found:
                print(f"{what}: {', '.join(found)}", flush=True)
    print(", ".join(f"{count} {how}" for how, count in counts.items()))
    raise SystemExit(int(counts["different"] > 0))


if __name__ == "__main__":
    main()
