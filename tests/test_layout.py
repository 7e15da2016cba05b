"""The structure that the code promises: imports go one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import PROJECT

PACKAGE = PROJECT / "gtcrn_cli"
LAYERS = [
    "errors",
    "config",
    "footprint",
    "checkpoint",
    "memory",
    "spectrum",
    "fusion",
    "model",
    "packing",
    "simd",
    "kernel",
    "machine_code",
    "engines",
    "enhancer",
    "files",
    "pipe",
    "ring",
    "drift",
    "pulse",
    "devices",
    "soundcard",
    "ffmpeg",
    "pipeline",
    "live",
    "doctor",
    "service",
    "screen",
    "recordings",
    "measures",
    "comparison",
    "report",
    "storage",
    "manifest",
    "jobs",
    "cluster",
    "plan",
    "batch",
    "batch_report",
    "exporting",
    "contenders",
    "benchmark",
    "mixtures",
    "dnsmos",
    "losses",
    "training_ops",
    "growth",
    "training",
    "evaluation",
    "ablation",
    "cli",
]


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that `path` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and path.parent == PACKAGE:
            found |= {node.module} if node.module else {name.name for name in node.names}
    return found & set(LAYERS)


@pytest.mark.parametrize("module", [name for name in LAYERS if name != "cli"])
def test_imports_only_from_above(module: str):
    allowed = set(LAYERS[: LAYERS.index(module)])
    assert imported_modules(PACKAGE / f"{module}.py") <= allowed


def test_every_module_has_its_place():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(LAYERS) - {"cli"}
