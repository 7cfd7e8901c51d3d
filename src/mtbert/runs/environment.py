"""What a result depends on besides the recipe: versions, hardware, and the data itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mtbert.data.labels import as_arrays
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.model.files import checksum
from mtbert.model.multitask import MultiTask
from mtbert.model.world import world

LIBRARIES = ("mtbert", "torch", "numpy", "tokenizers", "safetensors", "pyarrow")


# what the last bits of a result depend on, besides the recipe and the data
BITS = ("python", "versions", "system", "processor", "capability", "threads", "processes", "device")


@dataclass(frozen=True)
class DataRecord:
    """What a run remembers of the rows that it read for a task's split."""

    rows: int
    skipped: int
    sha256: str | None


@dataclass(frozen=True)
class EncoderRecord:
    """Where a run's encoder came from."""

    commit: str | None


@dataclass(frozen=True)
class Environment:
    """The types of what others read in environment.json; earlier versions wrote less."""

    versions: dict[str, str] = field(default_factory=dict)
    data: dict[str, DataRecord] = field(default_factory=dict)
    encoder: EncoderRecord | None = None
    tokenizer: str | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)


def environment(
    model: MultiTask,
    rows: Mapping[str, Mapping[str, Rows]],
    tokenizer: Tokenizer,
    encoder_commit: str | None = None,
) -> dict[str, Any]:
    """Versions, git revision, hardware and hashes; `rows` is split -> task -> rows as read.

    `encoder_commit` is the hub's commit that the encoder came from, where it came from there.
    """
    device = next(model.parameters()).device
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "git": _git_revision(),
        "system": platform.platform(),
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),  # the instructions that torch has chosen
        "threads": torch.get_num_threads(),
        "processes": world().size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder": {"commit": encoder_commit},
        "tokenizer": hashlib.sha256(tokenizer.definition.encode()).hexdigest(),
        "data": {
            f"{task}.{split}": record_of(read) for split, by_task in rows.items() for task, read in by_task.items()
        },
    }


def changes(then: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What the environments of a run's beginning and of now say differently: name -> as it is now."""
    return {name: now[name] for name in names if name in then and then[name] != now[name]}


def data_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, how the data of now differs from what an environment holds."""
    said = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if before is None or after is None:
            said.append(f"{name} is {'new' if before is None else 'gone'}")
        elif before["rows"] != after["rows"]:
            said.append(f"{name} had {before['rows']:,} rows and now has {after['rows']:,}")
        elif before["sha256"] not in (None, after["sha256"]):  # early versions took no hash of tables in memory
            said.append(f"{name} has {after['rows']:,} rows as before, but not the same")
    return said


def bits_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, how what the last bits depend on differs from what an environment holds."""
    said = []
    for name, value in changes(then, now, BITS).items():
        before = then[name]
        if name == "versions":
            said += [
                f"{one} {before.get(one)} -> {version}" for one, version in value.items() if before.get(one) != version
            ]
        else:
            said.append(f"{name} {before} -> {value}")
    return said


def record_of(rows: Rows) -> dict[str, Any]:
    """What a run remembers of rows that it read, as its environment holds it."""
    return {"rows": len(rows), "skipped": len(rows.skipped), "sha256": _hash(rows)}


def _hash(rows: Rows) -> str:
    """The SHA-256 of the file that rows were read from or, for a table in memory, of its texts and labels."""
    if os.path.isfile(rows.name):
        return checksum(Path(rows.name))
    digest = hashlib.sha256()
    for column in rows.texts:
        for text in column:
            content = text.as_buffer()
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    if rows.labels is not None:
        for part in as_arrays("labels", rows.labels).values():
            digest.update(part.tobytes())
    return digest.hexdigest()


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def processor() -> str:
    """The processor's name, as its maker writes it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
