#!/usr/bin/env bash
# A score that does not hear the end: DNSMOS through speechmos.
#
# Expected: every part of a recording counts in its score.
# Seen: the recording is scored in windows of 9.01 s that begin at whole seconds, and only as many
# as whole seconds fit; what lies past the last window is not looked at. Of 9.9 s the last 0.89 s,
# so loud noise there, or a denoiser's burst at the end, leaves all four scores exactly as they
# were. Noise of the same length at the start lowers them.
# What to do: append silence up to the next whole second and a hundredth, or score the end apart;
# do not compare scores of clips cut at different places.
#
# Seen with speechmos 0.0.1.1, onnxruntime 1.22.1, librosa 0.11.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    speechmos==0.0.1.1 onnxruntime==1.22.1 librosa==0.11.0 numpy==2.2.6 requests==2.32.4
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
from speechmos import dnsmos

print("speechmos", version("speechmos"), "onnxruntime", version("onnxruntime"))
rate = 16_000
time = np.arange(int(9.9 * rate)) / rate
syllables = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, 1)
pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time)) / rate
voice = 0.1 * syllables * sum(np.sin(k * pitch) / k for k in range(1, 25))
noise = np.clip(0.3 * np.random.default_rng(0).standard_normal(int(0.88 * rate)), -1, 1)


def scores(samples):
    result = dnsmos.run(samples.astype(np.float32), sr=rate)
    return {name: round(float(result[f"{name}_mos"]), 3) for name in ("ovrl", "sig", "bak", "p808")}


spoiled_end, spoiled_start = voice.copy(), voice.copy()
spoiled_end[-len(noise) :] = noise
spoiled_start[: len(noise)] = noise
as_it_is, end, start = scores(voice), scores(spoiled_end), scores(spoiled_start)
print("as it is              ", as_it_is)
print("noise in the last 0.88 s ", end)
print("noise in the first 0.88 s", start)
assert end == as_it_is, "the end now counts"
assert start["bak"] < as_it_is["bak"] - 0.1
PY
