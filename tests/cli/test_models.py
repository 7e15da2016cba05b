"""`gtcrn models`: listing, adding and removing, and nothing outside the folder of models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint, shipped_models_dir, user_models_dir


@pytest.fixture
def mine(shipped: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    shipped.save(path)
    return path


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["models", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_what_was_added_is_listed_and_can_be_removed(mine: Path):
    run("add", mine)
    assert "mine" in run() and run() == run("list")
    with pytest.raises(UserError, match="--overwrite"):
        run("add", mine)
    run("add", mine, "--overwrite")
    run("remove", "mine")
    assert "mine" not in run() and mine.exists()
    with pytest.raises(UserError, match="no model mine was added"):
        run("remove", "mine")


@pytest.mark.parametrize(
    "name", ["../gtcrn", "a/b", "/tmp/a", "", ".", "..", ".hidden", "-q", "a\nb", "x.safetensors"]
)
def test_names_stay_inside_the_folder_of_models(name: str, mine: Path):
    for words in (("add", f"--name={name}", mine), ("remove", "--", name)):
        with pytest.raises(UserError, match="no name for a model"):
            run(*words)
    assert not user_models_dir().exists()


def test_a_shipped_model_is_hidden_only_if_asked_for_and_never_removed(mine: Path):
    with pytest.raises(UserError, match="a model gtcrn-plain exists"):
        run("add", mine, "--name", "gtcrn-plain")
    with pytest.raises(UserError, match="comes with gtcrn"):
        run("remove", "gtcrn-plain")
    run("add", mine, "--name", "gtcrn-plain", "--overwrite")
    assert "the shipped one again" in run("remove", "gtcrn-plain")
    assert (shipped_models_dir() / "gtcrn-plain.safetensors").exists()


def test_a_damaged_model_does_not_end_the_list(mine: Path):
    run("add", mine)
    (user_models_dir() / "torn.safetensors").write_bytes(b"\x10")
    assert "mine" in run() and "not a readable model" in run()


def test_a_damaged_card_is_not_added_and_listed_as_such(shipped: Checkpoint, tmp_path: Path):
    bad = replace(shipped, card=[])  # type: ignore[arg-type]
    bad.save(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="not a readable model"):
        run("add", tmp_path / "bad.safetensors")
    bad.save(user_models_dir() / "bad.safetensors")
    assert "bad              (damaged: " in run()


def test_a_card_is_somebodys_word(shipped: Checkpoint, tmp_path: Path):
    """It replaces nothing that is known, and moves nothing on a terminal."""
    said = {"sha256": "0" * 64, "file": "elsewhere", "description": "a\nb\x1b[2J\x9b1m\u202eé"}
    replace(shipped, card=said).save(tmp_path / "odd.safetensors")
    run("add", tmp_path / "odd.safetensors")
    (line,) = (line for line in run().split("\n") if "odd" in line)
    assert line.endswith(r"a\nb\u001b[2J\u009b1m\u202eé")
    printed = run("show", "odd")
    facts = json.loads(printed)
    assert facts["sha256"] == shipped.digest and facts["file"].endswith("odd.safetensors")
    assert facts["sha256 (by the card)"] == "0" * 64
    assert facts["description"] == said["description"] and "\x9b" not in printed
