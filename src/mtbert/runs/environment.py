"""What a result depends on besides the recipe: versions, hardware, and the data itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mtbert.data.tables import Rows
from mtbert.model.multitask import MultiTask

LIBRARIES = ("mtbert", "torch", "numpy", "tokenizers", "safetensors", "pyarrow")


def environment(model: MultiTask, rows: Mapping[str, Mapping[str, Rows]]) -> dict[str, Any]:
    """Versions, git revision, hardware and hashes; `rows` is split -> task -> rows as read."""
    device = next(model.parameters()).device
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "git": _git_revision(),
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": {
            f"{task}.{split}": {"rows": len(read), "skipped": len(read.skipped), "sha256": _hash(read.name)}
            for split, by_task in rows.items()
            for task, read in by_task.items()
        },
    }


def _hash(name: str) -> str | None:
    if not os.path.isfile(name):
        return None
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
