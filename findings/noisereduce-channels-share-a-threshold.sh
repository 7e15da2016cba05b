#!/usr/bin/env bash
# A loud channel that erases a quiet one: noisereduce, stationary mode, two channels.
#
# Expected: channels are treated each by itself, so a talker comes out the same whether a second
# microphone is in the file or not.
# Seen: in the stationary mode the noise threshold is taken from all channels laid together; a
# talker 40 dB below the other channel's sound is removed wholly, though alone in a file the same
# sound is kept. The non-stationary mode gives the same result either way.
# What to do: call it once for each channel.
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
time = np.arange(6 * rate) / rate
random = np.random.default_rng(0)
syllables = np.clip(np.sin(2 * np.pi * time), 0, 1) ** 4
voice = syllables * sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
quiet = 0.002 * voice + 1e-5 * random.standard_normal(len(time))
loud = 0.2 * random.standard_normal(len(time))
kept_db = {}
for stationary in (True, False):
    alone = noisereduce.reduce_noise(y=quiet, sr=rate, stationary=stationary)
    beside = noisereduce.reduce_noise(y=np.stack([loud, quiet]), sr=rate, stationary=stationary)[1]
    for name, enhanced in (("alone", alone), ("beside a loud channel", beside)):
        level_db = 20 * np.log10(np.std(enhanced) / np.std(quiet) + 1e-9)
        kept_db[stationary, name] = level_db
        print(f"stationary={stationary!s:5} {name:22} {level_db:+7.1f} dB")
assert kept_db[True, "alone"] > -6
assert kept_db[True, "beside a loud channel"] < -30, "channels no longer share a threshold"
assert abs(kept_db[False, "alone"] - kept_db[False, "beside a loud channel"]) < 0.1
PY
