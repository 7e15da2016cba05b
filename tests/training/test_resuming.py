"""A run that goes on is the same run, or is refused with what to give; what is bad stays out."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import untrained
from torch import nn
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.cli import train as command
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.training import loop
from gtcrn_cli.training.clips import rehearsal
from gtcrn_cli.training.corpora import Corpora
from gtcrn_cli.training.fast.layers import FastGTBlock, use_fast_layers
from gtcrn_cli.training.log import Log
from gtcrn_cli.training.loop import own_device, train
from gtcrn_cli.training.plan import GOING_ON, Plan
from gtcrn_cli.training.recipe import Recipe
from gtcrn_cli.training.run import Circumstances, Run, scarce_memory

Halves = tuple[Corpora, Corpora]

PLAN = Plan(
    steps=4, batch_s=0.5, segments=((0.0, 0.5),), perceptual=0.0, intelligibility=0.0, freeze=1.0
)
RATE = 16_000


def run_training(run: Path, halves: Halves, plan: Plan = PLAN, **options: Any) -> Checkpoint:
    small = {"workers": 0, "validate_every": 1000, "validation_examples": 1}
    return train(run, plan, Recipe(), *halves, **{**small, **options})


def stop_after(steps: int) -> Callable[[int, nn.Module], None]:
    """For `observe`: Ctrl-C while that many steps have been taken, or are being taken."""

    def observe(step: int, network: nn.Module) -> None:
        if step + 1 == steps:
            signal.raise_signal(signal.SIGINT)

    return observe


def stopped(run: Path, halves: Halves, plan: Plan, steps: int, **options: Any) -> dict[str, Any]:
    """A run that was stopped after some steps: what it keeps."""
    with pytest.raises(KeyboardInterrupt):
        run_training(run, halves, plan, observe=stop_after(steps), **options)
    return torch.load(run / "last.pt", weights_only=True)


def kept_run(
    folder: Path, plan: Plan = PLAN, corpora: dict[str, str] | None = None, **circumstances: Any
) -> None:
    """A run that was begun, and not a step taken."""
    config = GTCRNConfig()
    fingerprints = dict.fromkeys(
        ("recordings", "speech", "noise", "rooms", "microphones", "recipe"), "x"
    )
    now = Circumstances(**{"network": config.name, **circumstances})
    Run.begin(folder, plan, GTCRN(config), {**fingerprints, **(corpora or {})}, now).save()


# What a run is


def test_networks_whose_weights_fit_one_another_are_told_apart(tmp_path: Path, halves: Halves):
    config = GTCRNConfig.parse("add+float16")
    stopped(tmp_path, halves, PLAN, 1, config=config)
    for other in ("add", "none", "add+levels=0,1"):
        with pytest.raises(UserError, match=r"trains the network add\+float16, not .*--config add"):
            run_training(tmp_path, halves, config=GTCRNConfig.parse(other))
    run_training(tmp_path, halves, replace(PLAN, steps=1), config=config)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"processes": 2}, {}, "with 2 processes, not 1: give that many .*--nproc-per-node"),
        ({"on_gpu": True}, {}, "was started on a GPU: give --device cuda"),
        ({}, {"on_gpu": True}, "was started on a CPU: give --device cpu"),
        ({"weights": "a"}, {}, r"the weights of a model: give it with --start-from \(finetune: --"),
        ({"weights": "a"}, {"weights": "b"}, "began with another model: give that with --start"),
        ({}, {"weights": "b"}, "began with random weights: leave out --start-from"),
    ],
)
def test_a_run_in_other_circumstances_is_refused(
    before: dict[str, Any], now: dict[str, Any], said: str, tmp_path: Path
):
    kept_run(tmp_path, **before)
    with pytest.raises(UserError, match=rf"the run in .* {said}.*, or give another folder"):
        kept_run(tmp_path, **now)
    kept_run(tmp_path, **before)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, halves: Halves):
    kept = stopped(tmp_path, halves, PLAN, 2)
    del kept["circumstances"], kept["corpora"]["recordings"], kept["corpora"]["recipe"]
    torch.save(kept, tmp_path / "last.pt")
    assert run_training(tmp_path, halves).digest == run_training(tmp_path / "2", halves).digest


def test_loading_says_with_what_it_began(tmp_path: Path, halves: Halves):
    """The loop itself hands over what is compared."""
    model = untrained(GTCRNConfig())
    kept = stopped(tmp_path, halves, PLAN, 1, start_from=model)["circumstances"]
    assert Circumstances(**kept) == Circumstances("add", model.digest, 1, on_gpu=False)
    with pytest.raises(UserError, match="began with another model"):
        run_training(tmp_path, halves, start_from=untrained(GTCRNConfig(), seed=2))


def test_another_recipe_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Of an earlier version: nobody could give that one again."""
    kept_run(tmp_path)
    kept_run(tmp_path)
    assert not caplog.records
    kept_run(tmp_path, corpora={"recipe": "y"})
    assert "goes on by another recipe than it was started with" in caplog.text


