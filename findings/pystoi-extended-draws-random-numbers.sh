#!/usr/bin/env bash
# A measure that changes the experiment: ESTOI draws from NumPy's global random generator.
#
# Expected: `stoi(clean, enhanced, rate, extended=True)` is a pure function, as `extended=False`
# is.
# Seen: each extended call takes some thousand numbers from `numpy.random`'s global generator, so
# that a seeded training run goes another way once a validation score is switched on. An output
# that is all zeros has another score at each call, of either sign; plain STOI gives it 0 every
# time.
# What to do: keep experiments on `numpy.random.default_rng(seed)`, save and restore
# `numpy.random.get_state()` around the call, and give silent outputs their score without calling.
#
# Seen with pystoi 0.4.1, NumPy 2.2.6, SciPy 1.15.3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pystoi==0.4.1 numpy==2.2.6 scipy==1.15.3
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
from pystoi import stoi

print("pystoi", version("pystoi"), "NumPy", np.__version__)
rate = 16_000
time = np.arange(4 * rate) / rate
syllables = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, 1)
clean = syllables * sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 25))


def next_number(extended):
    np.random.seed(0)
    if extended is not None:
        stoi(clean, clean, rate, extended=extended)
    return np.random.rand()


untouched, plain, extended = next_number(None), next_number(False), next_number(True)
print(f"next random number: {untouched:.6f} alone, {plain:.6f} after STOI, {extended:.6f} after ESTOI")
silent = [float(stoi(clean, 0 * clean, rate, extended=True)) for _ in range(6)]
print("ESTOI of silence, six calls:", [f"{score:+.1e}" for score in silent])
print("STOI of silence:", float(stoi(clean, 0 * clean, rate)))
assert plain == untouched, "STOI draws numbers, too"
assert extended != untouched, "ESTOI no longer draws numbers"
assert len(set(silent)) == 6, "ESTOI of silence is now always the same"
assert stoi(clean, 0 * clean, rate) == 0
PY
