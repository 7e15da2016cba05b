"""A run that goes on is the same run, or is refused with what to give; what is bad stays out."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import untrained
from support.training import PLAN, Halves, kept_run, run_training, stopped
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.training import loop
from gtcrn_cli.training.clips import rehearsal
from gtcrn_cli.training.plan import GOING_ON, Plan
from gtcrn_cli.training.run import Circumstances

pytestmark = pytest.mark.slow  # most of them train

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
