#!/usr/bin/env bash
# The same mixdown at two levels: `ffmpeg -ac 1` to 16 bit and to float.
#
# Expected: the level of a mixdown depends on the channels, not on the sample format of the output
# file; two equal channels give the same mono either way, and never more than full scale.
# Seen: the coefficients are scaled down to sum to 1 only where the output is of integers. Into a
# float WAV two equal channels come out 3 dB hotter than they went in, and 5.1 into mono more than
# 10 dB, so that sound that was at full scale clips in the next integer step. A recording
# "converted to 16 kHz mono" for a network thus differs by 3 dB between a `pcm_s16le` and a
# `pcm_f32le` pipeline.
# What to do: mix by hand (`-af "pan=mono|c0=0.5*c0+0.5*c1"`), or set `-rematrix_maxval 1`.
#
# Seen with imageio-ffmpeg 0.6.0 (ffmpeg 7.0.2), soundfile 0.14.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    imageio-ffmpeg==0.6.0 soundfile==0.14.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
import subprocess

import imageio_ffmpeg
import numpy as np
import soundfile

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
print("ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
rate = 48_000
tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
change_db = {}
for channels in (2, 6):
    soundfile.write("in.wav", np.repeat(tone[:, None], channels, 1), rate, subtype="PCM_16")
    for codec, extra in (
        ("pcm_s16le", []),
        ("pcm_f32le", []),
        ("pcm_f32le", ["-rematrix_maxval", "1"]),
    ):
        command = [ffmpeg, "-loglevel", "error", "-y", "-i", "in.wav", "-ac", "1", *extra]
        subprocess.run([*command, "-c:a", codec, "out.wav"], check=True)
        mono, _ = soundfile.read("out.wav")
        change = 20 * np.log10(np.std(mono) / np.std(tone))
        change_db[channels, codec, bool(extra)] = change
        print(f"{channels} equal channels -> mono, {codec} {' '.join(extra):18} {change:+.2f} dB")
for channels, hotter_db in ((2, 3.01), (6, 10.68)):
    assert abs(change_db[channels, "pcm_s16le", False]) < 0.05
    assert abs(change_db[channels, "pcm_f32le", False] - hotter_db) < 0.05, "levels have changed"
    assert abs(change_db[channels, "pcm_f32le", True]) < 0.05
PY