# Refusals name what can be given


def test_more_steps_of_a_fine_tuning_are_no_other_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plans: list[Plan] = []
    monkeypatch.setattr(loop, "train", lambda run, plan, *_, **__: plans.append(plan))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for steps in ("300", "1000"):
        words = ["finetune", str(tmp_path / "run"), "--noise", str(rehearsal("noise"))]
        result = CliRunner().invoke(app, [*words, "--steps", steps])
        assert result.exit_code == 0, result.output
    kept_run(tmp_path, plans[0])
    kept_run(tmp_path, plans[1])
    kept_run(tmp_path / "earlier", replace(plans[0], warmup=30))  # as it was once written down
    kept_run(tmp_path / "earlier", plans[1])


def test_another_command_is_said(tmp_path: Path):
    plan = replace(PLAN, segments=((0.0, 2.0), (0.5, 8.0)), average=0.999)
    kept_run(tmp_path, replace(plan, **GOING_ON))
    with pytest.raises(UserError, match=r"by another command .* with --start-from if it had that"):
        kept_run(tmp_path, plan)


def test_other_options_and_other_shares_are_said(tmp_path: Path):
    kept_run(tmp_path)
    with pytest.raises(UserError, match=r"started with --batch-s 0\.5, not 3\.0: give that"):
        kept_run(tmp_path, replace(PLAN, batch_s=3.0))
    with pytest.raises(UserError, match="in other shares: give the --share that it was started"):
        kept_run(tmp_path, corpora={"noise": "y"})
    with pytest.raises(UserError, match=r"other noise: give the same --noise \(and --original-no"):
        kept_run(tmp_path, corpora={"noise": "y", "recordings": "y"})


def test_shares_are_no_other_recordings(halves: Halves):
    corpora = halves[0]
    noise = corpora.noise.favour(np.arange(len(corpora.noise)) == 0, 0.5)
    before, now = corpora.fingerprints, replace(corpora, noise=noise).fingerprints
    assert {kind for kind in before if before[kind] != now[kind]} == {"noise"}


# Where a run ends


def test_fewer_steps_than_were_taken_are_refused(tmp_path: Path, halves: Halves):
    stopped(tmp_path, halves, PLAN, 3)
    with pytest.raises(UserError, match="has taken 3 steps already: give --steps 3 to end it"):
        run_training(tmp_path, halves, replace(PLAN, steps=2))
    assert not (tmp_path / "model.safetensors").exists()
    ended = run_training(tmp_path, halves, replace(PLAN, steps=3))
    assert Checkpoint.load(tmp_path / "model.safetensors").digest == ended.digest
    assert "valid_loss" in ended.card["validation in training"]
    log = (tmp_path / "log.csv").read_bytes()
    again = run_training(tmp_path, halves, replace(PLAN, steps=3))
    assert again.digest == ended.digest and (tmp_path / "log.csv").read_bytes() == log


def test_fewer_steps_freeze_the_averaged_statistics(tmp_path: Path, halves: Halves):
    plan = replace(PLAN, steps=100, freeze=0.5)
    kept = stopped(tmp_path, halves, plan, 4)
    name = "encoder.en_convs.0.bn.running_mean"
    assert not torch.equal(kept["network"][name], kept["ema"][name])
    seen: list[torch.Tensor] = []
    run_training(
        tmp_path, halves, replace(plan, steps=5),
        observe=lambda _, network: seen.append(network.get_buffer(name).clone()),
    )  # fmt: skip
    assert torch.equal(seen[0], kept["ema"][name])


@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_a_signal_takes_its_effect_when_the_run_is_saved(
    number: signal.Signals, tmp_path: Path, halves: Halves
):
    def end(caught: int, _: object) -> None:
        raise SystemExit(128 + caught)

    before = signal.signal(number, end)
    try:
        with pytest.raises(SystemExit) as caught:
            run_training(
                tmp_path, halves, observe=lambda step, _: step or signal.raise_signal(number)
            )
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 1


# What is bad


