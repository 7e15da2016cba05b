"""The network as an ONNX file: one frame per call, its whole state going in and coming out.

Inputs and outputs, their names and the metadata are those that sherpa-onnx expects of a GTCRN
model, so the file runs there as it is, and anywhere else that ONNX runs:

========================  ========================  ==============================================
in                        out                       what
========================  ========================  ==============================================
``mix [1,257,1,2]``       ``enh [1,257,1,2]``       spectrum of a frame; real and imaginary part
``conv_cache``            ``conv_cache_out``        histories of encoder and decoder: the 2, 4, 10
``[2,1,16,16,33]``                                  (10, 4, 2) frames of its blocks, end to end
``tra_cache``             ``tra_cache_out``         hidden of their attention
``[2,3,1,1,16]``
``inter_cache``           ``inter_cache_out``       inter-frame hidden of the dual paths
``[2,1,33,16]``
========================  ========================  ==============================================

A stream starts with all three caches zero. Window: 512, hop 256, sqrt-Hann.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtraError, UserError
from ..paths import replacing, require_free
from .checkpoint import Checkpoint, one_line
from .config import BINS, CHANNELS, DEEP_BANDS, DILATIONS, HOP, SAMPLE_RATE, WINDOW

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .model import GTBlockState, GTCRNState

OPSET = 17
CHECKED_FRAMES = 100
# By the precision of skips: a number between two of half precision may be rounded either way.
TOLERANCES = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 2e-2}

PAST = sum(2 * dilation for dilation in DILATIONS)  # frames that the histories of one side hold
SHAPES = {
    "mix": (1, BINS, 1, 2),
    "conv_cache": (2, 1, CHANNELS, PAST, DEEP_BANDS),
    "tra_cache": (2, len(DILATIONS), 1, 1, CHANNELS),
    "inter_cache": (2, 1, DEEP_BANDS, CHANNELS),
}
OUTPUTS = ["enh", "conv_cache_out", "tra_cache_out", "inter_cache_out"]


def export(checkpoint: Checkpoint, target: Path, overwrite: bool = False) -> float:
    """Write `target`, after checking that it does what torch does.

    Returns
    -------
    The largest difference of any number of the enhanced spectrum over 100 frames of noise.

    Raises
    ------
    UserError
        `target` exists, cannot be written, or would not do the same; or a package is missing.
    """
    require_free(target, overwrite)
    model = to_onnx(checkpoint)
    difference = largest_difference(model, checkpoint)
    if not difference <= TOLERANCES[checkpoint.config.skip_dtype]:
        raise UserError(f"not written: the ONNX model differs from torch by {difference:.1e}")
    with replacing(target, overwrite=overwrite) as path:
        path.write_bytes(model)
    return difference


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """The network of `checkpoint` as the content of an ONNX file."""
    try:
        import onnx
        import torch
    except ImportError:
        raise MissingExtraError("export", "export") from None

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own future and GRU batches
        torch.onnx.export(
            _one_frame(checkpoint),
            tuple(torch.zeros(shape) for shape in SHAPES.values()),
            content,  # type: ignore[arg-type]
            input_names=list(SHAPES),
            output_names=OUTPUTS,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(content.getvalue())
    onnx.helper.set_model_props(model, _metadata(checkpoint))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    shapes = {f"{name}_shape": ",".join(map(str, shape)) for name, shape in SHAPES.items()}
    del shapes["mix_shape"]
    return shapes | {
        "model_type": "gtcrn",
        "version": "1",  # of this signature
        "sample_rate": str(SAMPLE_RATE),
        "n_fft": str(WINDOW),
        "hop_length": str(HOP),
        "window_length": str(WINDOW),
        "window_type": "hann_sqrt",
        "comment": one_line(str(checkpoint.card.get("description", ""))),
        "sha256": checkpoint.digest,
    }


def _one_frame(checkpoint: Checkpoint) -> nn.Module:
    import torch

    from .model import build_network

    class OneFrame(torch.nn.Module):
        """`model.GTCRN` with the signature above."""

        def __init__(self) -> None:
            super().__init__()
            self.network = build_network(checkpoint)

        def forward(
            self, mix: Tensor, conv_cache: Tensor, tra_cache: Tensor, inter_cache: Tensor
        ) -> tuple[Tensor, ...]:
            state = _state_of_caches(conv_cache, tra_cache, inter_cache)
            enhanced, state = self.network(mix.transpose(1, 2), state)
            return enhanced.transpose(1, 2), *_caches_of_state(state)

    return OneFrame().eval()


def _state_of_caches(conv_cache: Tensor, tra_cache: Tensor, inter_cache: Tensor) -> GTCRNState:
    from .model import GTBlockState, GTCRNState

    def blocks(side: int, dilations: tuple[int, ...]) -> Iterator[GTBlockState]:
        start = 0
        for level, dilation in enumerate(dilations):
            past = 2 * dilation
            history = conv_cache[side, :, :, start : start + past]
            yield GTBlockState(history, tra_cache[side, level, 0])
            start += past

    return GTCRNState(
        tuple(blocks(0, DILATIONS)),
        (inter_cache[0], inter_cache[1]),
        tuple(blocks(1, DILATIONS[::-1])),
    )


def _caches_of_state(state: GTCRNState) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    sides = (state.encoder, state.decoder)
    conv_cache = [torch.cat([block.history for block in side], dim=2) for side in sides]
    tra_cache = [torch.stack([block.hidden[None] for block in side]) for side in sides]
    return torch.stack(conv_cache), torch.stack(tra_cache), torch.stack(state.dual_path)


def open_session(model: bytes | str) -> Any:
    """ONNX Runtime on one thread, for the content of a file or its path.

    Raises
    ------
    MissingExtraError
        onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("running an ONNX model", "export") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_frames(session: Any, spectrum: np.ndarray) -> np.ndarray:
    """Enhance ``[T, 257, 2]`` frame by frame."""
    caches = [np.zeros(shape, np.float32) for name, shape in SHAPES.items() if name != "mix"]
    enhanced = np.empty_like(spectrum)
    for frame, noisy in enumerate(spectrum):
        inputs = [noisy[None, :, None], *caches]
        output, *caches = session.run(OUTPUTS, dict(zip(SHAPES, inputs, strict=True)))
        enhanced[frame] = output[0, :, 0]
    return enhanced


def largest_difference(model: bytes, checkpoint: Checkpoint) -> float:
    """Between `model` in ONNX Runtime and torch, over 100 frames of noise that comes and goes."""
    import torch

    from .model import build_network

    noise = np.random.default_rng(0).standard_normal((CHECKED_FRAMES, BINS, 2))
    swell = np.sin(np.linspace(0, 3 * np.pi, CHECKED_FRAMES))[:, None, None]
    spectrum = (noise * swell).astype(np.float32)
    with torch.inference_mode():
        expected, _ = build_network(checkpoint)(torch.from_numpy(spectrum)[None])
    actual = run_frames(open_session(model), spectrum)
    return float(np.abs(actual - expected[0].numpy()).max())
