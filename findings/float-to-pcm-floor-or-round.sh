#!/usr/bin/env bash
# Floats written as 16-bit PCM by python-soundfile: FLAC gets the nearest step, WAV the step below.
#
# One expects a library to turn a float into an integer in one way, whatever the container: by rounding.
# With clipping switched on, as python-soundfile has it, libsndfile rounds for FLAC; for WAV, AIFF and CAF
# it scales to 32 bits and drops the lower ones. So a WAV is half a step too low on average (a DC
# offset of -96 dB), its quantisation error has four times the power, and the same array written
# to both formats reads back as two different recordings.
#
# What to do: scale and round by yourself, and write int16 (or, for 24 bits, int32 whose upper bits are used).
#
# Seen with soundfile 0.13.1 (libsndfile 1.2.2) and numpy 2.2.6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__, "numpy", np.__version__)
steps = np.random.default_rng(0).uniform(-20_000, 20_000, 50_000)  # in 16-bit steps
seen = {}
for name in ("WAV", "AIFF", "CAF", "FLAC"):
    file = io.BytesIO()
    soundfile.write(file, (steps / 32768).astype(np.float32), 48_000, "PCM_16", format=name)
    file.seek(0)
    written = soundfile.read(file, dtype="int16")[0]
    error = written - steps
    kind = "nearest" if np.abs(error).max() < 0.51 else "below" if error.max() < 0.01 else "other"
    seen[name] = kind
    print(f"{name}: mean error {error.mean():+.3f} steps, power {np.mean(error**2):.4f}: {kind}")
sys.exit(seen != {"WAV": "below", "AIFF": "below", "CAF": "below", "FLAC": "nearest"})
PYTHON
echo "as described"
