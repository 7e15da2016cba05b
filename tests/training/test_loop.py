"""Training: it learns, goes on where it was stopped, and says what is wrong."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.models import untrained
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint, load_model
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.training import loop
from gtcrn_cli.training.clips import rehearsal
from gtcrn_cli.training.corpora import Corpora
from gtcrn_cli.training.loop import train
from gtcrn_cli.training.plan import Plan
from gtcrn_cli.training.recipe import Recipe
from gtcrn_cli.training.validation import validation_set

pytestmark = pytest.mark.slow  # each trains

PLAN = Plan(
    steps=6,
    batch_s=2.0,
    segments=((0.0, 0.5), (0.5, 1.0)),
    warmup=2,
    learning_rate=1e-3,
    freeze=0.8,
)
SMALL = {"workers": 0, "validate_every": 3, "validation_examples": 2}


def run_training(run: Path, halves: tuple[Corpora, Corpora], plan: Plan = PLAN, **options):
    """Train on the sample."""
    return train(run, plan, Recipe(), *halves, **{**SMALL, **options})


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two models have the very same weights."""
    return one.digest == other.digest


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    plan = replace(PLAN, quality=1.0)  # every term of the loss
    whole = run_training(tmp_path / "whole", halves, plan)

    def stop(row: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)

    for _ in range(2):  # reports come with the validations, after steps 2, 4 and 6
        with pytest.raises(KeyboardInterrupt):
            run_training(tmp_path / "parts", halves, plan, validate_every=2, report=stop)
    parts = run_training(tmp_path / "parts", halves, plan)
    assert same(whole, parts)
    assert same(Checkpoint.load(tmp_path / "parts" / "model.safetensors"), whole)


