#!/usr/bin/env bash
# An MP3 read block by block with python-soundfile is another recording than the same file read whole.
#
# SoundFile.read(n), and so SoundFile.blocks(n), seeks to the new position after each call, where it
# is already. For PCM that is nothing. Frames of MP3 borrow bits from earlier frames, and a seek
# throws those away: at low bit rates the first frames of each block come out wrong or silent.
# A loop over blocks is what one writes to spare memory, so it is the long files that are damaged,
# and no call fails.
#
# What to do: read whole, or call libsndfile's read function on the handle without a seek between.
#
# Seen with soundfile 0.13.1 (libsndfile 1.2.2) and numpy 2.2.6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__, "numpy", np.__version__)
rng = np.random.default_rng(0)
rate, length = 44_100, 441_000
loudness = np.repeat(rng.random(length // 4_410) ** 4, 4_410)  # soft passages leave bits for loud ones
sound = (loudness * rng.standard_normal(length) * 0.2).astype(np.float32)
seen = {}
for level in (0.5, 0.99):  # of compression
    soundfile.write("a.mp3", sound, rate, bitrate_mode="CONSTANT", compression_level=level)
    whole = soundfile.read("a.mp3", dtype="float32")[0]
    with soundfile.SoundFile("a.mp3") as file:
        blocks = np.concatenate([file.read(4_096, "float32") for _ in range(-(-len(whole) // 4_096))])
    wrong = np.abs(blocks - whole) > 1e-3
    ratio_db = 10 * np.log10(np.sum(whole**2) / max(1e-20, np.sum((blocks - whole) ** 2)))
    print(f"compression level {level}: {wrong.sum()} of {len(whole)} samples differ, SNR {ratio_db:.0f} dB")
    seen[level] = bool(wrong.any())
sys.exit(seen != {0.5: False, 0.99: True})
PYTHON
echo "as described"
