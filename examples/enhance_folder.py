"""Remove the noise from every WAV of a folder, in threads: python enhance_folder.py noisy/ clean/

The network runs outside of Python's global lock, so threads use all cores; one engine serves all.
`gtcrn batch` does this with more care: it goes on where it stopped, and one bad file ends nothing.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gtcrn_cli import denoise, load_engine, load_model

source, target = map(Path, sys.argv[1:])
target.mkdir(exist_ok=True)
engine = load_engine(load_model())


def enhance_one(path: Path) -> str:
    summary = denoise(str(path), str(target / path.name), engine)
    return f"{path.name}: {summary.speed:.0f} times as fast as real time"


with ThreadPoolExecutor() as threads:
    for line in threads.map(enhance_one, sorted(source.glob("*.wav"))):
        print(line)
