"""The page of a run: its numbers are those of the run and of scikit-learn, its texts are text, and it loads nothing."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import pearsonr

import mtbert
from mtbert.app import cli
from mtbert.data.kinds.table import KINDS
from mtbert.errors import Mistake
from mtbert.model.files import OUTPUTS
from mtbert.pages.run_page import run_page
from mtbert.pages.write import write_page
from mtbert.runs.folder import BEST, PAGE, Run
from mtbert.serving.predictor import Predictor
from tests.support.browser import CHROMIUM, browser, needs_chromium
from tests.support.html import Seen
from tests.support.small import recipe_over, with_more_kinds, write_small_data

HOSTILE = '<script>alert("x")</script> \u202egnirts\u202c & <img src="//evil.example/x"> good film'

# what a person with a mouse can open, follow or move sideways
ACTS = """[...document.querySelectorAll('a[href], summary, main *')].filter(one => one.checkVisibility() && (
    one.matches('a[href], summary')
    || /auto|scroll/.test(getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth))"""


def recipe_with_all(data: Path) -> dict[str, Any]:
    """The small recipe with everything that a page may show of training."""
    recipe = recipe_over(data)
    recipe["stages"][0] |= {
        "observe": [
            {"name": "conflict", "every": 4},
            {"name": "affinity", "every": 4},
            {"name": "penalties", "every": 4},
        ],
        "regularizers": [{"name": "r_drop", "weight": 0.1}],
    }
    return recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose texts are hostile here and there."""
    folder = tmp_path_factory.mktemp("page")
    data = write_small_data(folder / "data")
    dev = data / "mood-dev.tsv"
    lines = dev.read_text(encoding="utf-8").splitlines()
    hostile = [line.split("\t") for line in lines[1:]]
    lines[1:] = ["\t".join([row[0], HOSTILE if number % 2 else row[1], row[2]]) for number, row in enumerate(hostile)]
    dev.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return mtbert.train(recipe_with_all(data), out=folder / "run")


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run_page(run)


@pytest.fixture(scope="module")
def seen(page: str) -> Seen:
    return Seen(page)


def predicted(run: Run, task: str, file: str) -> tuple[list[str], list[dict[str, str]]]:
    """The predictions of the kept model for a file, and its rows."""
    data = Path(run.recipe().data) / file
    predictions = Predictor.load(run.folder).predict_table(task, data).columns["prediction"]
    if file.endswith(".jsonl"):
        return list(predictions), [json.loads(line) for line in data.read_text().splitlines()]
    with data.open(encoding="utf-8", newline="") as lines:
        return list(predictions), list(csv.DictReader(lines, delimiter="\t" if file.endswith("tsv") else ","))


def test_scores_are_those_of_the_run(run: Run, seen: Seen) -> None:
    rows = seen.table("task", "metric", "score")
    said, task = {}, ""
    for name, metric, score, _, constant, _ in rows[:-1]:
        task = name or task
        said[task, metric] = score, constant
    kept = run.scores
    assert said == {
        (task, metric): (f"{value:.4f}", f"{kept['constant']['tasks'][task][metric]:.4f}")
        for task, metrics in kept["dev"]["tasks"].items()
        for metric, value in metrics.items()
    }
    assert rows[-1][2] == f"{kept['dev']['overall']:.4f}"


def test_confusion_and_classes_are_scikit_learns(run: Run, seen: Seen) -> None:
    predictions, rows = predicted(run, "mood", "mood-dev.tsv")
    labels, names = [row["mood"] for row in rows], ["low", "mid", "high"]
    counted = sklearn.metrics.confusion_matrix(labels, predictions, labels=names)
    assert [[int(cell) for cell in row[1:]] for row in seen.table("label", *names)] == counted.tolist()
    measured = sklearn.metrics.precision_recall_fscore_support(labels, predictions, labels=names, zero_division=0)
    for row, name, *numbers in zip(seen.table("class", "precision"), names, *measured, strict=False):
        assert row == [name, *(f"{number:.3f}" for number in numbers[:3]), str(numbers[3])]


def test_written_outputs_give_the_scores(run: Run) -> None:
    predictions, rows = predicted(run, "near", "near-dev.jsonl")
    low, high = 0.0, 5.0
    assert low <= min(predictions)
    assert max(predictions) <= high
    from safetensors.torch import load_file

    raw = load_file(run.folder / BEST / OUTPUTS)["near"].double().numpy()[:, 0] * 5
    assert np.allclose(np.clip(raw, low, high), predictions, atol=1e-5)
    correlation = pearsonr(raw, [row["score"] for row in rows]).statistic
    assert run.scores["dev"]["tasks"]["near"]["pearson"] == pytest.approx(correlation, abs=1e-5)


def test_curves_end_where_the_log_does(run: Run, page: str) -> None:
    last = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines() if '"step"' in line]
    steps = [line for line in last if line["type"] == "step" and "mood" in line["terms"]]
    first, end = steps[0]["terms"]["mood"]["loss"], steps[-1]["terms"]["mood"]["loss"]
    assert f"loss: {first:.4g} at first, {end:.4g} at last" in page


