"""What the network does to sounds of many kinds, measured: level, hum, tones, rooms, codecs, ...

    python tools/behaviour.py gtcrn published=model_trained_on_dns3 > docs/behaviour.md

Each argument is a model that `gtcrn models` lists, or NAME=FILE. All sounds are made here, of the
five clean recordings in tests/data (which no model was trained on) and of numbers drawn by a fixed
seed. Needs the extra `train`; codecs need ffmpeg. Takes a minute for two models.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

from gtcrn_cli import Settings, enhance, load_engine, load_model
from gtcrn_cli.enhancement.engines import Engine
from gtcrn_cli.evaluation.measures import si_sdr_db, stoi_score
from gtcrn_cli.markdown import table
from gtcrn_cli.signals import lag
from gtcrn_cli.training.effects import active_level_db, at_level, made_room, reverberate, whispered

RATE = 16_000
DATA = Path(__file__).parent.parent / "tests" / "data"
HOUR_S = 3600

Mono = NDArray[np.float32]
Figure = Callable[[Mono], float]  # of what came out


@dataclass(frozen=True)
class Case:
    """A sound, and the figure that is taken of what comes out of it.

    Attributes
    ----------
    unit
        What the figure is; the column "before" has that of the sound itself.
    """

    name: str
    unit: str
    sound: Mono
    figure: Figure


def speech() -> Mono:
    """The five clean recordings with half a second of silence between, at -26 dB full scale."""
    pause = np.zeros(RATE // 2, np.float32)
    parts = [pause]
    for path in sorted(DATA.glob("clean-*.flac")):
        parts += [soundfile.read(path, dtype="float32")[0], pause]
    return at_level(np.concatenate(parts), -26.0)


def random() -> np.random.Generator:
    """The same numbers for every case."""
    return np.random.default_rng(20_260_101)


def pink(length: int) -> Mono:
    """Noise with as much power in each octave."""
    spectrum = np.fft.rfft(random().standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(length, 1 / RATE), 20))
    return at_level(np.fft.irfft(spectrum, length).astype(np.float32), -26.0)


def in_noise(clean: Mono, snr_db: float) -> Mono:
    """With pink noise that much below the active level of the speech."""
    return clean + at_level(pink(len(clean)), active_level_db(clean) - snr_db)


def tones(length: int, *frequencies_hz: float) -> Mono:
    """Held tones at -26 dB full scale, with soft ends."""
    time_s = np.arange(length) / RATE
    sound = sum(np.sin(2 * np.pi * f * time_s) for f in frequencies_hz)
    return at_level((sound * signal.windows.tukey(length, 0.05)).astype(np.float32), -26.0)


def bursts(length: int, every_s: float, lasting_s: float, shape: Callable[[int], Mono]) -> Mono:
    """A short sound again and again, peaks at 0.5."""
    sound = np.zeros(length, np.float32)
    one = shape(round(lasting_s * RATE))
    one *= 0.5 / np.abs(one).max()
    for start in range(RATE // 2, length - len(one), round(every_s * RATE)):
        sound[start : start + len(one)] += one
    return sound


def clap(length: int) -> Mono:
    """A burst of noise that falls by 60 dB."""
    fall = 10 ** (-3 * np.arange(length) / length)
    return (random().standard_normal(length) * fall).astype(np.float32)


def cough(length: int) -> Mono:
    """Noise through the resonances of a vowel, quick to rise and slow to fall."""
    noise = random().standard_normal(length)
    for centre_hz in (700.0, 1400.0, 2600.0):
        b, a = signal.iirpeak(centre_hz, 3.0, fs=RATE)
        noise = noise + 3 * signal.lfilter(b, a, noise)
    rise = np.minimum(1, np.arange(length) / (0.02 * RATE))
    return (noise * rise * np.exp(-4 * np.arange(length) / length)).astype(np.float32)


def laugh(length: int) -> Mono:
    """Five voiced bursts a second, falling in pitch, through the resonances of a vowel."""
    time_s = np.arange(length) / RATE
    phase = np.cumsum(260 - 40 * time_s) / RATE
    voice = signal.sawtooth(2 * np.pi * phase)
    for centre_hz in (800.0, 1300.0, 2600.0):
        b, a = signal.iirpeak(centre_hz, 4.0, fs=RATE)
        voice = voice + 3 * signal.lfilter(b, a, voice)
    gate = np.clip(1.5 * np.sin(2 * np.pi * 5 * time_s), 0, 1)
    return (voice * gate).astype(np.float32)


def through_ffmpeg(sound: Mono, name: str, *encoder: str) -> Mono:
    """What a codec leaves, as long as before and aligned with it."""
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (Path(folder, n) for n in ("in.wav", name, "out.wav"))
        soundfile.write(source, sound, RATE, "FLOAT")
        run = ["ffmpeg", "-v", "error", "-y", "-i"]
        subprocess.run([*run, source, *encoder, coded], check=True)
        subprocess.run([*run, coded, "-ar", str(RATE), back], check=True)
        decoded = soundfile.read(back, dtype="float32")[0]
    decoded = decoded[max(0, lag(decoded, sound, RATE)) :]
    return np.pad(decoded, (0, max(0, len(sound) - len(decoded))))[: len(sound)]


def level_of(part: slice = slice(None)) -> Figure:
    """Root mean square in dB full scale."""
    return lambda out: float(10 * np.log10(np.mean(np.square(out[part], dtype=float)) + 1e-12))


def si_sdr(target: Mono, part: slice = slice(None)) -> Figure:
    """SI-SDR against a target."""
    return lambda out: si_sdr_db(out[part], target[part])


def stoi(target: Mono) -> Figure:
    """STOI against a target."""
    return lambda out: stoi_score(out, target)


def cases() -> list[Case]:
    """All of them, in the order of the table."""
    clean = speech()
    noisy = in_noise(clean, 10)
    length = len(clean)
    found = [Case("speech at 10 dB SNR", "SI-SDR dB", noisy, si_sdr(clean))]

    for peak_db in (-70, -60, -50, -40, -20, 0, 10):
        gain = np.float32(10 ** (peak_db / 20) / np.abs(noisy).max())
        name = f"the same, peaks at {peak_db:+d} dB full scale"
        found.append(Case(name, "SI-SDR dB", noisy * gain, si_sdr(clean * gain)))

    offset = noisy + np.float32(0.1)
    found.append(Case("the same with an offset of 0.1", "SI-SDR dB", offset, si_sdr(clean)))
    mean_db: Figure = lambda out: float(20 * np.log10(abs(out.mean()) + 1e-9))  # noqa: E731
    found.append(Case("the offset itself", "dB full scale", offset, mean_db))

    hum = sum(tones(length, 50.0 * n) / np.float32(n) for n in (1, 2, 3, 4, 5, 6))
    hum = at_level(np.asarray(hum, np.float32), active_level_db(clean) - 10)
    found.append(Case("speech with 50 Hz hum, 10 dB SNR", "SI-SDR dB", clean + hum, si_sdr(clean)))

    seconds = 8 * RATE
    held = slice(RATE, -RATE // 2)
    alone = {
        "silence": np.zeros(seconds, np.float32),
        "white noise alone": at_level(random().standard_normal(seconds).astype("f4"), -26.0),
        "pink noise alone": pink(seconds),
        "hum alone": hum[:seconds],
        "a held tone, 440 Hz": tones(seconds, 440),
        "a held chord": tones(seconds, 261.6, 329.6, 392.0, 523.3),
        "a whistle that glides, 1-2 kHz": at_level(
            signal.chirp(np.arange(seconds) / RATE, 1000, 4, 2000).astype("f4"), -26.0
        ),
        "laughter (made)": bursts(seconds, 2.5, 1.5, laugh),
        "coughs (made)": bursts(seconds, 1.5, 0.4, cough),
        "claps": bursts(seconds, 0.8, 0.12, clap),
    }
    for name, sound in alone.items():
        found.append(Case(name, "level, dB", sound, level_of(held)))

    second = np.roll(clean, length // 2)
    both = clean + second
    found.append(
        Case("two talkers at once, 10 dB SNR", "SI-SDR dB", in_noise(both, 10), si_sdr(both))
    )
    for step_db in (15, 25):
        reply = np.concatenate([clean, clean * np.float32(10 ** (-step_db / 20))])
        found.append(
            Case(
                f"a voice {step_db} dB below the one before it, at 10 dB SNR of its own",
                "SI-SDR dB",
                reply + at_level(pink(2 * length), active_level_db(clean) - step_db - 10),
                si_sdr(reply, slice(length, None)),
            )
        )
    whisper = at_level(whispered(clean, random()), -40.0)
    found.append(
        Case("whispering (made), 10 dB SNR", "SI-SDR dB", in_noise(whisper, 10), si_sdr(whisper))
    )
    for t60_s in (0.3, 0.6, 1.0, 1.5):
        room = reverberate(clean, made_room(t60_s, random()))
        found.append(
            Case(
                f"a room, RT60 {t60_s} s, 10 dB SNR", "SI-SDR dB", in_noise(room, 10), si_sdr(room)
            )
        )
    chords = [tones(RATE, *np.array(c)) for c in ([220, 277.2, 329.6], [196, 246.9, 293.7])]
    music = np.tile(np.concatenate(chords), length // len(np.concatenate(chords)) + 1)[:length]
    under = clean + at_level(music.astype(np.float32), active_level_db(clean) - 10)
    found.append(Case("speech over held chords, 10 dB", "SI-SDR dB", under, si_sdr(clean)))

    codecs = {
        "Opus at 8 kbit/s": ("x.opus", "-c:a", "libopus", "-b:a", "8k"),
        "GSM 06.10, 8 kHz": ("x.wav", "-c:a", "libgsm_ms", "-ar", "8000"),
        "mu-law, 8 kHz": ("x.wav", "-c:a", "pcm_mulaw", "-ar", "8000"),
    }
    for name, (file, *encoder) in codecs.items():
        sound = through_ffmpeg(noisy, file, *encoder)
        found.append(Case(f"speech at 10 dB SNR through {name}", "STOI", sound, stoi(clean)))
    lost = random().random(length // 320 + 1) < 0.1
    mask = np.repeat(~lost, 320)[:length].astype(np.float32)
    found.append(Case("the same, every tenth 20 ms lost", "STOI", noisy * mask, stoi(clean)))
    for share in (0.3, 0.15):
        limit = np.float32(share * np.abs(noisy).max())
        sound = np.clip(noisy, -limit, limit)
        found.append(Case(f"the same, clipped at {share} of the peak", "STOI", sound, stoi(clean)))
    return found


def drift_db(engine: Engine) -> float:
    """By how much the level of the last minute of an hour is above that of its second minute."""
    minute = np.resize(in_noise(speech(), 10), 60 * RATE)
    out = enhance(np.tile(minute, HOUR_S // 60), RATE, engine=engine, settings=Settings())
    second, last = (level_of(slice(at * 60 * RATE, (at + 1) * 60 * RATE))(out) for at in (1, 59))
    return last - second


def main() -> None:
    """Print the page."""
    names, engines = [], []
    for argument in sys.argv[1:] or ["gtcrn"]:
        name, _, file = argument.partition("=")
        names.append(name)
        engines.append(load_engine(load_model(file or name)))
    rows = []
    for case in cases():
        digits = 2 if case.unit == "STOI" else 1
        outs = [case.sound, *(enhance(case.sound, RATE, engine=engine) for engine in engines)]
        figures = [f"{case.figure(out):.{digits}f}" for out in outs]
        rows.append([case.name, case.unit, *figures])
        print(" | ".join(rows[-1]), file=sys.stderr)
    drifts = [f"{drift_db(engine):+.2f}" for engine in engines]
    rows.append(["an hour: level of its last minute against its second minute", "dB", "0", *drifts])
    print("# Behaviour\n")
    print(
        "What the network does to sounds of many kinds, at 16 kHz, full strength. SI-SDR and STOI"
    )
    print("are against the speech alone; higher is better. Levels are root mean squares in dB full")
    print("scale, without the first second: for what is no speech, lower means more removed.\n")
    print(f"```sh\npython tools/behaviour.py {' '.join(sys.argv[1:])} > docs/behaviour.md\n```\n")
    print(table(["sound", "figure", "before", *names], rows))


if __name__ == "__main__":
    main()
