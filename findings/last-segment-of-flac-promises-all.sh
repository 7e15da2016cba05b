#!/usr/bin/env bash
# FLAC cut into segments by ffmpeg: the last file says that it is as long as all of them together.
#
# `ffmpeg -f segment` lets one encoder run through all segments. The headers of the first ones leave
# the number of samples open; the last is written when the encoder knows its total, which is that of
# the whole stream. The frames, too, count on from segment to segment. So a reader that believes
# STREAMINFO takes the last segment for cut off, one that seeks by frame numbers finds nothing
# in any but the first, and `soundfile.info` reports a length that no file has.
#
# What to do: read the frames to the end without seeking, and take the number of the first frame's
# first sample off the total; or encode each segment by itself.
#
# Seen with ffmpeg 5.1.9, soundfile 0.13.1 (libsndfile 1.2.2) and numpy 2.2.6. Needs ffmpeg.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
cd "$folder"
ffmpeg -version | head -1 | cut -d' ' -f1-3
ffmpeg -v error -f lavfi -i anoisesrc=duration=9:sample_rate=44100:amplitude=0.1:seed=1 -c:a flac \
  -f segment -segment_time 3.5 part%d.flac
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys

import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
promised, there = [], []
for name in ("part0.flac", "part1.flac", "part2.flac"):
    frames = soundfile.info(name).frames
    command = ["ffmpeg", "-v", "error", "-i", name, "-f", "s16le", "-"]
    samples = len(subprocess.run(command, capture_output=True, check=True).stdout) // 2
    told = "open" if frames > 1 << 60 else str(frames)
    print(f"{name}: {samples} samples, its header says {told}")
    promised.append(told)
    there.append(samples)
sys.exit(promised != ["open", "open", str(sum(there))])
PYTHON
echo "as described"
