"""Where a training runs: several processes, devices, little memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import untrained
from support.training import PLAN, Halves, run_training

from gtcrn_cli.cli import train as command
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.training import loop
from gtcrn_cli.training.fast.layers import FastGTBlock, use_fast_layers
from gtcrn_cli.training.loop import own_device
from gtcrn_cli.training.run import scarce_memory

pytestmark = pytest.mark.slow  # most of them train


def test_processes_end_with_one_network(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    """Two threads stand for two processes. What each measures of its own batches counts as well."""
    mine = threading.local()
    meeting, sums = threading.Barrier(2), {}

    @contextmanager
    def all_processes(device: str) -> Iterator[tuple[int, int]]:
        yield mine.rank, 2

    def all_reduce(flat: torch.Tensor) -> None:
        sums[mine.rank] = flat.clone()
        meeting.wait(30)
        flat.copy_(sums[0] + sums[1])
        meeting.wait(30)

    monkeypatch.setattr(loop, "all_processes", all_processes)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    model = untrained(GTCRNConfig())
    ended: dict[int, Checkpoint] = {}

    def process(rank: int) -> None:
        mine.rank = rank
        ended[rank] = run_training(
            tmp_path / str(rank), halves, replace(PLAN, steps=3, freeze=0.6), start_from=model
        )

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ended[0].digest == ended[1].digest != model.digest


def test_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(command.sys.stderr, "isatty", lambda: True, raising=False)
        with command._progress(10) as report:
            report({"step": 1.0, "loss": 1.0, "times_real_time": 9.0})
        command._say(f"told by {rank}")
        said = capfd.readouterr().err
        assert ("told by" in said) == ("real time" in said) == (rank == "0")


def test_a_cpu_has_one_name():
    assert own_device("cpu:0") == "cpu"
    network = GTCRN()
    use_fast_layers(network, "cpu:0")
    assert any(isinstance(module, FastGTBlock) for module in network.modules())


@pytest.mark.parametrize("device", ["meta", "hpu", "nonsense", ""])
def test_what_cannot_train_is_refused(device: str, tmp_path: Path):
    with pytest.raises(UserError, match=rf"^torch cannot use the device '{device}': .+"):
        command.require_run(tmp_path, device)


def test_too_little_memory_is_told_apart():
    def said(error: Exception, *arguments: str) -> str:
        with pytest.raises(UserError) as caught, scarce_memory(*arguments):
            raise error
        return str(caught.value)

    ended = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    ended.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "for a training step: lower --batch-s, or --workers" in said(ended)
    full = torch.OutOfMemoryError("CUDA out of memory.")
    assert said(full, "all", "give less") == "memory does not suffice for all: give less"
    with pytest.raises(RuntimeError, match="a bug"), scarce_memory():
        raise RuntimeError("a bug")


@pytest.mark.slow
def test_no_shared_memory_is_needed(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    """A container has little of it, and where it is full a loader's process waits for ever."""
    share = torch.UntypedStorage._share_fd_cpu_

    def shared(storage: torch.UntypedStorage, *arguments: Any) -> Any:
        (tmp_path / "shared").touch()
        return share(storage, *arguments)

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", shared)
    run_training(tmp_path, halves, workers=1)
    assert not (tmp_path / "shared").exists()


def test_memory_for_the_recordings_runs_out_as_well(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loop, "EnhancementLoss", full)  # like all that goes to a device
    with pytest.raises(UserError, match="memory does not suffice"):
        run_training(tmp_path, halves)
