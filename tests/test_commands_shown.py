"""Every command on every page runs, on tiny data and with tiny encoders: page by page, in the pages' order.

README.md and the tutorial are run in tests of their own, line by line.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import yaml

import mtbert
from mtbert.app import cli
from tests.support.course_data import write_course_data
from tests.support.small import sentence
from tests.test_documents import ROOT, commands_of, write_readme_files
from tests.test_site import TINY

ALONE = {"schema", "cache"}  # commands that say something without an argument; others are then only named
ELSEWHERE = {  # what is not run here, and where it is
    "mtbert bench": "tests/bench",
    "mtbert compare recipe.yaml other.yaml --folds": "tests/comparison/test_folds.py",  # on rows that share no texts
    "mtbert demo": "tests/app/test_demo.py",
    "mtbert init my_data": "tests/test_documents.py",  # beside README's, which is the same
    "mtbert orderings --data": "tests/reproduction/test_orderings.py",
    "mtbert predict RUN --input rows": "tests/serving/test_ray.py",
    "mtbert push": "tests/shipping/test_card.py",  # without a hub
    "mtbert reproduce R2": "tests/reproduction/test_reproduce.py",
    "mtbert serve": "tests/server",
}
FEWER = [  # what only makes a command take longer, or asks for more than tiny models give
    (r"--seeds \d+", "--seeds 1"),
    (r"--trials \d+", "--trials 3"),
    (r"--budget examples=\d+", "--budget examples=64 --seeds 1 --encoder random"),
    (r"--steps \d+ --every \d+", "--steps 2 --every 2"),
    (r"--minutes \d+", "--minutes 0.05"),
    (r"epochs=\d+", "epochs=1"),
    (r"\.steps=\d+", ".steps=2"),
    (r"precision=bfloat16", "precision=float32"),  # what a processor may not have
    (r"--int8", "--int8 --bound 1"),  # what a tiny model loses says nothing
]
MEANT = [  # names that stand for others
    (r"--data (DIR|DATA|\.\./shared/data)", "--data ../shared/data"),
    (r"methods NAME", "methods adapter"),
    (r"--task NAME", "--task mood"),
    (r"--task T --out", "--task mood --out"),
    (r"--task T --input FILE", "--task sentiment --input ../shared/data/ids-sst-dev.csv"),
]


def runnable(text: str) -> bool:
    return (len(text.split()) > 2 or text.split()[1] in ALONE) and not text.startswith(tuple(ELSEWHERE))


COMMANDS: dict[str, list[str]] = {}  # page -> commands, in their order; recipes that go on from others stand last
for place, text in sorted(commands_of("mtbert"), key=lambda shown: "mtbert add-task runs/" in shown.text):
    page = "recipes" if place.startswith("recipes/") else place.split(",")[0]
    if page not in ("README.md", "docs/tutorial.md") and "NAME RUN" not in text and runnable(text):
        COMMANDS.setdefault(page, []).append(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages speak of it: recipes/ and experiments/ with less to do, data of the course beside it, the
    reader's own files and recipes, and runs of these.
    """
    place = tmp_path_factory.mktemp("world")
    write_course_data(place / "shared" / "data")
    folder = place / "project"
    folder.mkdir()
    write_readme_files(folder)
    recipe = (folder / "recipe.yaml").read_text()
    for before, more in (
        ("label: mood\n", "    pooling: pooler\n"),
        ("epochs: 3\n", "    observe: [{name: conflict, every: 4}]\n"),
    ):
        assert recipe.count(before) == 1  # what some commands ask of a run
        recipe = recipe.replace(before, before + more)
    (folder / "recipe.yaml").write_text(recipe)
    for name in ("plain", "adapter", "mine", "sts"):
        shutil.copyfile(folder / "recipe.yaml", folder / f"{name}.yaml")
    with (folder / "adapter.yaml").open("a") as file:
        file.write("modules: [adapter]\n")
    shutil.copyfile(folder / "new_task.yaml", folder / "new.yaml")
    (folder / "space.yaml").write_text("stages.0.optimizer.lr: {low: 2.0e-5, high: 3.0e-4, log: true}\n")
    shutil.copyfile(folder / "my_data" / "reviews-dev.tsv", folder / "million.tsv")
    (folder / "new.jsonl").write_text(f'{{"a": "{sentence(1)}", "b": "{sentence(2)}"}}\n' * 9)
    run = mtbert.train(folder / "recipe.yaml", out=folder / "RUN")
    for name in ("RUN1", "RUN2", "RUN3"):
        shutil.copytree(run.folder, folder / name)
    for kind in ("recipes", "experiments"):
        (folder / kind).mkdir()
        for path in ROOT.glob(f"{kind}/*.yaml"):
            small = less(yaml.safe_load(path.read_text(encoding="utf-8")))
            (folder / kind / path.name).write_text(yaml.safe_dump(small, sort_keys=False))
    return place


def less(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe with a tiny encoder and a single epoch; a grid with its first two rows and few steps."""
    if "rows" in content:
        common = [re.sub(r"(steps|evaluate_every)=\d+", r"\1=2", one) for one in content.get("common", [])]
        small = [re.sub("precision=bfloat16", "precision=float32", one) for one in common]
        return content | {"common": small, "rows": dict(list(content["rows"].items())[:2])}
    if "encoder" in content:
        content["encoder"] = yaml.safe_load(TINY.removeprefix("encoder="))
    for stage in content.get("stages", []):
        stage.pop("evaluate_every", None)
        stage["epochs"] = 1
    return content


def prepared(text: str) -> list[str]:
    """The words of a command, with what it names and how much it does as it is here."""
    for pattern, here in (*MEANT, *FEWER):
        text = re.sub(pattern, here, text)
    words = shlex.split(text)
    if len(words) == 2:
        return words
    out = Path(words[words.index("--out") + 1]) if "--out" in words else Path("runs", Path(words[2]).stem)
    if out.is_dir() and "--resume" not in words:  # a command is shown as it is where nothing is yet
        shutil.rmtree(out)
    return words


def paged(page: str) -> Any:
    """Pages with grids of runs and with graphs take too long for every change."""
    slow = page.startswith(("docs/results/", "benchmarks/", "docs/serving.md"))
    return pytest.param(page, marks=pytest.mark.long if slow else ())


@pytest.mark.filterwarnings("ignore")  # of libraries that loggers import
@pytest.mark.parametrize("page", [paged(page) for page in COMMANDS])
def test_the_commands_of_a_page_run(
    page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = shutil.copytree(world, tmp_path / "world")
    for recipe in here.glob("project/RUN*/recipe.yaml"):  # its data are the copy's
        recipe.write_text(recipe.read_text().replace(str(world), str(here)))
    monkeypatch.chdir(here / "project")
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    for text in COMMANDS[page]:
        words = prepared(text)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, (text, words, capsys.readouterr().err)


def test_what_is_run_elsewhere_is_shown_and_tested_there() -> None:
    shown = [text for _, text in commands_of("mtbert")]
    for command, place in ELSEWHERE.items():
        assert any(text.startswith(command) for text in shown), command
        path = ROOT / place
        files = list(path.glob("*.py")) if path.is_dir() else [path]
        word = command.split()[1]
        assert any(word in file.read_text(encoding="utf-8") for file in files), (command, place)
