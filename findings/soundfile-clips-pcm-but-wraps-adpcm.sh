#!/usr/bin/env bash
# Too loud is clipped in one WAV and turned upside down in another: soundfile's subtypes.
#
# Expected: soundfile switches libsndfile's clipping on when it opens a file, so samples over full
# scale are held at full scale, whatever the subtype.
# Seen: so they are for PCM, FLAC and ALAC. IMA ADPCM, MS ADPCM, GSM 6.10 and XI's DPCM are coded
# from 16-bit integers made without that clipping: +1.1 becomes about -0.9, a jump of nearly twice
# full scale, heard as a loud crack. A denoiser or resampler that overshoots by a hair does that.
# What to do: clip the samples yourself before writing any of these subtypes.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PY'
import numpy as np
import soundfile

print("soundfile", soundfile.__version__, "libsndfile", soundfile.__libsndfile_version__)
rate = 44_100
sound = 1.1 * np.sin(2 * np.pi * 100 * np.arange(rate) / rate)
for container, subtype, wraps in (
    ("WAV", "PCM_16", False),
    ("FLAC", "PCM_24", False),
    ("CAF", "ALAC_16", False),
    ("WAV", "IMA_ADPCM", True),
    ("WAV", "MS_ADPCM", True),
    ("WAV", "GSM610", True),
    ("XI", "DPCM_16", True),
):
    soundfile.write("sound", sound, rate, format=container, subtype=subtype)
    back, _ = soundfile.read("sound")
    worst = np.abs(back[: len(sound)] - np.clip(sound, -1, 1)).max()
    turned = np.mean((sound > 1) & (back[: len(sound)] < -0.5)) / np.mean(sound > 1)
    print(f"{container:4} {subtype:9} largest error {worst:.3f}, turned over {turned:.0%} of the peaks")
    assert (worst > 1) == wraps, "clipping has changed"
PY
