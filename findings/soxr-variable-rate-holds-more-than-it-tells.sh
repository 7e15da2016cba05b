#!/usr/bin/env bash
# soxr's stream of variable rate holds back more sound than its delay() tells.
#
# Expected: `delay()` says how much sound a stream holds, so that a live program can add it to its
# latency and keep two clocks in step; and where the rates are equal there is next to none.
# Seen: see below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soxr==1.1.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
import soxr

print("soxr", version("soxr"))
speech = np.sin(np.arange(48_000) / 9).astype(np.float32)
for quality in ("MQ", "HQ", "VHQ"):
  for variable, rates in ((True, (48_000, 48_000)), (True, (96_000, 48_000)), (False, (48_000, 44_100)), (False, (48_000, 48_000))):
    stream = soxr.ResampleStream(*rates, 1, "float32", quality, vr=variable)
    if rates[0] == 96_000: stream.set_io_ratio(1.0, 1.0)
    given, seen, told = 0, [], []
    for start in range(0, 48_000, 480):
        given += len(stream.resample_chunk(speech[start : start + 480]))
        ratio = 1.0 if variable else rates[1] / rates[0]
        seen.append((start + 480) * ratio - given)
        told.append(stream.delay())
    print(quality, variable, rates, "holds", np.round(seen[:4]), "...", round(min(seen[10:])), round(max(seen[10:])), "tells", round(min(told)), round(max(told)), "of", told[-3:])
PY
