"""DNSMOS P.835 in torch: what listeners would say of a recording, as something to differentiate.

Reddy et al., "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate
Noise Suppressors", ICASSP 2022. The package speechmos has the network, as ONNX.
`evaluation.measures` runs that; this reads its weights and does the same.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MissingExtraError

WINDOW, HOP = 320, 160  # samples at 16 kHz: 20 and 10 ms
QUIETEST = 1e-12  # power
POOLED = (3, 4, 5)  # convolutions that halve both dimensions
CALIBRATION = (  # of SIG, BAK, OVRL: what the network says, squared, as it is, and 1
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


class Dnsmos(nn.Module):
    """Samples to the three scores of P.835: speech, background, overall; 1 is bad and 5 excellent.

    The scale is absolute, and so is the level: full scale is 1.

    Raises
    ------
    MissingExtraError
        The packages onnx and speechmos are not installed.
    """

    spectrum: Tensor
    calibration: Tensor

    def __init__(self) -> None:
        super().__init__()
        package = find_spec("speechmos")
        try:
            import onnx
        except ImportError:
            package = None
        if package is None or not package.submodule_search_locations:
            raise MissingExtraError("the loss after DNSMOS", "train")
        folder = Path(package.submodule_search_locations[0])
        graph = onnx.load(folder / "dnsmos_models" / "sig_bak_ovr.onnx").graph
        weights = {
            tensor.name.removeprefix("mos_estimator_logpow/"): torch.from_numpy(
                onnx.numpy_helper.to_array(tensor).copy()
            )
            for tensor in graph.initializer
        }
        convolutions = [f"conv2d{n}" for n in ("", "_1", "_2", "_3", "_4", "_5", "_6")]
        layers = [f"dense{n}" for n in ("", "_1", "_3")]
        of_layer = "{}/MatMul/ReadVariableOp/resource:0", "{}/BiasAdd/ReadVariableOp/resource:0"
        real, imag = (weights[f"time2freq/stft-{part}/kernel:0"] for part in ("real", "imag"))
        self.register_buffer("spectrum", torch.cat([real, imag])[..., 0].T)  # [320, 2 x 161]
        self.register_buffer("calibration", torch.tensor(CALIBRATION))
        self.kernels = nn.ParameterList(
            weights[f"{name}/kernel:0"].contiguous(memory_format=torch.channels_last)
            for name in convolutions
        )
        self.biases = nn.ParameterList(weights[f"{name}/bias:0"] for name in convolutions)
        self.layers = nn.ParameterList(
            weights[entry.format(name)] for name in layers for entry in of_layer
        )
        self.requires_grad_(False)

    def forward(self, samples: Tensor) -> Tensor:
        """``[B, N] -> [B, 3]``; the published figures are means over windows of 9 s."""
        real, imag = (samples.unfold(1, WINDOW, HOP) @ self.spectrum).chunk(2, dim=-1)
        power = real.square() + imag.square()  # [B, T, 161]
        # Logarithms need all their digits; what the first layer makes of them does not.
        x = F.relu(self._first_layer(power.clamp(min=QUIETEST).log10()))
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            if number == 0:
                continue
            with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
                x = F.relu(F.conv2d(x, kernel, bias, padding=1))
            if number in POOLED:
                x = F.max_pool2d(x, 2)
        x = x.amax(dim=(2, 3)).float()  # [B, 64]
        hidden, hidden_bias, second, second_bias, last, last_bias = self.layers
        x = F.relu(x @ hidden + hidden_bias)
        x = F.relu(x @ second + second_bias)
        x = x @ last + last_bias  # [B, 3]
        powers = torch.stack([x.square(), x, torch.ones_like(x)], dim=-1)  # [B, 3, 3]
        return (powers * self.calibration).sum(dim=-1)

    def _first_layer(self, x: Tensor) -> Tensor:
        """``[B, T, F] -> [B, 128, T, F]``, channels last in memory.

        On a CPU as one matrix product: its convolutions are slow where only one channel goes in.
        """
        kernel, bias = self.kernels[0], self.biases[0]
        if x.is_cuda:
            x = x[:, None].contiguous(memory_format=torch.channels_last)
            return F.conv2d(x, kernel, bias, padding=1)
        patches = F.unfold(x[:, None], 3, padding=1).transpose(1, 2)  # [B, T F, 9]
        rows = torch.addmm(bias, patches.flatten(0, 1), kernel.flatten(1).T)
        return rows.view(*x.shape, -1).permute(0, 3, 1, 2)
