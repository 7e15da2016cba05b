#!/usr/bin/env bash
# soxr's stream of variable rate holds back 240 samples, and tells 100.
#
# Expected: `delay()` says how much sound a stream holds, so that a live program can add it to its
# latency or keep two clocks in step by it; of a stream of fixed rates it does, to the sample.
# Seen: with `vr=True` 240 samples of output (5 ms at 48 kHz) are held back from the first block on,
# at a ratio of 1, too, where a stream of fixed rates holds none. `delay()` is 100, always: before
# the first sample, at any quality, at any ratio. The ratio itself is followed as it should be.
# What to do: count what went in, times the ratio, less what came out. Where 5 ms matter, as between
# a microphone and a loudspeaker, interpolate with a short windowed sinc instead.
#
# Seen with soxr 1.1.0 (vr is called experimental there), NumPy 2.2.6.
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
sound = np.sin(np.arange(48_000) / 9).astype(np.float32)


def held_and_told(stream, ratio):
    """Of output, after each block of 480 samples; `ratio` is output for input."""
    given, held, told = 0, [], []
    for start in range(0, len(sound), 480):
        given += len(stream.resample_chunk(sound[start : start + 480]))
        held.append(round((start + 480) * ratio - given))
        told.append(round(stream.delay()))
    return held, told


for quality in ("MQ", "HQ", "VHQ"):
    for rates in ((48_000, 48_000), (48_000, 44_100)):
        stream = soxr.ResampleStream(*rates, 1, "float32", quality)
        held, told = held_and_told(stream, rates[1] / rates[0])
        print(f"{quality} fixed, {rates}: held {held[-3:]}, told {told[-3:]}")
        assert np.abs(np.subtract(held, told)).max() <= 1, "delay() of fixed rates has changed"
    for most, ratio in ((48_000, 1.0), (48_480, 1.0), (48_480, 0.995)):
        stream = soxr.ResampleStream(most, 48_000, 1, "float32", quality, vr=True)
        before = round(stream.delay())
        stream.set_io_ratio(1.0, ratio)
        held, told = held_and_told(stream, ratio)
        print(f"{quality} variable, {ratio}: held {held[:3]}...{held[-3:]}, told {before}, {told[-3:]}")
        assert {before, *told} == {100}, "delay() of variable rates has changed"
        assert min(held) >= 236 and max(held) <= 244, "what is held has changed"
PY
