"""What a batch of examples is to be made of, drawn without touching a sample.

`mixtures.mixture` makes an example on a CPU; a GPU makes hundreds in that time. So that it never
waits, the drawing of clips, levels and effects, which is all branches and little work, is done here
by the loader's processes, and `rendering` does on the GPU what takes work. Both follow a `Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..network.config import SAMPLE_RATE
from .corpora import Corpora, Corpus, Random
from .mixtures import LONGEST_GAP_S, SHORTEST_GAP_S
from .plan import TRAIN, Plan
from .recipe import Recipe

# Playing speeds, in twentieths: the lengths of their transforms have small factors.
SPEEDS = (1.0, 0.8, 0.85, 0.9, 0.95, 1.1, 1.15, 1.2, 1.25)
MADE_KINDS = ("coloured", "hum", "clicks", "bursts")


class Track(NamedTuple):
    """One source of sound in an example: a talker, or a recording of noise."""

    example: int
    noise: bool
    speed: int  # of `SPEEDS`
    gain_db: float


@dataclass
class Sketch:
    """A batch, as tables. Tensors throughout, so that a loader hands them on without a copy.

    Attributes
    ----------
    pieces
        int64 ``[pieces, 4]``: track, first sample in it, first sample in the corpus, length.
    tracks
        float64 ``[tracks, 4]``, as `Track`.
    made
        float64 ``[made noises, 3]``: example, kind (of `MADE_KINDS`), gain in dB.
    table, names
        What happens to each example: float32 ``[names, examples]``.
    seed
        Of all that is drawn where samples are made.
    """

    pieces: Tensor
    tracks: Tensor
    made: Tensor
    table: Tensor
    names: tuple[str, ...]
    seed: int
    length: int

    @property
    def values(self) -> dict[str, Tensor]:
        """What happens to each example, by name."""
        return dict(zip(self.names, self.table, strict=True))


class Drawing:
    """Draws the examples of a batch one after the other."""

    def __init__(self, corpora: Corpora, recipe: Recipe, length: int) -> None:
        self.corpora, self.recipe, self.length = corpora, recipe, length
        self.noise_offset = len(corpora.speech.samples)
        self.pieces: list[tuple[int, int, int, int]] = []
        self.tracks: list[Track] = []
        self.made: list[tuple[int, int, float]] = []
        self.rows: list[dict[str, float]] = []

    def example(self, random: Random) -> None:
        """Draw one more example."""
        recipe, number = self.recipe, len(self.rows)
        if recipe.plain and random.random() < recipe.plain:
            recipe = recipe.only(
                snr_db=recipe.plain_snr_db, level_db=recipe.plain_level_db, speed=recipe.speed
            )
        kind = random.random()
        noise_only = kind < recipe.noise_only
        nearly_clean = not noise_only and kind < recipe.noise_only + recipe.nearly_clean
        snr_db = random.uniform(*recipe.snr_db)
        if nearly_clean:
            quiet = random.random() < 0.5
            snr_db = 200.0 if quiet else random.uniform(*recipe.nearly_clean_db)
        speech = self.corpora.speech
        reply_db = 0.0
        if not noise_only:
            first = self.voice(number, speech, recipe, random, 0.0, 0, self.length)
            if random.random() < recipe.second_voice:
                self.voice(number, speech, recipe, random, random.uniform(-6, 6), 0, self.length)
            elif random.random() < recipe.quiet_reply:
                # Another one, farther away, answers: heard well above the noise, below the first.
                reply_db = random.uniform(*recipe.quiet_reply_db)
                begin = int(random.uniform(0.35, 0.65) * self.length)
                self.cut_short(first, begin)
                self.voice(number, speech, recipe, random, reply_db, begin, self.length)
                snr_db += -reply_db * random.uniform(0.6, 1.0)
        self.noises(number, recipe, random)

        def chance(share: float) -> float:
            return float(random.random() < share)

        room = chance(recipe.room)
        measured = room * chance(0.4) * bool(self.corpora.rooms)
        row = {
            "noise_only": float(noise_only),
            "nearly_clean": float(nearly_clean),
            "snr_db": snr_db,
            "room": room * (1 - measured),
            "measured_room": measured,
            "t60_s": random.uniform(0.08, 0.8),
            "whisper": chance(recipe.whisper) * (1 - noise_only),
            "voice_equaliser": chance(recipe.equaliser),
            "noise_equaliser": chance(recipe.equaliser),
            "microphone": chance(recipe.microphone) * bool(self.corpora.microphones),
            "lowpass_hz": float(random.choice([3_400, 4_000, 5_500, 7_000]))
            * chance(recipe.bandlimit),
            "highpass_hz": random.uniform(60, 300) * chance(recipe.bandlimit),
            "noise_step": chance(recipe.gain_step),
            "both_step": chance(recipe.gain_step),
            "level_db": random.uniform(*recipe.level_db),
            "clipping": chance(recipe.clipping),
            "codec": chance(recipe.codec),
        }
        if random.random() < recipe.far_away:
            row["level_db"] = random.uniform(*recipe.far_away_db)
        self.rows.append(row)

    def voice(
        self, example: int, corpus: Corpus, recipe: Recipe, random: Random, gain_db: float,
        begin: int, end: int, noise: bool = False,
    ) -> int:  # fmt: skip
        """Clips of one speaker with pauses between them, cut anywhere; returns the track."""
        speed = any_speed(recipe, random)
        track = self.track(example, noise, speed, gain_db)
        position, stop = (round(n * SPEEDS[speed]) for n in (begin, end))
        number = corpus.draw(random)
        length = int(corpus.lengths[number])
        cut = int(random.integers(max(1, length - self.length // 2)))
        if random.random() < 0.3:  # let some streams begin with silence
            position += int(random.uniform(0, 0.3) * (stop - position))
        while position < stop:
            taken = min(length - cut, stop - position)
            self.pieces.append((track, position, int(corpus.starts[number]) + cut, taken))
            gap_s = random.uniform(SHORTEST_GAP_S, LONGEST_GAP_S)
            position += taken + int(gap_s * SAMPLE_RATE)
            number = corpus.draw_beside(number, random)
            length, cut = int(corpus.lengths[number]), 0
        return track

    def cut_short(self, track: int, end: int) -> None:
        """Take away what a track has after a sample of the example."""
        end = round(end * SPEEDS[self.tracks[track].speed])
        self.pieces = [
            (t, at, source, min(length, end - at) if t == track else length)
            for t, at, source, length in self.pieces
            if t != track or at < end
        ]

    def noises(self, example: int, recipe: Recipe, random: Random) -> None:
        """One to three noises at once, each recorded or made."""
        shares = [1 - recipe.two_noises - recipe.three_noises]
        count = 1 + int(random.choice(3, p=[*shares, recipe.two_noises, recipe.three_noises]))
        for _ in range(count):
            kind, gain_db = random.random(), random.uniform(-10, 0)
            if kind < recipe.made_noise:
                made = random.choice([0, 0, 1, 2, 3])
                self.made.append((example, int(made), gain_db))
            elif kind < recipe.made_noise + recipe.babble:
                for _ in range(random.integers(4, 9)):
                    self.voice(
                        example, self.corpora.speech, recipe, random, gain_db - 8, 0, self.length,
                        noise=True,
                    )  # fmt: skip
            else:
                self.recorded(example, recipe, random, gain_db)

    def recorded(self, example: int, recipe: Recipe, random: Random, gain_db: float) -> None:
        """A cut of a recording; short ones (keys, clicks) are followed by others of their kind."""
        corpus, speed = self.corpora.noise, any_speed(recipe, random)
        track = self.track(example, True, speed, gain_db)
        end = round(self.length * SPEEDS[speed])
        number = corpus.draw(random)
        length = int(corpus.lengths[number])
        if length > end:
            cut = int(random.integers(length - end))
            offset = self.noise_offset + int(corpus.starts[number]) + cut
            self.pieces.append((track, 0, offset, end))
            return
        gap_s = random.choice([0.0, 0.0, 0.5, 2.0])
        position = -int(random.integers(max(1, length)))
        while position < end:
            skipped = max(0, -position)
            taken = min(length - skipped, end - max(position, 0))
            offset = self.noise_offset + int(corpus.starts[number]) + skipped
            self.pieces.append((track, max(position, 0), offset, taken))
            position += length + int(random.uniform(0, gap_s) * SAMPLE_RATE) + 1
            if random.random() < 0.8:
                number = corpus.draw_beside(number, random, same="sources")
                length = int(corpus.lengths[number])

    def track(self, *values: float) -> int:
        """Begin a track; returns its number."""
        self.tracks.append(Track(int(values[0]), bool(values[1]), int(values[2]), values[3]))
        return len(self.tracks) - 1

    def finish(self, seed: int) -> Sketch:
        """All that was drawn, as tensors."""
        names = tuple(self.rows[0])
        table = [[row[name] for row in self.rows] for name in names]
        return Sketch(
            torch.tensor(self.pieces, dtype=torch.int64).reshape(-1, 4),
            torch.tensor(self.tracks, dtype=torch.float64).reshape(-1, 4),
            torch.tensor(self.made, dtype=torch.float64).reshape(-1, 3),
            torch.tensor(table, dtype=torch.float32),
            names,
            seed,
            self.length,
        )


def any_speed(recipe: Recipe, random: Random) -> int:
    """One of `SPEEDS`, by its number, or 0: as it is."""
    if recipe.speed and random.random() < recipe.speed:
        return int(random.integers(1, len(SPEEDS)))
    return 0


def sketch(
    corpora: Corpora, recipe: Recipe, length: int, count: int, seed: Sequence[int]
) -> Sketch:
    """Draw `count` examples of `length` samples; the same arguments give the same ones."""
    random = np.random.default_rng(seed)
    drawing = Drawing(corpora, recipe, length)
    for _ in range(count):
        drawing.example(random)
    return drawing.finish(int(random.integers(2**62)))


@dataclass(frozen=True)
class Sketches(torch.utils.data.Dataset[Sketch]):
    """The sketch of each step's batch, drawn in the loader's own process."""

    corpora: Corpora
    recipe: Recipe
    plan: Plan
    rank: int = 0

    def __getitem__(self, step: int) -> Sketch:
        count, length = self.plan.segment(step)
        seed = (self.plan.seed, TRAIN, step, self.rank)
        return sketch(self.corpora, self.recipe, length, count, seed)
