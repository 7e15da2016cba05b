"""Networks side by side: trained alike, measured alike, and not trained twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from support.models import untrained
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import MissingExtraError, UserError
from gtcrn_cli.native.machine_code import load_kernel
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN, build_network
from gtcrn_cli.training import ablation, loop
from gtcrn_cli.training.ablation import gradient_norms, score, time_frames
from gtcrn_cli.training.clips import rehearsal

NAMES = ["none", "hybrid+dense+input+compress=4+bfloat16"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what is decoded once; not the user's."""
    load_kernel()  # from where it is kept
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _short_timing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(ablation, "TIMED_FRAMES", {"native": 3, "torch": 2})
    monkeypatch.setattr(ablation, "TIMED_ROUNDS", 2)


def run_ablation(folder: Path, *names: str, seeds: int = 2, steps: int = 2) -> Result:
    options: dict[str, Any] = {
        "speech": rehearsal("speech"),
        "noise": rehearsal("noise"),
        "steps": steps,
        "batch-s": 2,
        "warmup": 0,
        "seeds": seeds,
        "examples": 2,
        "workers": 0,
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    networks = [part for name in names for part in ("--config", name)]
    return CliRunner().invoke(app, ["ablate", str(folder), *arguments, *networks])


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    result = run_ablation(tmp_path, *NAMES)
    assert result.exit_code == 0, result.output
    for name in NAMES:
        assert f"| `{name}` |" in result.stdout
    assert "23,669" in result.stdout and "±" in result.stdout
    assert (tmp_path / "figure.svg").stat().st_size > 1000

    figures = json.loads((tmp_path / "results.json").read_text())
    assert [row["network"] for row in figures["rows"]] == NAMES
    for row in figures["rows"]:
        assert len(row["scores"]) == 2 and row["scores"][0] != row["scores"][1]
        assert len(row["gradients"]) == 5 and min(row["gradients"]) > 0
        assert row["frame_us"]["native"] < row["frame_us"]["torch"]
    trained = Checkpoint.load(tmp_path / f"{NAMES[1]}-2" / "model.safetensors")
    assert trained.config.name == NAMES[1]
    assert trained.card["recipe"]["seed"] == 2

    # Again, with one more network: what is trained stays.
    before = (tmp_path / "none-1" / "log.csv").read_bytes()
    again = run_ablation(tmp_path, *NAMES, "add")
    assert again.exit_code == 0
    assert (tmp_path / "none-1" / "log.csv").read_bytes() == before
    more = json.loads((tmp_path / "results.json").read_text())
    for old, new in zip(figures["rows"], more["rows"][:2], strict=True):
        assert (old["scores"], old["gradients"]) == (new["scores"], new["gradients"])


@pytest.mark.slow
def test_the_same_data_for_every_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, list[torch.Tensor]] = {name: [] for name in ("none", "gated")}
    forward = GTCRN.forward

    def hear(network: GTCRN, spectrum: torch.Tensor, *state: Any) -> Any:
        if network.training:
            heard[network.config.name].append(spectrum)
        return forward(network, spectrum, *state)

    monkeypatch.setattr(GTCRN, "forward", hear)
    result = run_ablation(tmp_path, *heard, seeds=1)
    assert result.exit_code == 0, result.output
    one, other = heard.values()
    assert len(one) == 2 and not torch.equal(*one)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_cannot_be_scored_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    result = run_ablation(tmp_path, "add")
    assert isinstance(result.exception, MissingExtraError)
    assert "gtcrn-cli[evaluate]" in str(result.exception)
    assert not (tmp_path / "add-1").exists()


def test_scores_are_kept_for_the_examples_that_they_are_of(
    tmp_path: Path, clean: np.ndarray, noisy: np.ndarray
) -> None:
    model = untrained(GTCRNConfig())
    pairs = [(noisy[begin : begin + 48_000, 0], clean[begin : begin + 48_000, 0])
             for begin in (0, 48_000)]  # fmt: skip
    first, other, again = (
        ablation._scores_of_run(tmp_path, model, [noisy], [clean])
        for noisy, clean in (pairs[0], pairs[1], pairs[1])
    )
    assert first != other == again


@pytest.mark.parametrize("name", ["sum", "add,add", "none+dense", "add+levels=7"])
def test_a_wrong_name_ends_before_anything_is_done(name: str, tmp_path: Path) -> None:
    result = run_ablation(tmp_path / "new", "add", name)
    assert result.exit_code == 2 and "--config" in result.output
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_another_plan_needs_another_folder(tmp_path: Path) -> None:
    assert run_ablation(tmp_path, "none", seeds=1).exit_code == 0
    ablation.require_results(tmp_path / "results.json", tmp_path / "figure.svg")
    result = CliRunner().invoke(
        app,
        [
            *("ablate", str(tmp_path), "--config", "none", "--steps", "2", "--batch-s", "3"),
            *("--speech", str(rehearsal("speech")), "--noise", str(rehearsal("noise"))),
            *("--workers", "0", "--examples", "1", "--seeds", "1"),
        ],
    )
    assert isinstance(result.exception, UserError)
    assert "another folder" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "content"),
    [("results.json", '{"mine": 1}'), ("results.json", "x"), ("figure.svg", "<svg>")],
)
def test_what_no_comparison_made_is_not_replaced(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    result = run_ablation(tmp_path, "add")
    assert f"{name} exists, and no comparison" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


def test_train_takes_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[GTCRNConfig] = []
    monkeypatch.setattr(loop, "train", lambda *_, config, **__: trained.append(config))

    def run_train(name: str) -> Result:
        folders = ("--speech", str(rehearsal("speech")), "--noise", str(rehearsal("noise")))
        return CliRunner().invoke(app, ["train", str(tmp_path), *folders, "--config", name])

    for name in ("hybrid+dense", '{"fusion": "hybrid", "dense": true}'):
        assert run_train(name).exit_code == 0
    assert trained == [GTCRNConfig("hybrid", dense=True)] * 2
    for wrong in ("sum", '{"fusoin": "add"}', "{", '{"skip_dtype": []}'):
        refused = run_train(wrong)
        assert refused.exit_code == 2 and "--config" in refused.output
        assert "fusoin" not in wrong or "no 'fusoin'" in refused.output


def test_gradient_norms_are_those_of_the_encoder_levels() -> None:
    network = build_network(untrained(GTCRNConfig()))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    network.encoder.en_convs[3].point_conv1.weight.grad[0, 0] = 3
    network.encoder.en_convs[3].depth_conv.bias.grad[5] = 4
    network.decoder.de_convs[0].point_conv1.bias.grad += 1
    assert gradient_norms(network) == pytest.approx([0, 0, 0, 5, 0])


def test_scores_are_means(clean: np.ndarray, noisy: np.ndarray) -> None:
    target, mixture = clean[:48_000, 0], noisy[:48_000, 0]
    both = score([target, mixture], [target, target])
    one = score([mixture], [target])
    assert both["STOI"] == pytest.approx((1 + one["STOI"]) / 2, abs=1e-3)
    assert both["WB-PESQ"] > one["WB-PESQ"]


def test_times_every_engine_with_every_network() -> None:
    configs = [GTCRNConfig.parse(name) for name in NAMES]
    times = time_frames(configs)
    assert list(times) == NAMES
    assert all(us > 0 for network in times.values() for us in network.values())