def test_a_bad_batch_leaves_nothing_behind(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    make = loop.Mixtures.__getitem__

    def with_a_bad_one(mixtures: loop.Mixtures, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        noisy, clean = make(mixtures, step)
        return (noisy * torch.nan if step == 2 else noisy), clean

    monkeypatch.setattr(loop.Mixtures, "__getitem__", with_a_bad_one)
    before = stopped(tmp_path, halves, PLAN, 2)
    after = stopped(tmp_path, halves, PLAN, 3)
    assert after["step"] == 3
    for part in ("network", "ema"):
        for name, value in before[part].items():
            if value.is_floating_point():
                assert torch.equal(value, after[part][name]), name
    assert np.isfinite(run_training(tmp_path, halves).weights["erb.erb_fc.weight"]).all()
    Checkpoint.load(tmp_path / "model.safetensors")  # which refuses what is no number


def test_a_curve_leaves_out_what_is_no_number():
    assert command._sparkline([1.0, float("nan"), 3.0, float("inf")]) == "▁█"
    assert command._sparkline([float("nan")]) == ""


def test_a_damaged_run_is_said_in_one_line(tmp_path: Path):
    kept_run(tmp_path)
    for content in ({"weights": tmp_path}, {"epoch": 3}, [1], b"half a fi"):
        if isinstance(content, bytes):
            (tmp_path / "last.pt").write_bytes(content)
        else:
            torch.save(content, tmp_path / "last.pt", pickle_protocol=2)
        with pytest.raises(UserError) as caught:
            kept_run(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path / 'last.pt'} is damaged, or no run of gtcrn train: give another folder"
        )


# The log


def logged(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_resumed_run_are_means_of_its_steps(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    run_training(tmp_path / "each", halves)
    each = [float(row["loss"]) for row in logged(tmp_path / "each" / "log.csv") if row["loss"]]
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    stopped(tmp_path / "run", halves, PLAN, 3)
    run_training(tmp_path / "run", halves)
    row, *_ = logged(tmp_path / "run" / "log.csv")
    assert float(row["loss"]) == pytest.approx(each[3], rel=1e-4)


def test_the_speed_is_that_of_the_steps(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    now_s = 0.0
    rows: list[dict[str, float]] = []

    def pass_time(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def validate(*_: object) -> dict[str, float]:
        pass_time(100)
        return {"valid_loss": 1.0}

    monkeypatch.setattr(loop.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    run_training(
        tmp_path, halves, validate_every=1, report=rows.append, observe=lambda *_: pass_time(1)
    )
    assert [row["times_real_time"] for row in rows if "loss" in row] == [0.5, 0.5]


def test_a_log_begins_with_its_columns(tmp_path: Path):
    (tmp_path / "log.csv").touch()
    kept_run(tmp_path)
    Log(tmp_path / "log.csv", lambda row: None)({"step": 1, "loss": 2})
    assert logged(tmp_path / "log.csv") == [
        {**dict.fromkeys(Log.columns, ""), "step": "1", "loss": "2"}
    ]


def test_rows_come_under_the_columns_that_are_there(tmp_path: Path):
    """Of an earlier version, and after a row that a power cut left without an end."""
    path = tmp_path / "log.csv"
    path.write_text("step,hours,loss,rate\n1,0.1,9,8\n2,0.2")
    log = Log(path, lambda row: None)
    for step in (2, 3):
        log({"step": step, "hours": 0.5, "loss": 7, "quality": 6})
    assert [tuple(row.values())[:3] for row in logged(path)][2:] == [
        ("2", "0.5", "7"), ("3", "0.5", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize("head", ["st", "step,hours,rate,lo", "step;hours\n1;2\n"])
def test_half_a_head_gets_no_rows(head: str, tmp_path: Path):
    (tmp_path / "log.csv").write_text(head)
    with pytest.raises(UserError, match=r"log\.csv exists, and is no log of a run"):
        kept_run(tmp_path)
    assert (tmp_path / "log.csv").read_text() == head


# The plan


def test_a_step_hears_what_was_asked_for():
    plan = Plan(steps=4, batch_s=2.0)
    assert [plan.segment(step) for step in range(4)] == [(1, 2 * RATE)] * 4
    assert Plan(batch_s=2.0, **GOING_ON).segment(0) == (1, 2 * RATE)
    published = Plan()
    assert [published.segment(step) for step in (0, 4_000, 10_000)] == [
        (8, 2 * RATE), (4, 4 * RATE), (2, 8 * RATE),
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [1, 5, 20, 300, 3_000])
def test_a_short_run_gets_past_its_warmup(steps: int):
    plan = Plan(steps=steps)
    rates = [plan.rate(step) for step in range(steps)]
    assert max(rates) == plan.learning_rate and rates.index(max(rates)) <= steps // 10
    assert rates[-1] <= rates[0] if steps > 10 else True
    assert Plan(20_000).rate(149) == 1.5e-3 * 150 / 300  # as the published weights were trained


# Several processes, devices, memory


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
