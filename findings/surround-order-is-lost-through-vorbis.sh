#!/usr/bin/env bash
# The centre talker who moves to the right: six channels written to Ogg by soundfile, read by
# ffmpeg.
#
# Expected: channel 3 of a six-channel array is the centre in a WAV, and is it still in an Ogg
# Vorbis, Ogg Opus or ALAC file written from the same array.
# Seen: these codecs fix the order of speakers themselves (Vorbis and Opus: left, centre, right,
# surrounds, low frequencies; ALAC: centre, left, right, surrounds, low frequencies), and libsndfile
# stores the array's columns as they are. It reads them back as they were, so a round trip looks
# perfect; every player and ffmpeg put the centre's voice on the right and the right surround on the
# low-frequency speaker, whose band Vorbis and Opus cut in coding.
# What to do: reorder columns for these codecs, or keep more than two channels in WAV or FLAC.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2), imageio-ffmpeg 0.6.0 (ffmpeg 7.0.2).
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
print("libsndfile", soundfile.__libsndfile_version__, "ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
rate, tones_hz = 48_000, [300, 500, 900, 1300, 1700, 60]
time = np.arange(rate) / rate
written = np.stack([0.1 * np.sin(2 * np.pi * tone * time) for tone in tones_hz], 1)


def order(samples):
    """Which of the written channels each channel has."""
    spectra = np.abs(np.fft.rfft(samples, axis=0))[tones_hz]
    return (spectra.argmax(0) + 1).tolist()


expected = {
    ("WAVEX", "PCM_16"): [1, 2, 3, 4, 5, 6],
    ("FLAC", "PCM_16"): [1, 2, 3, 4, 5, 6],
    ("OGG", "VORBIS"): [1, 3, 2, 6, 4, 5],
    ("OGG", "OPUS"): [1, 3, 2, 6, 4, 5],
    ("CAF", "ALAC_16"): [2, 3, 1, 6, 4, 5],
}
for (container, codec), seen in expected.items():
    soundfile.write("in.sound", written, rate, format=container, subtype=codec)
    back, _ = soundfile.read("in.sound")
    command = [ffmpeg, "-loglevel", "error", "-y", "-i", "in.sound", "out.wav"]
    subprocess.run(command, check=True)
    played, _ = soundfile.read("out.wav")
    print(f"{container:5} {codec:8} soundfile reads {order(back)}, ffmpeg reads {order(played)}")
    assert order(back) == [1, 2, 3, 4, 5, 6]
    assert order(played) == seen, "the order has changed"
PY
