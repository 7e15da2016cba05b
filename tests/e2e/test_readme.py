"""The README's commands do what it says."""

from __future__ import annotations

import re
import shlex

from support.places import PROJECT

README = (PROJECT / "README.md").read_text()


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
