"""Pairs of noisy and clean speech at one SNR, whole utterances, for `gtcrn evaluate`.

    python tools/pairs.py at-0-db --speech speech.tsv --noise noise.tsv --snr 0 --source NAME

Each held-out clip of speech in turn, with one held-out recording of noise, which is drawn by the
seed and the clip's number alone: the same at every SNR, so that runs compare. The SNR is that of
the stretches with speech; speech has -26 dB full scale, less where the sum would clip.
With --join the pairs follow each other in recordings of nearly 30 s, which is what Whisper hears
at once: it is then done in less than half the time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from gtcrn_cli.evaluation.recordings import Mono
from gtcrn_cli.network.config import SAMPLE_RATE
from gtcrn_cli.paths import require_free
from gtcrn_cli.training.clips import list_clips
from gtcrn_cli.training.corpora import Corpus, load_corpus
from gtcrn_cli.training.effects import active_level_db, at_level
from gtcrn_cli.training.mixtures import recorded_noise

LEVEL_DB = -26.0
JOINED_S = 29.9
Pair = tuple[Mono, Mono]  # noisy, clean


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--speech", type=Path, required=True, help="a folder, or an index of clips")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--snr", type=float, required=True, metavar="DB")
    parser.add_argument("--source", action="append", help="of the speech; all without it")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--join", action="store_true", help="recordings of nearly 30 s")
    options = parser.parse_args()

    held_out = [clip for clip in list_clips(options.speech, "speech") if clip.valid]
    if options.source:
        held_out = [clip for clip in held_out if clip.source in options.source]
    speech = load_corpus(held_out)
    noise = load_corpus([clip for clip in list_clips(options.noise, "noise") if clip.valid])
    for kind in ("noisy", "clean"):
        (options.target / kind).mkdir(parents=True, exist_ok=True)
    recording: list[Pair] = []
    written = 0
    for number in range(min(options.count, len(speech))):
        pair = mixed(speech.clip(number), noise, options.snr, (options.seed, number))
        length = sum(len(noisy) for noisy, _ in [*recording, pair])
        if recording and (not options.join or length > JOINED_S * SAMPLE_RATE):
            write(recording, options.target, f"{written:04d}.wav")
            recording, written = [], written + 1
        recording.append(pair)
    if recording:
        write(recording, options.target, f"{written:04d}.wav")


def mixed(clean: Mono, noise: Corpus, snr_db: float, seed: tuple[int, int]) -> Pair:
    """An utterance with and without noise."""
    clean = at_level(clean, LEVEL_DB)
    sound = recorded_noise(noise, len(clean), np.random.default_rng(seed))
    noisy = clean + at_level(sound, active_level_db(clean) - snr_db)
    loudest = max(1.0, float(np.abs(noisy).max()))
    return noisy / loudest, clean / loudest


def write(pairs: list[Pair], folder: Path, name: str) -> None:
    """The pairs one after the other."""
    for kind, signals in zip(("noisy", "clean"), zip(*pairs, strict=True), strict=True):
        path = folder / kind / name
        require_free(path, overwrite=False)
        soundfile.write(path, np.concatenate(signals), SAMPLE_RATE, "PCM_24")


if __name__ == "__main__":
    main()
