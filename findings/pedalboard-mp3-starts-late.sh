#!/usr/bin/env bash
# One MP3, two beginnings: pedalboard keeps the encoder's delay that other readers take off.
#
# Expected: readers agree where an MP3 begins, since the file's LAME tag says how many samples its
# encoder put before and after the sound.
# Seen: soundfile, PyAV and miniaudio give the sound where it was, to the sample, and its length.
# pedalboard's `AudioFile` gives 1105 samples more at the front (25 ms at 44.1 kHz, 69 ms at 16
# kHz) and padding at the end. A noisy MP3 read by one and its clean twin by another are out of
# step by more than a whole pitch period, and SI-SDR and STOI of the pair collapse.
# What to do: read all files of a comparison by one library, or convert MP3 to WAV once.
#
# Seen with pedalboard 0.9.26, soundfile 0.14.0 (libsndfile 1.2.2), av 16.0.1, miniaudio 1.71.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pedalboard==0.9.26 soundfile==0.14.0 av==16.0.1 miniaudio==1.71 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import av
import miniaudio
import numpy as np
import soundfile
from pedalboard.io import AudioFile

print({name: version(name) for name in ("pedalboard", "soundfile", "av", "miniaudio")})
rate = 44_100
random = np.random.default_rng(0)
mark = np.convolve(random.standard_normal(3000), np.ones(8) / 8)[:3000]  # a burst below 3 kHz
sound = np.zeros(2 * rate)
sound[20_000:23_000] = 0.5 * mark / np.abs(mark).max()
soundfile.write("sound.mp3", sound, rate, format="MP3")


def by_soundfile():
    return soundfile.read("sound.mp3")[0]


def by_av():
    with av.open("sound.mp3") as container:
        return np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])


def by_miniaudio():
    return np.array(miniaudio.decode_file("sound.mp3", nchannels=1, sample_rate=rate).samples)


def by_pedalboard():
    with AudioFile("sound.mp3") as file:
        return file.read(file.frames)[0]


for read, late, longer in (
    (by_soundfile, 0, 0),
    (by_av, 0, 0),
    (by_miniaudio, 0, 0),
    (by_pedalboard, 1105, 1656),
):
    samples = read().astype(float)
    match = np.correlate(samples[15_000:30_000], sound[20_000:23_000], "valid")
    start = int(match.argmax()) + 15_000 - 20_000
    print(f"{read.__name__:14} starts {start} late, is {len(samples) - len(sound)} longer")
    assert (start, len(samples) - len(sound)) == (late, longer), "alignment has changed"
PY
