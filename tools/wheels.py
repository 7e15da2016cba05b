"""Where gtcrn's runtime dependencies install from wheels alone: by Python version and platform.

    python tools/wheels.py > docs/platforms.md

pip's own resolver is asked with --dry-run, so nothing is installed and what it names is what
`pip install` would take there. Environment markers (``sys_platform``) are those of the machine
that asks: ask on Linux, where most packages are needed. Takes two minutes, and the network.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from gtcrn_cli.markdown import table

PROJECT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t")
PLATFORMS = {
    "Linux, x86-64": [f"manylinux_2_{n}_x86_64" for n in (28, 27, 17)] + ["manylinux2014_x86_64"],
    "Linux, arm64": [f"manylinux_2_{n}_aarch64" for n in (28, 27, 17)] + ["manylinux2014_aarch64"],
    "Linux with musl (Alpine), x86-64": [f"musllinux_1_{n}_x86_64" for n in (2, 1)],
    "macOS, Apple silicon": [f"macosx_{n}_0_arm64" for n in range(15, 10, -1)],
    "macOS, Intel": [f"macosx_{n}_0_x86_64" for n in range(15, 10, -1)] + ["macosx_10_15_x86_64"],
    "Windows, x86-64": ["win_amd64"],
    "Windows, arm64": ["win_arm64"],
}
SHOWN = ("numpy", "numba", "llvmlite", "soundfile", "soxr", "typer")


def dependencies() -> list[str]:
    """The runtime dependencies as pyproject.toml has them."""
    import tomllib

    with (PROJECT / "pyproject.toml").open("rb") as file:
        found: list[str] = tomllib.load(file)["project"]["dependencies"]
    return found


def resolve(wanted: list[str], python: str, tags: list[str]) -> dict[str, str] | None:
    """Versions by name that pip would install from wheels; ``None`` if there is no such set."""
    version = python.removesuffix("t")
    abis = ["cp" + version.replace(".", "") + python[len(version) :], "none"]
    if abis[0][-1] != "t":
        abis.insert(1, "abi3")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        command += ["--target", folder, "--report", str(report), "--implementation", "cp"]
        command += ["--python-version", version, *(f"--abi={abi}" for abi in abis)]
        command += [f"--platform={tag}" for tag in tags]
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        chosen = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in chosen}


def cell(python: str, tags: list[str]) -> tuple[str, dict[str, str]]:
    """``yes``, or which dependencies alone have no wheel there; and what was chosen."""
    wanted = dependencies()
    chosen = resolve(wanted, python, tags)
    if chosen is not None:
        return "yes", chosen
    names = [re.split(r"[<>=;\[ ]", one)[0] for one in wanted]
    missing = [
        name
        for name, one in zip(names, wanted, strict=True)
        if resolve([one], python, tags) is None
    ]
    return "no " + ", ".join(missing) if missing else "no common versions", {}


def main() -> None:
    """Print the page."""
    rows, versions = [], {}
    for platform, tags in PLATFORMS.items():
        cells = []
        for python in PYTHONS:
            text, chosen = cell(python, tags)
            cells.append(text)
            if chosen:
                versions[f"{platform}, Python {python}"] = chosen
            print(f"{platform}, Python {python}: {text}", file=sys.stderr)
        rows.append([platform, *cells])
    print("# Platforms\n")
    print("Whether `pip install` finds wheels of all runtime dependencies, so that nothing has to")
    print("be compiled: by pip's own resolver, without installing. 3.14t is the free-threaded")
    print("build.\n")
    print("```sh\npython tools/wheels.py > docs/platforms.md\n```\n")
    print(table(["platform", *PYTHONS], rows))
    print("\nWhat is chosen (the newest Python that has all, on each platform):\n")
    newest = {}
    for place, chosen in versions.items():
        newest[place.rpartition(", Python ")[0]] = (place, chosen)
    shown = [[place, *(chosen.get(n, "-") for n in SHOWN)] for place, chosen in newest.values()]
    print(table(["where", *SHOWN], shown))
    today = datetime.date.today().isoformat()
    print(f"\nAsked on {today}. CI runs 3.10 and 3.13 on Linux, x86-64.\n")
    print("- Alpine: take an image with glibc, such as `python:3.13-slim`.")
    print("- Windows 11 on arm64 runs the Python for x86-64, for which there are all.")
    print("- Intel Macs: on the newest Python only a beta of Numba has wheels (see the table).")
    print("  It is within the bounds of pyproject.toml, but Python 3.13 is the safer choice.")


if __name__ == "__main__":
    main()
