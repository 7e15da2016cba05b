"""Remove the noise from one recording: python enhance_file.py noisy.wav clean.wav"""

import sys

from gtcrn_cli import Settings, UserError, denoise

source, target = sys.argv[1:]
try:
    summary = denoise(source, target, settings=Settings(strength=0.9))
except UserError as error:  # one line that says what to do
    sys.exit(str(error))
print(f"{summary.duration_s:.1f} s, the level is {summary.removed_db:.1f} dB lower")
