"""The README's commands and code do what it says, here and in continuous integration."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import PROJECT

README = (PROJECT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_every_command_and_option_it_names_exists():
    """Each `gtcrn ...` line parses as far as its command and options go."""
    from typer.main import get_command

    from gtcrn_cli.cli import app

    root = get_command(app)
    blocks = "".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    lines = re.findall(r"(?:^|\| )gtcrn ([^|#>\n]+)", blocks, flags=re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line)
        command = root
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not root, line
        known = {option for param in command.params for option in param.opts}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, line


def test_ci_runs_both_of_its_commands():
    script = (PROJECT / ".ci" / "run").read_text()
    for environment in (".venv", ".venv-test"):
        assert f"python3 -m venv {environment} " in README
        assert f"run_readme {environment}\n" in script
    assert ".venv-test/bin/pytest -n 2\n" in README


def test_ci_runs_with_the_oldest_and_a_new_python():
    """In a container whose ``python3`` it is: that is what `.ci/run` takes."""
    workflow = (PROJECT / ".github" / "workflows" / "ci.yml").read_text()
    oldest = re.search(r'requires-python = ">=(.*)"', (PROJECT / "pyproject.toml").read_text())[1]
    assert f'python: ["{oldest}", "3.13"]' in workflow
    assert "container: python:${{ matrix.python }}-" in workflow
    assert "- run: .ci/run\n" in workflow


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_its_python_code_runs(code: str, tmp_path: Path):
    """As it stands there, where the example recording is at hand."""
    (tmp_path / "examples").mkdir()
    shutil.copy(PROJECT / "examples" / "noisy.wav", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_it_has_python_code():
    assert PYTHON
