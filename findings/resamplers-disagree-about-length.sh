#!/usr/bin/env bash
# One sample more, and it is invented: lengths of a resampled sound in five libraries.
#
# Expected: at least the libraries that share a resampler give one length; librosa uses soxr.
# Seen: for 44101 samples from 44.1 to 16 kHz (16000.36) soxr, libsamplerate and resampy give
# 16000, SciPy and librosa 16001, and librosa's last sample is a zero put behind soxr's result.
# Where the fraction is above a half (1000 samples from 48 to 44.1 kHz: 918.75) soxr rounds up,
# libsamplerate and resampy down: 919 or 918. A clean file and its noisy twin resampled by two of
# them differ by a sample, and a constant sound ends in a click with librosa.
# What to do: work out the length once (round up, say), and cut or fill each result to it.
#
# Seen with soxr 1.0.0, librosa 0.11.0, SciPy 1.15.3, samplerate 0.2.4, resampy 0.4.3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    soxr==1.0.0 librosa==0.11.0 scipy==1.15.3 samplerate==0.2.4 resampy==0.4.3 numpy==2.2.6 "setuptools<80"
cd "$folder"
venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version
from math import gcd

warnings.simplefilter("ignore")
import librosa
import numpy as np
import resampy
import samplerate
import scipy.signal
import soxr

print({name: version(name) for name in ("soxr", "librosa", "scipy", "samplerate", "resampy")})


def resampled(samples, rate, new_rate):
    common = gcd(rate, new_rate)
    return {
        "soxr": soxr.resample(samples, rate, new_rate),
        "librosa": librosa.resample(samples, orig_sr=rate, target_sr=new_rate),
        "scipy": scipy.signal.resample_poly(samples, new_rate // common, rate // common),
        "samplerate": samplerate.resample(samples, new_rate / rate, "sinc_best"),
        "resampy": resampy.resample(samples, rate, new_rate),
    }


seen = {}
for length, rate, new_rate in ((44_101, 44_100, 16_000), (1000, 48_000, 44_100)):
    results = resampled(np.full(length, 0.5, np.float32), rate, new_rate)
    seen[length] = {name: len(samples) for name, samples in results.items()}
    print(f"{length} from {rate} to {new_rate}: exact {length * new_rate / rate:.2f}", seen[length])
    if length == 44_101:
        print("last two samples of librosa:", results["librosa"][-2:].tolist())
        assert results["librosa"][-1] == 0 and results["librosa"][-2] > 0.2
low, high = 16_000, 16_001
assert seen[44_101] == dict(soxr=low, librosa=high, scipy=high, samplerate=low, resampy=low)
assert seen[1000] == dict(soxr=919, librosa=919, scipy=919, samplerate=918, resampy=918)
PY
