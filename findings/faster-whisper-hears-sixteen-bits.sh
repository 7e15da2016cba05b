#!/usr/bin/env bash
# A recogniser that is handed 16 bits of a float recording: faster-whisper's `decode_audio`.
#
# Expected: `decode_audio` returns float32, so a float or 24-bit recording keeps its detail and
# its peaks.
# Seen: the sound goes through 16-bit integers on its way. A very quiet recording (peak at -92
# dBFS, a talker far from a 24-bit recorder) arrives as one or two values, and one that peaks at
# +3.5 dBFS in a float file is clipped at full scale. Raising the level afterwards, as a
# recogniser or a denoiser may, raises what is left.
# What to do: read the file by a library that keeps float (soundfile), set its level, resample,
# and pass the array to `transcribe` instead of the path.
#
# Seen with faster-whisper 1.2.1, av 16.0.1, soundfile 0.14.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    faster-whisper==1.2.1 av==16.0.1 soundfile==0.14.0 numpy==2.2.6 requests==2.32.4
cd "$folder"
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
import soundfile
from faster_whisper.audio import decode_audio

print("faster-whisper", version("faster-whisper"), "av", version("av"))
rate = 16_000
time = np.arange(2 * rate) / rate
voice = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
voice /= np.abs(voice).max()
values, peaks = {}, {}
for peak, subtype in ((2.5e-5, "PCM_24"), (1.5, "FLOAT")):
    soundfile.write("voice.wav", peak * voice, rate, subtype=subtype)
    straight, _ = soundfile.read("voice.wav", dtype="float32")
    decoded = decode_audio("voice.wav", sampling_rate=rate)
    for name, samples in (("soundfile", straight), ("decode_audio", decoded)):
        values[name, subtype] = len(np.unique(samples))
        peaks[name, subtype] = float(np.abs(samples).max())
        print(
            f"{subtype:6} peak {peak:g}: {name:12} {samples.dtype} has "
            f"{values[name, subtype]} different values, peak {peaks[name, subtype]:.3g}"
        )
assert values["soundfile", "PCM_24"] > 20 and values["decode_audio", "PCM_24"] <= 3
assert peaks["soundfile", "FLOAT"] > 1.49 and peaks["decode_audio", "FLOAT"] <= 1, "no longer clips"
PY
