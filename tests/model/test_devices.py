"""Precision: what a recipe's word is on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mtbert
from mtbert.errors import Mistake
from mtbert.model import devices
from mtbert.model.devices import PRECISIONS, autocast, settled

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="the system does not list what its processor can do")
def test_auto_is_bfloat16_where_the_processor_multiplies_it() -> None:
    flags = CPUINFO.read_text(encoding="utf-8").split()
    real = "avx512_bf16" in flags or "amx_bf16" in flags
    assert settled("auto", torch.device("cpu")) == ("bfloat16" if real else "float32")


@pytest.mark.parametrize("real", [True, False])
def test_auto_asks_an_accelerator_what_its_hardware_does(monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or real

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert settled("auto", torch.device("cuda")) == ("bfloat16" if real else "float32")


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_in_the_precision_that_was_named(name: str, dtype: torch.dtype) -> None:
    cpu = torch.device("cpu")
    with autocast(cpu, PRECISIONS[settled(name, cpu)]):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_run_goes_on_in_the_precision_it_was_begun_in(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_recipe["stages"][0] |= {"steps": 1}
    monkeypatch.setattr(devices, "_multiplies_bfloat16", lambda device: True)
    run = mtbert.train(small_recipe | {"precision": "auto"}, out=tmp_path / "run")
    assert "precision: bfloat16" in (run.folder / "recipe.yaml").read_text()
    monkeypatch.setattr(devices, "_multiplies_bfloat16", lambda device: False)  # another machine
    with pytest.raises(Mistake, match="now: `precision: float32`"):
        mtbert.train(small_recipe | {"precision": "auto"}, out=tmp_path / "run", resume=True)
    mtbert.train(small_recipe | {"precision": "bfloat16"}, out=tmp_path / "run", resume=True)