@pytest.mark.slow
def test_training_learns(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    rows: list[dict[str, float]] = []
    plan = replace(PLAN, steps=40, batch_s=4.0, segments=((0.0, 0.5),), learning_rate=3e-3)
    run_training(tmp_path, halves, plan, validate_every=100, report=rows.append)
    with (tmp_path / "log.csv").open() as file:
        log = [row for row in csv.DictReader(file) if row["loss"]]
    assert len(log) == 2 and float(log[1]["loss"]) < 0.9 * float(log[0]["loss"])
    assert {"valid_loss", "valid_si_sdr_db"} <= rows[-1].keys()


def test_a_model_that_no_run_made_is_not_replaced(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    (tmp_path / "model.safetensors").write_text("precious")
    with pytest.raises(UserError, match="no run that could go on: give another folder"):
        run_training(tmp_path, halves)
    assert (tmp_path / "model.safetensors").read_text() == "precious"


def test_nothing_is_added_to_a_table_that_is_no_log(
    tmp_path: Path, halves: tuple[Corpora, Corpora]
):
    (tmp_path / "log.csv").write_text("day,hours\nMonday,8\n")
    with pytest.raises(UserError, match=r"log\.csv exists, and is no log of a run"):
        run_training(tmp_path, halves)
    assert (tmp_path / "log.csv").read_text() == "day,hours\nMonday,8\n"


def test_the_card_says_how(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    run_training(tmp_path, halves, replace(PLAN, steps=1), card={"description": "mine"})
    card = Checkpoint.load(tmp_path / "model.safetensors").card
    assert card["description"] == "mine" and card["recipe"]["steps"] == 1
    assert card["hours"] == pytest.approx(2 / 3600, abs=0.01)
    assert "valid_loss" in card["validation in training"]


def test_another_plan_is_refused_half_way(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    run_training(tmp_path, halves, replace(PLAN, steps=1))
    with pytest.raises(UserError, match=r"started with --learning-rate 0.001, not 0.5"):
        run_training(tmp_path, halves, replace(PLAN, learning_rate=0.5))
    train_half, valid_half = halves
    half = replace(train_half.noise, lengths=train_half.noise.lengths // 2)
    for kind, others in (
        ("speech", replace(train_half, speech=valid_half.speech)),
        ("noise", replace(train_half, noise=half)),
        ("rooms", replace(train_half, rooms=[np.ones(9, np.float32)])),
    ):
        with pytest.raises(UserError, match=rf"started with other {kind}: .*--start-from"):
            run_training(tmp_path, (others, valid_half), PLAN)
    with pytest.raises(UserError, match=r"trains the network add, not gated: give --config add"):
        run_training(tmp_path, halves, config=GTCRNConfig.parse("gated"))
    run_training(tmp_path, halves, replace(PLAN, steps=2))  # more steps are no other plan
    (tmp_path / "last.pt").write_bytes(b"half a fi")
    with pytest.raises(UserError, match=r"last\.pt is damaged, or no run"):
        run_training(tmp_path, halves)


def test_begins_with_the_weights_given(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    shipped = load_model()
    plan = replace(PLAN, steps=1, learning_rate=1e-9, weight_decay=0.0, freeze=0.0)
    trained = run_training(tmp_path, halves, plan, start_from=shipped)
    for name, weights in shipped.weights.items():
        np.testing.assert_allclose(trained.weights[name], weights, atol=1e-6)


@pytest.mark.slow
def test_an_anchor_holds(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    shipped = load_model()
    distances = []
    for anchor in (0.0, 300.0):
        plan = replace(PLAN, warmup=1, weight_decay=0.0, anchor=anchor, freeze=0.0)
        trained = run_training(tmp_path / str(anchor), halves, plan, start_from=shipped)
        distances.append(
            sum(np.abs(trained.weights[n] - w).sum() for n, w in shipped.weights.items())
        )
    assert 0 < distances[1] < 0.8 * distances[0]


def test_a_full_disk_is_said(
    tmp_path: Path, halves: tuple[Corpora, Corpora], monkeypatch: pytest.MonkeyPatch
):
    save = torch.save

    def no_space(state: object, file: object, **options: object) -> None:
        if hasattr(file, "name"):
            raise OSError(28, "No space left on device")
        save(state, file, **options)

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(UserError, match=r"cannot save the run .* No space left"):
        run_training(tmp_path, halves, replace(PLAN, steps=1))
    assert not list(tmp_path.glob(".last*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_too_full_for_the_log_is_said(tmp_path: Path, halves: tuple[Corpora, Corpora]):
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*log.csv: No space left"):
        run_training(tmp_path, halves)


# The commands, as a user runs them


@pytest.fixture
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder that a user has: mixed rates, two speakers, two noises. And what is trained
    in this process is validated with 4 examples, not with 64.
    """
    monkeypatch.setattr(
        loop, "validation_set", lambda valid, seed, count: validation_set(valid, seed, 4)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number, (speaker, rate) in enumerate((("anna", 44_100), ("ben", 16_000), ("cara", 8_000))):
        folder = tmp_path / "speech" / speaker
        folder.mkdir(parents=True)
        time_s = np.arange(2 * rate) / rate
        tone = np.sin(2 * np.pi * (150 + 40 * number) * time_s) * (np.sin(6 * time_s) > 0)
        soundfile.write(folder / "a.wav", 0.4 * tone, rate)
    (tmp_path / "noise").mkdir()
    for name in ("fan", "street"):
        soundfile.write(tmp_path / "noise" / f"{name}.flac", 0.1 * rng.normal(size=48_000), 48_000)
    return tmp_path


@pytest.mark.slow
def test_train_from_folders(material: Path):
    arguments = ["train", str(material / "run"), "--speech", str(material / "speech"),
                 "--noise", str(material / "noise"), "--steps", "2", "--batch-s", "2",
                 "--workers", "0", "--validate-every", "2",
                 "--config", '{"fusion": "attention"}']  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "step 2" in result.stderr and "model.safetensors" in result.stderr
    model = Checkpoint.load(material / "run" / "model.safetensors")
    assert model.card["recipe"]["steps"] == 2
    assert model.config.fusion == "attention"


@pytest.mark.slow
def test_trains_a_larger_network_from_a_smaller_one(material: Path):
    untrained(GTCRNConfig()).save(material / "small.safetensors")
    arguments = ["train", str(material / "run"), "--speech", str(material / "speech"),
                 "--noise", str(material / "noise"), "--steps", "1", "--batch-s", "2",
                 "--workers", "0", "--start-from", str(material / "small.safetensors"),
                 "--config", "concat+dense"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert Checkpoint.load(material / "run" / "model.safetensors").config.name == "concat+dense"


@pytest.mark.slow
def test_finetune_from_noise_alone(material: Path):
    arguments = ["finetune", str(material / "mine"), "--noise", str(material / "noise"),
                 "--steps", "2", "--batch-s", "2", "--workers", "0"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    model = Checkpoint.load(material / "mine" / "model.safetensors")
    assert model.card["fitted from"]["sha256"] == load_model().digest
    assert not same(model, load_model())


@pytest.mark.slow
def test_writes_validation_files(material: Path):
    target = material / "validation"
    arguments = ["train", str(material / "run"), "--speech", str(rehearsal("speech")),
                 "--noise", str(rehearsal("noise")), "--write-validation", str(target)]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    noisy, clean = sorted((target / "noisy").iterdir()), sorted((target / "clean").iterdir())
    assert [p.name for p in noisy] == [p.name for p in clean] and len(noisy) == 200
    assert not (material / "run").exists()
    again = CliRunner().invoke(app, arguments)
    assert "has files in it already: give another folder" in str(again.exception)


@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_a_wrong_folder_is_said(material: Path, kind: str):
    paths = {"speech": material / "speech", "noise": material / "noise"}
    paths[kind] = material / "empty"
    paths[kind].mkdir()
    options = [f"--{name}={path}" for name, path in paths.items()]
    result = CliRunner().invoke(app, ["train", str(material / "run"), *options])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"no {kind} found")


@pytest.mark.slow
def test_killed_and_gone_on(material: Path):
    """SIGTERM saves; the mixing process ends, too; the same command goes on, here for two steps."""
    arguments = ["train", str(material / "run"),
                 "--speech", str(material / "speech"), "--noise", str(material / "noise"),
                 "--batch-s", "2", "--workers", "1", "--steps"]  # fmt: skip
    command = [sys.executable, "-m", "gtcrn_cli", *arguments, "100000"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step"):
                break
        os.killpg(process.pid, signal.SIGTERM)  # as a terminal or a service manager does
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert said.endswith("gtcrn: stopped by SIGTERM\n")

    def step() -> int:
        return torch.load(material / "run" / "last.pt", weights_only=True)["step"]

    saved = step()
    assert 0 < saved < 100_000
    assert not list((material / "run").glob(".last*"))
    result = CliRunner().invoke(app, [*arguments, str(saved + 2)])
    assert result.exit_code == 0, result.output
    assert step() == saved + 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_too_little_memory_is_said(material: Path):
    code = (
        "import re, resource, torch; from pathlib import Path; from gtcrn_cli.cli import main;"
        "status = Path('/proc/self/status').read_text();"
        "size = 1024 * int(re.search(r'VmSize:\\s+(\\d+)', status)[1]) + (1 << 30);"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size)); main()"
    )
    command = [sys.executable, "-c", code, "train", str(material / "run"),
               "--speech", str(material / "speech"), "--noise", str(material / "noise"),
               "--steps", "1", "--batch-s", "200", "--workers", "0"]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1
    message = process.stderr.splitlines()[-1]
    assert message.startswith("gtcrn: memory does not suffice") and "--batch-s" in message
