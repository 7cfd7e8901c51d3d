"""`mtbert cache`, and what a command says where the cache cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mtbert.app.cli
from mtbert.data.tokenizer import Tokenizer
from mtbert.recipe.text import as_text


def said_by(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["mtbert", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        mtbert.app.cli.main()
    assert end.value.code in (0, None)
    return capsys.readouterr()


def test_the_cache_is_shown_and_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    tokenizer = Tokenizer.from_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    for text in ("a", "a a"):
        tokenizer.encode_once(pa.chunked_array([[text]]))
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())

    said, _ = said_by(capsys, monkeypatch, "cache", "--json")
    assert json.loads(said) == {
        "folder": str(tmp_path / "cache"),
        "entries": 2,
        "gib": pytest.approx(size / 2**30),
        "limit_gib": 4.0,
    }
    said, _ = said_by(capsys, monkeypatch, "cache")
    assert said == f"{tmp_path / 'cache'}: 2 columns of texts, 0.000 of at most 4 GiB\n"
    said, _ = said_by(capsys, monkeypatch, "cache", "--clear")
    assert "0 columns of texts" in said
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_a_cache_that_cannot_be_used_is_one_note(
    tmp_path: Path,
    small_recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "file"))
    (tmp_path / "recipe.yaml").write_text(as_text(small_recipe))
    _, noted = said_by(capsys, monkeypatch, "check", str(tmp_path / "recipe.yaml"), "--quiet")
    assert noted.count("note: the token cache is not used: ") == 1


def test_the_library_says_nothing_by_itself(tmp_path: Path) -> None:
    program = (
        "import pyarrow as pa\n"
        "from mtbert.data.tokenizer import Tokenizer\n"
        "Tokenizer.from_pieces(['[PAD]', '[UNK]', '[CLS]', '[SEP]']).encode_once(pa.chunked_array([['x']]))\n"
    )
    (tmp_path / "file").write_text("x")
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MTBERT_CACHE": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout + said.stderr == ""