def test_texts_are_text(page: str, seen: Seen) -> None:
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert '<script>alert("x")</script>' in seen.text  # as words
    assert "\u202e" not in page
    assert "⟨U+202E⟩gnirts⟨U+202C⟩" in seen.text


def test_it_loads_and_runs_nothing(seen: Seen) -> None:
    assert seen.loads == ["data:,"]
    assert {"link", "iframe", "object", "embed", "script"} & set(seen.tags) == {"link"}
    assert all(anchor.startswith("#") for anchor in seen.anchors)
    assert {anchor[1:] for anchor in seen.anchors} <= set(seen.ids)
    assert len(set(seen.ids)) == len(seen.ids)


def test_it_shows_what_was_observed_and_asked(seen: Seen) -> None:
    assert {"Conflict", "Affinity", "Penalties", "Most confident mistakes", "What was seen in the data"} <= set(
        seen.headings
    )
    assert "repeat the texts of another" in seen.text  # what check sees, with rows and remedy
    assert "keep one, unless that is meant" in seen.text
    assert "which words mattered" in seen.text
    assert "mtbert verify" in seen.text
    assert "steps: 12" in seen.text


def test_the_command_writes_it_into_the_run(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["mtbert", "report", str(run.folder)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    said = capsys.readouterr()
    assert (said.out.strip(), said.err) == (str(run.folder / PAGE), "")
    assert not run.strangers
    assert (run.folder / PAGE).stat().st_size < 3e6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("log.jsonl", "log.jsonl, line 3"),
        ("no log.jsonl", "there is no RUN/log.jsonl"),
        ("no environment.json", "there is no RUN/environment.json"),
        ("no best/scores.json", "RUN/best/scores.json is missing"),
        ("no best/tasks.safetensors", "RUN/best/tasks.safetensors is missing"),
        ("no data/mood-dev.tsv", "/RUN/data/mood-dev.tsv (there: "),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_the_command_says_in_one_line_what_could_not_be_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str, said: str, several: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.folder, "RUN")
    shutil.copytree(run.folder, "OTHER")
    shutil.copytree(run.recipe().data, "RUN/data")
    words = ["mtbert", "report", "RUN", *(["OTHER"] if several else []), "--data", "RUN/data", "--out", "page.html"]
    if name.startswith("no "):
        Path("RUN", name.removeprefix("no ")).unlink()
    else:
        lines = Path("RUN", name).read_text().splitlines(keepends=True)
        Path("RUN", name).write_text("".join(lines[:2]) + lines[2][:20])
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    found = capsys.readouterr()
    assert (end.value.code or 0, found.out) == (0, "page.html\n")
    (note,) = (line for line in found.err.splitlines() if line.startswith("note: RUN "))
    assert said in note
    assert Path("page.html").stat().st_size > 1000


def test_a_place_that_is_no_page_or_not_ours_is_refused(run: Run, tmp_path: Path) -> None:
    for out in (tmp_path / "page.pdf", tmp_path, run.folder / "scores.json"):
        with pytest.raises(Mistake):
            write_page([run], out)
    (tmp_path / "file").write_text("")
    with pytest.raises(Mistake, match="file"):
        write_page([run], tmp_path / "file" / "page.html")


def test_where_the_run_takes_no_page_another_place_does(run: Run, tmp_path: Path) -> None:
    closed = Path(shutil.copytree(run.folder, tmp_path / "closed", ignore=shutil.ignore_patterns(PAGE)))
    (closed / PAGE).mkdir()
    with pytest.raises(Mistake, match=r"report\.html could not be written.*; --out FILE\.html writes the page"):
        write_page([Run.open(closed)])
    assert write_page([Run.open(closed)], tmp_path / "elsewhere.html").stat().st_size > 1000


def test_without_its_data_the_rest_is_there(run: Run, tmp_path: Path) -> None:
    seen = Seen(run_page(run, data=tmp_path))
    assert "The dev rows cannot be shown" in seen.text
    assert "there is no file" in seen.text
    assert len(seen.table("task", "metric", "score")) == 8
    assert {"Overall on dev", "Loss", "Conflict"} <= set(seen.headings)


def test_changed_rows_are_said(run: Run, tmp_path: Path) -> None:
    data = Path(shutil.copytree(run.recipe().data, tmp_path / "data"))
    with (data / "mood-dev.tsv").open("a") as file:
        file.write("500\tgood tea\tlow\n")
    seen = Seen(run_page(run, data=data))
    assert "The dev rows have changed since training" in seen.text
    counts = [[int(cell) for cell in row[1:]] for row in seen.table("label", "low")]
    assert sum(map(sum, counts)) == 13


def test_a_run_that_was_cut_off_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(run.folder, tmp_path / "cut"))
    shutil.rmtree(cut / "best")
    shutil.rmtree(cut / "last")
    (cut / "scores.json").unlink()
    log = (cut / "log.jsonl").read_text()
    (cut / "log.jsonl").write_text(log[: log.index('{"stage": 0, "step": 3')] + '{"stage": 0, "st')
    seen = Seen(run_page(Run.open(cut)))
    assert "Nothing is kept yet" in seen.text
    assert "line 3" in seen.text
    assert "cut off" in seen.text
    assert "Learning rate" in seen.headings
    assert "There are no scores yet" in seen.text


