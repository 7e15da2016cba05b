#!/usr/bin/env bash
# A denoiser at strength zero that still filters: noisereduce with `prop_decrease=0`.
#
# Expected: `prop_decrease=0` ("reduce by nothing") gives the input back, in both modes.
# Seen: the non-stationary mode does (to 1e-12). The stationary mode smooths the mask after it has
# set the strength, with zeros beyond both ends of the spectrum, so that the lowest and the
# highest bins lose several dB at any strength: a 31 Hz tone more than 3 dB, a 1 kHz tone nothing.
# The hum in a recording seems removed when nothing has been.
# What to do: for a dry/wet control mix the input and the output at full strength yourself, and
# compare low and high frequencies against the input before crediting the denoiser.
#
# Seen with noisereduce 3.0.3, NumPy 2.2.6, SciPy 1.15.3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    noisereduce==3.0.3 numpy==2.2.6 scipy==1.15.3
cd "$folder"
venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import noisereduce
import numpy as np

print("noisereduce", version("noisereduce"))
rate = 16_000
time = np.arange(4 * rate) / rate
middle = slice(rate, 3 * rate)
gains_db = {}
for stationary in (True, False):
    for tone_hz in (31.25, 1000, 7968.75):
        tone = 0.1 * np.sin(2 * np.pi * tone_hz * time)
        same = noisereduce.reduce_noise(y=tone, sr=rate, stationary=stationary, prop_decrease=0)
        gain_db = 20 * np.log10(np.std(same[middle]) / np.std(tone[middle]))
        gains_db[stationary, tone_hz] = gain_db
        print(f"stationary={stationary!s:5} prop_decrease=0 {tone_hz:8.2f} Hz: {gain_db:+.2f} dB")
assert gains_db[True, 31.25] < -1.5 and gains_db[True, 7968.75] < -1.5, "edges are now kept"
assert abs(gains_db[True, 1000]) < 0.01
assert all(abs(gains_db[False, tone]) < 1e-6 for tone in (31.25, 1000, 7968.75))
PY
