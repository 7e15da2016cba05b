#!/usr/bin/env bash
# A VOC file that grows by one sample each time it is read and written.
#
# Expected: a recording that is read and written again has the samples that it had.
# Seen: of Creative VOC files with one channel of mu-law or A-law, libsndfile gives one sample too
# many: the byte that ends the file is read as sound, of mu-law a click at full scale. Written again,
# it is one more. 16 bits and two channels are exact. Whoever cuts recordings of telephone systems into frames, or compares a copy
# with its original, finds them apart.
# What to do: write such recordings as WAV or AU, which keep their length; or cut the last sample
# off what is read from such a VOC.
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
speech = 0.3 * np.sin(np.arange(8_000) / 5)
for kind, subtype, channels in (
    ("VOC", "ULAW", 1), ("VOC", "ALAW", 1), ("VOC", "ULAW", 2), ("VOC", "PCM_16", 1),
    ("AU", "ULAW", 1), ("WAV", "ALAW", 1),
):
    samples = np.repeat(speech[:, None], channels, axis=1)
    lengths, added = [], 0.0
    for _ in range(3):
        soundfile.write("a", samples, 8_000, subtype, format=kind)
        samples = soundfile.read("a", always_2d=True)[0]
        lengths.append(len(samples))
        added = added or float(samples[8_000:].sum())
    print(f"{kind} {subtype:6} {channels} channels: 8000 samples become {lengths}, added {added:.3f}")
    grows = kind == "VOC" and channels == 1 and subtype != "PCM_16"
    assert lengths == ([8001, 8002, 8003] if grows else [8000] * 3), "behaviour has changed"
PY
