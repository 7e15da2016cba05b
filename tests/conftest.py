"""Recordings and models that the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for another

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from sound_server import SoundServer, why_unavailable

from gtcrn_cli.network.checkpoint import Checkpoint, import_model, load_model
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN

torch.set_num_threads(1)  # where something loaded OpenMP before this file could ask for that

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

PROJECT = Path(__file__).parent.parent
REFERENCE = PROJECT.parent / "shared" / "reference"


def si_sdr_db(estimate: np.ndarray, target: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019), equation 3."""
    estimate, target = estimate.ravel().astype(float), target.ravel().astype(float)
    scaled = target * np.dot(estimate, target) / np.dot(target, target)
    return float(10 * np.log10(np.sum(scaled**2) / np.sum((estimate - scaled) ** 2)))


def agreement_db(signal: np.ndarray, reference: np.ndarray) -> float:
    """Energy of the reference over that of the difference."""
    length = min(len(signal), len(reference))
    difference = signal[:length] - reference[:length]
    return float(10 * np.log10(np.sum(reference[:length] ** 2) / (np.sum(difference**2) + 1e-20)))


def untrained(config: GTCRNConfig, seed: int = 1) -> Checkpoint:
    """Random weights, with batch statistics and slopes that are not what they are at the start."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = GTCRN(config)
        for name, tensor in network.state_dict().items():
            if "bn" in name and tensor.is_floating_point():
                tensor.mul_(torch.empty_like(tensor).uniform_(0.7, 1.3))
                tensor.add_(torch.empty_like(tensor).uniform_(0, 0.2))
            elif name.endswith("act.weight"):
                tensor.uniform_(0.1, 0.4)
    weights = {k: v.numpy() for k, v in network.state_dict().items() if v.is_floating_point()}
    return Checkpoint(weights, config, {"description": "random"})


@pytest.fixture(autouse=True)
def _own_data_dir(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's models stay out of the tests, and the tests out of the user's models."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="session")
def noisy_path() -> Path:
    """The example recording: 6.5 s, 16 kHz, mono."""
    return PROJECT / "examples" / "noisy.wav"


@pytest.fixture(scope="session")
def noisy(noisy_path: Path) -> np.ndarray:
    """The example recording, ``[N, 1]`` at 16 kHz."""
    return soundfile.read(noisy_path, dtype="float32", always_2d=True)[0]


@pytest.fixture(scope="session")
def clean() -> np.ndarray:
    """What the example recording is without its noise."""
    path = PROJECT / "examples" / "clean.wav"
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.fixture(scope="session")
def shipped() -> Checkpoint:
    """The default model."""
    return load_model()


@pytest.fixture(scope="session", params=["dns3", "vctk"])
def published(request: pytest.FixtureRequest) -> tuple[Checkpoint, np.ndarray, np.ndarray]:
    """A published checkpoint, the reference recording, and what the one makes of the other."""
    if not REFERENCE.is_dir():
        pytest.skip("the published checkpoints are not beside the project (../shared/reference)")
    checkpoint = import_model(REFERENCE / f"model_trained_on_{request.param}.tar")
    noisy, enhanced = (
        soundfile.read(REFERENCE / name, dtype="float32", always_2d=True)[0]
        for name in ("noisy.wav", f"enhanced_{request.param}.wav")
    )
    return checkpoint, noisy, enhanced


@pytest.fixture(scope="session")
def sound_server() -> Iterator[SoundServer]:
    """A sound server of our own, without hardware."""
    server = SoundServer()
    try:
        reason = why_unavailable(server)
        if reason is not None:
            pytest.skip(reason)
        yield server
    finally:
        server.close()
