"""The documentation site is built and its links lead somewhere; tutorial and notebook do what they show."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mtbert.app import cli
from mtbert.recipe.catalogue import list_methods
from tests.support.html import Seen
from tests.test_documents import ROOT, blocks, write_readme_files

TINY = "encoder={name: random, layers: 1, width: 16, heads: 2, inner: 16}"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """docs/build_site.py."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_method_has_its_place(site: ModuleType, tmp_path: Path) -> None:
    nav = site.write_source(tmp_path)
    listed = json.dumps(nav)
    for family, methods in list_methods().items():
        page = tmp_path / "methods" / f"{family.replace(' ', '_')}.md"
        headings = [line[3:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
        assert headings == list(methods)
        assert f"methods/{page.name}" in listed
    for page in (ROOT / "docs").rglob("*.md"):
        assert (tmp_path / page.relative_to(ROOT / "docs")).exists()


def test_a_dead_link_is_found(site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "one.html").write_text('<a href="two.html#there">x</a><a href="three.html">y</a><img src="no.png">')
    (tmp_path / "two.html").write_text('<h1 id="here">z</h1><a href="one.html">a</a><a href="#here">b</a>')
    assert site.dead_links(tmp_path) == [
        "one.html: no.png",
        "one.html: three.html",
        "one.html: two.html#there (no such place)",
    ]


@pytest.mark.skipif(find_spec("zensical") is None, reason="the extra docs is not installed")
def test_the_site_is_built_and_loads_nothing_from_elsewhere(
    site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "BUILD", tmp_path / "build")
    (tmp_path / "build").mkdir()
    with pytest.raises(SystemExit) as end:
        site.main()
    assert end.value.code == 0
    pages = list((tmp_path / "build" / "site").rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = [one for one in Seen(page.read_text(encoding="utf-8")).loads if one.startswith(("http", "//"))]
        assert loaded == [], page


def test_the_tutorial_does_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_readme_files(tmp_path)
    shown = [line for _, block in blocks(ROOT / "docs" / "tutorial.md", "") for line in block.splitlines()]
    assert len(shown) >= 8
    for line in shown:
        words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", [*words, TINY] if words[1] in ("train", "check") else words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, (line, capsys.readouterr().err)
    assert (tmp_path / "MINE" / "report.html").exists()
    assert (tmp_path / "answers.csv").read_text().startswith("id,prediction")


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    left: dict[str, Any] = {}
    for cell in cells:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "notebook.ipynb", "exec"), left)
    assert left["model"].tasks == ["mood", "near"]