def test_a_run_of_an_older_version_has_its_page(small_data: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(Path(__file__).parents[1] / "runs" / "format_1", tmp_path / "old"))
    recipe = (old / "recipe.yaml").read_text(encoding="utf-8")
    (old / "recipe.yaml").write_text(recipe.replace("data: DATA", f"data: {small_data}"), encoding="utf-8")
    seen = Seen(run_page(Run.open(old)))  # it wrote no outputs: they are made again
    assert seen.table("label", "low", "mid", "high")
    assert "Most confident mistakes" in seen.headings


def test_twenty_tasks(tmp_path: Path) -> None:
    recipe = recipe_over(write_small_data(tmp_path / "data"))
    kinds = list(recipe["tasks"].values())
    recipe["tasks"] = {f"a_task_with_a_long_name_{n}": kinds[n % 3] for n in range(20)}
    recipe["stages"][0] |= {"steps": 20, "evaluate_every": 20, "observe": [{"name": "conflict", "every": 10}]}
    page = run_page(mtbert.train(recipe, out=tmp_path / "run"))
    seen = Seen(page)
    assert len(page) < 3e6
    assert {f"#task-{name}" for name in recipe["tasks"]} <= set(seen.anchors)
    assert "Conflict" in seen.headings


@needs_chromium
def test_a_browser_opens_it_without_complaint(page: str, tmp_path: Path) -> None:
    """The page forbids itself to load anything: a request would be an error on the console."""
    path = tmp_path / "page.html"
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    command += ["--enable-logging=stderr", "--window-size=390,800", "--dump-dom"]
    opened = {}
    for name, content in (("as it is", page), ("with a request", page.replace("<body>", '<body><img src="x.png">'))):
        path.write_text(content, encoding="utf-8")
        found = subprocess.run(
            [*command, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "</html>" in found.stdout
        opened[name] = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    assert opened["as it is"] == []
    assert opened["with a request"]  # so that silence means something


@needs_chromium
@pytest.mark.parametrize(("width", "height"), [(1100, 800), (360, 640)])
def test_the_keyboard_alone_reaches_and_opens_everything(page: str, tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    with browser(tmp_path / "profile") as chromium:
        chromium.open(path.as_uri(), width, height)
        chromium.wait("document.readyState === 'complete' && !!document.querySelector('footer')")
        chromium.press("Tab")
        assert chromium.see("document.activeElement.className") == "skip"
        assert chromium.see("document.activeElement.getBoundingClientRect().top >= 0")  # it shows once it is reached
        chromium.see("void (window.reached = [document.activeElement])")
        every = chromium.see(f"{ACTS}.length")
        opened = 0
        while True:
            chromium.press("Tab")
            if chromium.see("document.activeElement === document.body || window.reached[0] === document.activeElement"):
                break
            assert chromium.see("getComputedStyle(document.activeElement).outlineStyle") != "none"
            if chromium.see("document.activeElement.matches('summary')"):
                chromium.press("Enter")
                opened += chromium.wait("document.activeElement.parentElement.open")
            chromium.see("void window.reached.push(document.activeElement)")
        assert opened == chromium.see("document.querySelectorAll('details').length") > 0
        assert chromium.see(f"{ACTS}.length") > every  # what was folded away can be reached too
        assert chromium.see(f"{ACTS}.filter(one => !window.reached.includes(one)).length") == 0
        assert chromium.see("document.documentElement.scrollWidth") <= width


def test_every_kind_of_task_has_its_part(tmp_path: Path) -> None:
    """Whatever a kind is, its scores, mistakes and texts are shown; its views are those that it offers."""
    recipe = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    assert {task["kind"] for task in recipe["tasks"].values()} == set(KINDS)
    run = mtbert.train(recipe, out=tmp_path / "run")
    seen = Seen(run_page(run))
    assert {f"{name} {task['kind']}" for name, task in recipe["tasks"].items()} <= set(seen.headings)
    assert seen.headings.count("Most confident mistakes") == len(recipe["tasks"])
    scores = {row[2] for row in seen.table("task", "metric", "score")}
    assert {f"{value:.4f}" for some in run.scores["dev"]["tasks"].values() for value in some.values()} <= scores
    assert not [note for note in seen.text.split("Tasks") if "cannot be shown" in note]
