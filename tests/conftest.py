"""Recordings and models that the tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for another

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from support.places import PROJECT, REFERENCE
from support.sound_server import SERVERS, SoundServer, running

from gtcrn_cli.native.machine_code import load_kernel
from gtcrn_cli.network.checkpoint import Checkpoint, load_model
from gtcrn_cli.network.importing import import_model

torch.set_num_threads(1)  # where something loaded OpenMP before this file could ask for that

MARKED_BY = {  # a fixture marks who uses it
    "sound_server": ("soundserver", "slow"),
    "sound_servers": ("soundserver", "slow"),
    "browser": ("browser",),
    "cluster": ("cluster",),
    "inproc": ("cluster",),
}


def pytest_configure(config: pytest.Config) -> None:
    """With pytest-xdist: tests go to the processes in groups, in the order below.

    The kernel is compiled here, once: not by each of the processes, nor by the first command that a
    test runs, which would say so.
    """
    if config.getoption("dist", "no") == "load":
        config.option.dist = "loadgroup"
        config.option.loadscopereorder = False
    if not hasattr(config, "workerinput"):
        load_kernel()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run behind
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the large fixtures. With pytest-xdist make groups and begin with what is slow:
    then no process waits long for the last test of another.
    """
    for item in items:
        for fixture in item.fixturenames:
            for mark in MARKED_BY.get(fixture, ()):
                item.add_marker(mark)
    if hasattr(config, "workerinput"):
        for item in items:
            if (group := group_of(item)) is not None:
                item.add_marker(pytest.mark.xdist_group(group))
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def group_of(item: pytest.Item) -> str | None:
    """What of the tests stays in one process: those that share a server, a cluster or a browser,
    and those of a file. Slow ones go one by one.
    """
    if item.get_closest_marker("xdist_group"):
        return None  # it says so itself
    if "_sound_server" in item.fixturenames:
        return f"soundserver {item.callspec.params['_sound_server'].name}"
    for name in ("soundserver", "browser", "cluster"):
        if item.get_closest_marker(name):
            return name
    return None if item.get_closest_marker("slow") else item.path.stem


settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


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


@pytest.fixture(
    scope="module", params=SERVERS, ids=lambda kind: kind.name
)  # idle ones take time, too
def _sound_server(request: pytest.FixtureRequest) -> Iterator[SoundServer]:
    yield from running(request.param)


@pytest.fixture(scope="module")
def _sound_servers() -> Iterator[list[SoundServer]]:
    there = [kind for kind in SERVERS if kind.why_unavailable() is None]
    if not there:
        pytest.skip(str(SERVERS[0].why_unavailable()))
    with ExitStack() as stack:
        yield [stack.enter_context(contextmanager(running)(kind)) for kind in there]


@pytest.fixture
def sound_servers(_sound_servers: list[SoundServer]) -> list[SoundServer]:
    """Those that are installed, all at once: for `on_each`."""
    for server in _sound_servers:
        server.reset()
    return _sound_servers


@pytest.fixture
def sound_server(_sound_server: SoundServer) -> SoundServer:
    """A sound server of our own, without hardware: PulseAudio, then PipeWire."""
    _sound_server.reset()
    return _sound_server
