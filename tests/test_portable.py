"""What a machine may lack, and how its paths may look."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import mtbert

ONLY_UNIX = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog")


def test_no_module_of_one_platform_is_imported_with_ours() -> None:
    package = Path(mtbert.__file__).parent
    names = [".".join(("mtbert", *path.relative_to(package).with_suffix("").parts)) for path in package.rglob("*.py")]
    assert len(names) > 50
    program = (
        "import sys, importlib\n"
        f"for name in {ONLY_UNIX!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "from mtbert.cost import peak_memory_gib\n"
        "assert peak_memory_gib() is None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_is_typed() -> None:
    assert (Path(mtbert.__file__).parent / "py.typed").exists()


def test_nothing_is_drawn_where_nothing_is_shown() -> None:
    program = "import sys, mtbert.app.cli, mtbert.reports.conflict; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_folders_and_files_may_have_spaces_and_other_scripts(
    small_recipe: dict[str, Any], small_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mein Ordner" / "данные 数据"
    folder.mkdir(parents=True)
    for path in small_data.iterdir():
        path.rename(folder / f"é {path.name}")
    for task in small_recipe["tasks"].values():
        task |= {split: f"é {task[split]}" for split in ("train", "dev", "test")}
    run = mtbert.train(small_recipe, data=folder, out=tmp_path / "ein Lauf ☃")
    assert mtbert.load(run.folder).predict("mood", ["good film"])
    assert importlib.import_module("mtbert.runs.evaluate").evaluate_run(run.folder).as_dict() == run.scores["dev"]
