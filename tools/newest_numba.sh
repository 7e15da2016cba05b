#!/usr/bin/env bash
# Does the kernel still compile with the newest Numba, whose upper bound pyproject.toml sets?
# Installs gtcrn and the newest numba and llvmlite into a temporary folder, compiles, and compares
# what comes out with numpy's STFT. For a nightly run; not part of the tests.
#   PYTHON=python3.13 tools/newest_numba.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install "$root"
pip install --upgrade numba llvmlite  # beyond the bounds, which pip says
cd "$folder"
XDG_CACHE_HOME="$folder/cache" "$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys
import time

import numpy as np

from gtcrn_cli import Enhancer, Settings, load_engine, load_model

versions = {name: importlib.metadata.version(name) for name in ("numba", "llvmlite")}
begin = time.process_time()
engine = load_engine(load_model())
print(versions, f"compiled in {time.process_time() - begin:.1f} s of CPU time")
noise = np.random.default_rng(0).uniform(-0.5, 0.5, (48_000, 2)).astype(np.float32)
enhancer = Enhancer(engine, 48_000, 2, Settings(0, "keep"))
back = np.concatenate([enhancer.push(noise), enhancer.flush()])
error = float(np.abs(back - noise).max())
print(f"at strength 0 the input comes back within {error:.1e}")
sys.exit(error > 2e-6)
PYTHON
