"""What a model does in the situations that are hard for it, as a table in Markdown.

    python tools/situations.py --model gtcrn --model gtcrn-plain

Each recording of speech meets three noises in turn; SI-SDR (dB) and STOI are means over all, of the
noisy recordings and of what each model makes of them. Everything is the same in every run.
Without --speech and --noise it takes the recordings of the tests and the held-out noises that
come with the package. A .tar is taken for a published checkpoint.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import gtcrn_cli
from gtcrn_cli.enhancement.engines import Engine, load_engine
from gtcrn_cli.evaluation.measures import si_sdr_db, stoi_score
from gtcrn_cli.evaluation.recordings import Mono, audio_files, read_mono
from gtcrn_cli.markdown import table
from gtcrn_cli.network.checkpoint import Checkpoint, load_model
from gtcrn_cli.network.config import SAMPLE_RATE
from gtcrn_cli.network.importing import import_model
from gtcrn_cli.training.clips import list_clips, rehearsal
from gtcrn_cli.training.corpora import load_corpus
from gtcrn_cli.training.effects import active_level_db, at_level, db_to_gain, whispered

LEVEL_DB = -26.0  # of the speech, where nothing else is said
NOISES = 3  # that each recording of speech meets
Example = tuple[Mono, Mono, int]  # noisy, clean, and from which sample on both are compared
Situation = Callable[[Mono, Mono, Mono, int], Example]  # of speech, other speech, noise, seed


def at_snr(speech: Mono, noise: Mono, snr_db: float) -> Mono:
    """Speech and noise together; the SNR is that of the stretches with speech."""
    noise = np.resize(noise, len(speech))
    return (speech + at_level(noise, active_level_db(speech) - snr_db)).astype(np.float32)


def at_active_level(speech: Mono, level_db: float) -> Mono:
    """Speech whose stretches with speech have this RMS."""
    return speech * np.float32(db_to_gain(level_db - active_level_db(speech)))


def plain(snr_db: float, level_db: float = LEVEL_DB) -> Situation:
    """Nothing but noise."""

    def example(speech: Mono, other: Mono, noise: Mono, seed: int) -> Example:
        clean = at_active_level(speech, level_db)
        return at_snr(clean, noise, snr_db), clean, 0

    return example


def reply(softer_db: float) -> Situation:
    """After a voice another one, so much softer, 10 dB above the noise: that one is compared."""

    def example(speech: Mono, other: Mono, noise: Mono, seed: int) -> Example:
        first = at_active_level(other, LEVEL_DB)
        second = at_active_level(speech, LEVEL_DB - softer_db)
        clean = np.concatenate([first, second])
        noise = at_level(np.resize(noise, len(clean)), LEVEL_DB - softer_db - 10)
        return (clean + noise).astype(np.float32), clean, len(first)

    return example


def whisper(speech: Mono, other: Mono, noise: Mono, seed: int) -> Example:
    """The speech without a voice, 10 dB above the noise."""
    breath = whispered(speech, np.random.default_rng(seed))
    clean = at_active_level(breath, LEVEL_DB)
    return at_snr(clean, noise, 10), clean, 0


def clipped(speech: Mono, other: Mono, noise: Mono, seed: int) -> Example:
    """10 dB above the noise, and cut off at 0.15 of the peak: the clean part is spared that."""
    noisy, clean, start = plain(10)(speech, other, noise, seed)
    limit = 0.15 * np.abs(noisy).max()
    return np.clip(noisy, -limit, limit), clean, start


SITUATIONS: dict[str, Situation] = {
    "5 dB SNR": plain(5),
    "0 dB SNR": plain(0),
    "-5 dB SNR": plain(-5),
    "5 dB SNR, speech at -61 dBFS": plain(5, -61),
    "5 dB SNR, speech at -66 dBFS": plain(5, -66),
    "a reply 25 dB softer than the first voice": reply(25),
    "a reply 30 dB softer than the first voice": reply(30),
    "whispered": whisper,
    "clipped at 0.15 of the peak": clipped,
}


def examples(
    situation: Situation, speech: list[Mono], noises: list[Mono], turns: int = NOISES
) -> Iterator[Example]:
    """Each recording of speech with so many noises, the one after it as the other voice."""
    for number, clip in enumerate(speech):
        other = speech[(number + 1) % len(speech)]
        for turn in range(turns):
            noise = noises[(number * NOISES + turn) % len(noises)]
            yield situation(clip, other, noise, number)


def scores(engine: Engine | None, some: list[Example]) -> tuple[float, float]:
    """Mean SI-SDR in dB and mean STOI; of the noisy ones themselves without an engine."""
    found = []
    for noisy, clean, start in some:
        heard = noisy if engine is None else gtcrn_cli.enhance(noisy, SAMPLE_RATE, engine)
        heard, meant = heard[start:], clean[start:]
        found.append((si_sdr_db(heard, meant), stoi_score(heard, meant)))
    si_sdr, stoi = np.mean(found, axis=0)
    return float(si_sdr), float(stoi)


def recordings(speech: Path | None, noise: Path | None) -> tuple[list[Mono], list[Mono]]:
    """All speech of a folder and the noises to go with it, or those that come with the code."""
    data = Path(__file__).parent.parent / "tests" / "data"
    voices = [read_mono(file) for file in audio_files(speech or data)]
    if noise is not None:
        return voices, [read_mono(file) for file in audio_files(noise)]
    held_out = [clip for clip in list_clips(rehearsal("noise"), "noise") if clip.valid]
    with tempfile.TemporaryDirectory() as cache:
        corpus = load_corpus(held_out, Path(cache), lambda line: None)
        return voices, [corpus.clip(number) for number in range(len(corpus))]


def checkpoint(name: str) -> Checkpoint:
    """A model by its name or file, or a checkpoint as it was published."""
    if name.endswith(".tar"):
        return import_model(Path(name))
    return load_model(name)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", metavar="NAME|FILE", help="gtcrn without it")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise, one kind a file")
    given = parser.parse_args()
    models = given.model or ["gtcrn"]
    engines = [None, *(load_engine(checkpoint(name), "native") for name in models)]
    speech, noises = recordings(given.speech, given.noise)
    rows = []
    for name, situation in SITUATIONS.items():
        some = list(examples(situation, speech, noises))
        found = [scores(engine, some) for engine in engines]
        rows.append([name, *(f"{si_sdr:.1f}, {stoi:.3f}" for si_sdr, stoi in found)])
    print(table(["SI-SDR dB, STOI", "noisy", *(Path(name).stem for name in models)], rows))


if __name__ == "__main__":
    main()
