#!/usr/bin/env bash
# A lossless file of 24 bits that holds another sound than was written to it, without an error.
#
# Expected: ALAC gives back the samples that went in, whatever they are, as FLAC does.
# Seen: libsndfile writes stereo of 24 and 32 bits wrongly into ALAC where it cannot make it
# smaller, as with loud noise: every sample of one channel or both comes back as another. Speech, quiet
# noise and 16 bits are exact, and so the fault passes most tests: it takes a recording of wind, applause or
# static near to full scale.
# What to do: read back what was written as ALAC, or write FLAC or 24-bit PCM.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2), NumPy 2.2.6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
import soundfile

print("soundfile", version("soundfile"), soundfile.__libsndfile_version__)
rng = np.random.default_rng(0)
time = np.arange(48_000)[:, None]
tone = 0.9 * np.sin(time * [[0.03, 0.05]])
signals = {
    "tone near full scale": tone,
    "noise at -40 dB": rng.uniform(-0.01, 0.01, tone.shape),
    "noise near full scale": rng.uniform(-0.9, 0.9, tone.shape),
}
for subtype, bits in (("ALAC_16", 16), ("ALAC_24", 24), ("ALAC_32", 32), ("FLAC 24", 24)):
    for name, signal in signals.items():
        steps = np.rint(signal * (2 ** (bits - 1) - 1)).astype(np.int64) << (32 - bits)
        kind = ("PCM_24", "FLAC") if subtype == "FLAC 24" else (subtype, "CAF")
        soundfile.write("a", steps.astype(np.int32), 48_000, kind[0], format=kind[1])
        back = soundfile.read("a", dtype="int32")[0]
        wrong = float(np.mean(back != steps))
        print(f"{subtype}, {name}: {len(back)} samples, {wrong:.1%} of them others")
        assert len(back) == len(steps), "behaviour has changed"
        damaged = subtype in ("ALAC_24", "ALAC_32") and name == "noise near full scale"
        assert (wrong > 0.4) == damaged and (damaged or wrong == 0), "behaviour has changed"
PY
