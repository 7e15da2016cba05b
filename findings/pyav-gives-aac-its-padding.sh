#!/usr/bin/env bash
# One library, two sounds: AAC read by PyAV has samples that the ffmpeg command leaves out.
#
# Expected: PyAV, which is ffmpeg's own libraries, gives the samples that the `ffmpeg` command
# gives.
# Seen: in an M4A the edit list says where the sound begins and how long it is. Both leave out the
# encoder's samples before it; the command also cuts the last AAC frame where the sound ends, and
# PyAV hands that frame out whole: 888 samples of decay that were never recorded. In a Matroska
# file the 1024 samples before the sound have a time below zero; the command drops what comes
# before zero, PyAV hands it out, so the sound starts 23 ms late and is longer at both ends.
# What to do: drop what has a time below zero (`frame.pts * frame.time_base < 0`), and keep
# `round(stream.duration * stream.time_base * rate)` samples where the stream tells its duration.
#
# Seen with av 16.0.1, imageio-ffmpeg 0.8.1 (ffmpeg 9.0.2), soundfile 0.14.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    av==16.0.1 imageio-ffmpeg==0.8.1 soundfile==0.14.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
import subprocess
from importlib.metadata import version

import av
import imageio_ffmpeg
import numpy as np
import soundfile

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
print("av", version("av"), "ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
rate, length = 44_100, 88_200
sound = np.zeros(length)
noise = np.random.default_rng(0).standard_normal(3_000)
sound[20_000:23_000] = np.convolve(noise, np.ones(8) / 24, "same")
soundfile.write("in.wav", sound, rate)


def late_and_longer(samples):
    match = np.correlate(samples[15_000:30_000], sound[20_000:23_000], "valid")
    return int(match.argmax()) - 5_000, len(samples) - length


for name, by_command, by_av in (
    ("sound.m4a", (0, 0), (0, 888)),
    ("sound.mka", (0, 888), (1024, 1912)),
):
    run = [ffmpeg, "-loglevel", "error", "-y", "-i"]
    subprocess.run([*run, "in.wav", "-c:a", "aac", name], check=True)
    subprocess.run([*run, name, "out.wav"], check=True)
    with av.open(name) as container:
        frames = list(container.decode(audio=0))
        stream = container.streams.audio[0]
        if stream.duration:
            print("duration in the file:", round(stream.duration * stream.time_base * rate))
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    seen = late_and_longer(soundfile.read("out.wav")[0]), late_and_longer(samples)
    print(f"{name} (samples late, samples longer): the command {seen[0]}, PyAV {seen[1]}")
    assert seen == (by_command, by_av), "alignment has changed"
PY
