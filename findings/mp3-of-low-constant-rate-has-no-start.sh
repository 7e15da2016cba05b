#!/usr/bin/env bash
# A smaller MP3 starts later: at low constant bit rates soundfile's MP3s have no delay in them.
#
# Expected: an MP3 that soundfile writes reads back as it was, in time and as long, at any bit rate.
# Seen: it does at variable and average bit rates. At a constant one whose frames are too small for
# the LAME tag (16 kbit/s at 8 kHz, 32 kbit/s at 16 kHz) the tag is left out without a word, and
# with it delay and length: read back by the same library, the sound is 1105 samples late (138 ms
# at 8 kHz) and as much and its padding longer.
# What to do: `bitrate_mode="AVERAGE"` for what has fewer than about 190 bytes in a frame.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
import numpy as np
import soundfile

print("soundfile", soundfile.__version__, "libsndfile", soundfile.__libsndfile_version__)
length = 20_000
sound = np.zeros(length)
noise = np.random.default_rng(0).standard_normal(3_000)
sound[8_000:11_000] = np.convolve(noise, np.ones(8) / 24, "same")
seen = {}
for rate, level in ((8_000, 0.9), (16_000, 0.85)):
    for mode in ("CONSTANT", "AVERAGE"):
        how = dict(compression_level=level, bitrate_mode=mode)
        soundfile.write("sound.mp3", sound, rate, **how)
        samples = soundfile.read("sound.mp3")[0]
        late = int(np.correlate(samples[4_000:16_000], sound[8_000:11_000], "valid").argmax())
        seen[rate, mode] = late - 4_000, len(samples) - length
        print(f"{rate} Hz {mode}: {late - 4_000} late, {len(samples) - length} longer")
for (rate, mode), (late, longer) in seen.items():
    assert (late == 1_105 and longer >= 1_105) if mode == "CONSTANT" else (late, longer) == (0, 0)
PY
