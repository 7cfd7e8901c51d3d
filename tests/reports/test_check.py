"""The dry run tells the truth: counts against counting by hand, problems that are there and no others."""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import CheckReport, SplitReport, check
from mtbert.reports.sights.base import Sight
from mtbert.runs.build import build
from tests.support.screen import assert_fits, shown_lines


def looked(recipe: dict[str, Any]) -> CheckReport:
    return check(build(read_recipe(recipe)))


def split(report: CheckReport, task: str, name: str) -> SplitReport:
    (found,) = (one for one in report.splits if (one.task, one.split) == (task, name))
    return found


def seen(report: CheckReport, task: str, name: str, what: str) -> Sight | None:
    """The sight of that sort, where there is one."""
    return next((one for one in split(report, task, name).sights if one.what == what), None)


@pytest.fixture
def clean(small_recipe: dict[str, Any]) -> dict[str, Any]:
    """One task without a problem: three rows a class, all different."""
    rows = [(f"{word} {number}", word) for word in ("good", "bad") for number in ("one", "two", "three")]
    for name, extra in (("train", ""), ("dev", " more")):
        lines = [f"{text}{extra}\t{label}" for text, label in rows]
        Path(small_recipe["data"], f"clean-{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    task = {"kind": "classification", "text": "text", "label": "label", "classes": ["good", "bad", "ugly"][:2]}
    small_recipe["tasks"] = {"clean": task | {"train": "clean-train.tsv", "dev": "clean-dev.tsv"}}
    return small_recipe


def rewrite(recipe: dict[str, Any], name: str, lines: list[str]) -> None:
    Path(recipe["data"], f"clean-{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")


def test_rows_labels_and_lengths_are_those_that_counting_gives(small_recipe: dict[str, Any]) -> None:
    report = looked(small_recipe)
    assert [(one.task, one.split, one.rows) for one in report.splits] == [
        (task, name, rows) for name, rows in (("train", 40), ("dev", 12)) for task in ("mood", "same", "near")
    ]
    mood = split(report, "mood", "train")
    assert mood.labels == "low 14, mid 13, high 13"
    with Path(small_recipe["data"], "mood-train.tsv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file, delimiter="\t")]
    # the random encoder's pieces are single characters; [CLS] and [SEP] come on top
    lengths = [len(text.replace(" ", "")) + 2 for text in texts]
    assert (mood.mean_length, mood.longest) == (pytest.approx(sum(lengths) / 40), max(lengths))
    repeated = seen(report, "mood", "train", "repeated texts")
    assert (0 if repeated is None else repeated.rows) == len(texts) - len(set(texts))
    assert mood.examples == [((text,), label) for text, label in zip(texts, ("low", "mid", "high"), strict=False)]


def test_a_pairs_example_shows_both_texts_and_its_label_as_understood(small_recipe: dict[str, Any]) -> None:
    report = looked(small_recipe)
    with Path(small_recipe["data"], "same-train.csv").open() as file:
        first = next(csv.DictReader(file))
    assert split(report, "same", "train").examples[0] == ((first["first"], first["second"]), first["same"])
    assert split(report, "near", "train").examples[1][1] == "0.5"


def test_clean_data_have_no_problems(clean: dict[str, Any]) -> None:
    assert looked(clean).problems == []


def test_duplicates_contradictions_and_overlap_are_counted(clean: dict[str, Any]) -> None:
    rewrite(clean, "train", ["a\tgood", "a\tgood", "a\tbad", "b\tgood", "c\tbad", "c\tbad"])
    rewrite(clean, "dev", ["a\tgood", "c\tbad", "d\tgood", "c\tgood"])
    report = looked(clean)
    assert report.problems == [
        "clean train: 3 rows repeat the texts of another",
        "clean train: 1 text has several labels: 1 row another than the first row of the text",
        "clean dev: 1 row repeats the texts of another",
        "clean dev: 1 text has several labels: 1 row another than the first row of the text",
        "clean dev: 1 row has another label than the same texts in train",
        "clean dev: the texts of 3 rows also stand in train",
    ]
    assert [one.examples for one in report.sights] == [
        ["row 2 [good] a", "row 3 [bad] a", "row 6 [bad] c"],
        ["row 1 [good] a\n  and row 3 [bad]"],
        ["row 4 [good] c"],
        ["row 2 [bad] c\n  and row 4 [good]"],
        ["row 4 [good] c\n  in train row 5 [bad]"],
        ["row 1 [good] a", "row 2 [bad] c", "row 4 [good] c"],
    ]
    assert all(one.remedy for one in report.sights)


def test_truncated_rows_are_counted_by_label_with_the_limit(clean: dict[str, Any]) -> None:
    clean["tasks"]["clean"]["max_length"] = 12
    rewrite(clean, "train", ["abcdefghij\tgood", "abcdefghijk\tbad", "a b c d e f g h i j k l\tbad"])
    report = looked(clean)
    cut = seen(report, "clean", "train", "truncation")
    assert cut is not None
    # ten characters and two special tokens just fit
    assert (cut.said, cut.rows) == (
        "2 of 3 rows are cut to 12 tokens (the longest has 14); by label: bad 2 of 2, good 0 of 1",
        2,
    )
    assert cut.examples == ["row 3 [bad] a b c d e f g h i j k l", "row 2 [bad] abcdefghijk"]  # the longest first
    assert "max_length" in cut.remedy


def test_the_encoders_own_length_cuts_too(clean: dict[str, Any]) -> None:
    clean["encoder"]["positions"] = 16
    rewrite(clean, "train", [f"{'x' * 30}\tgood", "y\tbad"])
    (problem, *_) = looked(clean).problems
    assert problem.startswith("clean train: 1 of 2 rows is cut to 16 tokens (the longest has 32)")


def test_skipped_rows_are_listed_with_line_and_reason(clean: dict[str, Any]) -> None:
    clean["tasks"]["clean"]["bad_rows"] = "skip"
    rewrite(clean, "train", ["a\tgood", "b\tawful", "\tbad", "c\tbad"])
    report = looked(clean)
    assert split(report, "clean", "train").rows == 2
    (sight,) = report.sights
    assert str(sight) == "clean train: 2 bad rows skipped"
    assert sight.examples[0].startswith("line 3: column 'label': label 'awful'")
    assert sight.examples[1] == "line 4: column 'text' is empty"


def test_a_class_that_no_row_has_is_named(clean: dict[str, Any]) -> None:
    clean["tasks"]["clean"]["classes"] = ["good", "bad", "ugly"]
    assert looked(clean).problems == ["clean train: no row has the label ugly", "clean dev: no row has the label ugly"]


def test_steps_and_passes_are_those_that_training_takes(small_recipe: dict[str, Any]) -> None:
    stage = small_recipe["stages"][0]
    small_recipe["stages"] = [
        stage | {"sampler": "round_robin", "steps": 9},
        stage | {"steps": None, "epochs": 2, "tasks": "near", "train": "heads"},
    ]
    first, second = looked(small_recipe).stages
    assert first.steps == 9
    assert first.passes == dict.fromkeys(("mood", "same", "near"), pytest.approx(3 / 5))  # 40 rows are 5 batches of 8
    assert (second.steps, second.passes) == (10, {"near": pytest.approx(2.0)})
    assert set(first.first_losses) == {"mood", "same", "near"}
    assert set(second.first_losses) == {"near"}
    model = build(read_recipe(small_recipe)).model
    total, heads = (sum(p.numel() for p in part.parameters()) for part in (model, model.heads))
    assert (first.trained, first.frozen) == (total, 0)
    assert (second.trained, second.frozen) == (heads, total - heads)


def test_what_a_stage_trains_and_freezes_is_said_by_part(small_recipe: dict[str, Any]) -> None:
    stage = small_recipe["stages"][0] | {"steps": 1}
    small_recipe["modules"] = ["lhuc"]
    small_recipe["stages"] = [stage | {"train": part} for part in (["heads", "modules"], "all")]
    first, second = looked(small_recipe).stages
    # three classes, two classes, and a score read from [u; v; |u - v|]; 2 layers x 16 units for each task
    heads, modules = 3 * 17 + 2 * 17 + (3 * 16 + 1), 3 * 2 * 16
    encoder = sum(p.numel() for p in build(read_recipe(small_recipe)).model.encoder.parameters())
    assert first.trained_parts == {"heads": heads, "modules lhuc": modules}
    assert first.frozen_parts == {"encoder": encoder}
    assert second.trained_parts == {"heads": heads, "modules lhuc": modules, "encoder": encoder}
    assert second.frozen_parts == {}


def test_the_first_loss_of_a_fresh_classifier_is_near_that_of_a_guess(small_recipe: dict[str, Any]) -> None:
    (stage,) = looked(small_recipe).stages
    assert stage.first_losses["mood"] == pytest.approx(torch.tensor(3.0).log().item(), abs=0.5)


def test_time_and_memory_are_estimated(small_recipe: dict[str, Any]) -> None:
    report = looked(small_recipe)
    assert report.peak_memory_gib > 0.05
    (stage,) = report.stages
    assert 0 < stage.seconds_per_step < 5
    assert stage.minutes >= stage.steps * stage.seconds_per_step / 60


def test_a_thousand_times_the_steps_take_far_longer(small_recipe: dict[str, Any]) -> None:
    longer = copy.deepcopy(small_recipe)
    longer["stages"][0]["steps"] = 12_000
    once, often = (looked(recipe).stages[0] for recipe in (small_recipe, longer))
    assert often.minutes > 100 * once.minutes  # a loose bound: both are timed


def test_the_time_of_a_step_is_not_that_of_encoding_the_data_once(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_recipe["stages"][0] |= {"train": "heads", "sampler": "round_robin", "steps": 60}
    experiment, happened = build(read_recipe(small_recipe)), []
    experiment.model.encoder.word_embedding.register_forward_pre_hook(lambda *_: happened.append("encoded"))

    def timed(steps: Iterable[Any], many: int) -> Iterator[Any]:
        happened.append("timed")
        return islice(steps, many)

    monkeypatch.setattr("mtbert.reports.check.islice", timed)
    check(experiment)
    before, after = happened[: happened.index("timed")], happened[happened.index("timed") + 1 :]
    assert "encoded" in before
    assert "encoded" not in after


def test_a_report_is_json(small_recipe: dict[str, Any]) -> None:
    report = looked(small_recipe)
    assert json.loads(json.dumps(report.as_dict()))["stages"][0]["steps"] == 12
    assert json.loads(json.dumps(report.as_dict()))["problems"] == report.problems


def test_a_dry_run_writes_nothing_beside_the_data(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    looked(small_recipe)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_every_task_has_a_first_loss_and_penalties_their_share_of_the_gradient(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"][0] |= {"tasks": ["mood", "near"], "regularizers": [{"name": "gaussian", "tasks": "mood"}]}
    stage = check(build(read_recipe(small_recipe))).stages[0]
    assert set(stage.first_losses) == {"mood", "near"}
    # an untrained model says three classes almost alike
    assert stage.first_losses["mood"] == pytest.approx(math.log(3), abs=0.2)
    assert stage.gradient_shares["near"] == {"loss": 1.0}
    assert 0 < stage.gradient_shares["mood"]["gaussian"] < 1
    assert sum(stage.gradient_shares["mood"].values()) == pytest.approx(1.0)
    assert sum(stage.batches.values()) == stage.steps


def test_a_penalty_that_warms_up_shows_its_share(small_recipe: dict[str, Any]) -> None:
    warming = {"name": "l2_to_pretrained", "weight": {"name": "linear", "value": 1.0}}
    small_recipe["stages"][0] |= {"tasks": ["mood"], "regularizers": [warming], "steps": 10}
    assert check(build(read_recipe(small_recipe))).stages[0].gradient_shares["mood"]["l2_to_pretrained"] > 0


# ---- what a person sees


def test_what_is_seen_of_one_sort_stands_together_with_one_remedy(clean: dict[str, Any]) -> None:
    for name in ("train", "dev"):
        rewrite(clean, name, [f"{name} a\tgood", f"{name} a\tgood", f"{name} b\tbad"])
    lines = shown_lines(looked(clean), 80)
    start = lines.index("problem: repeated texts")
    assert lines[start + 1 : start + 6] == [
        "  clean train: 1 row repeats the texts of another",
        "    row 2 [good] train a",
        "  clean dev: 1 row repeats the texts of another",
        "    row 2 [good] dev a",
        "  remedy: each is learned from, and scored, as often as it stands there: keep",
    ]


def test_many_tasks_are_a_table_with_an_example_each(clean: dict[str, Any]) -> None:
    clean["tasks"] = {f"clean_{number:02}": clean["tasks"]["clean"] for number in range(20)}
    clean["stages"][0] |= {"steps": 2, "sampler": "proportional"}
    lines = shown_lines(looked(clean), 80)
    assert_fits(lines, 80)
    assert len(lines) < 200
    assert sum("<-" in line for line in lines) == 20
    assert next(line for line in lines if line.startswith("clean_07 dev")).split()[2] == "6"


# ---- what the vocabulary does not know


def test_texts_that_the_vocabulary_cannot_tell_apart_are_counted(clean: dict[str, Any]) -> None:
    signs = ["\U0001f600", "\U0001f601", "\U0001f602", "\U0001f603"]
    rewrite(clean, "train", [f"{sign}\t{['good', 'bad'][i % 2]}" for i, sign in enumerate(signs)])
    report = looked(clean)
    assert report.problems == [
        "clean train: the vocabulary does not know 100.00% of the tokens, in 4 rows of 4",
        "clean train: 4 different texts have the tokens of another, 4 of them with tokens that the vocabulary does not "
        "know",
    ]
    assert [one.examples[0] for one in report.sights] == ["row 1 [good] \U0001f600"] * 2


def test_texts_that_differ_in_case_alone_are_counted_and_no_problem(clean: dict[str, Any]) -> None:
    rewrite(clean, "train", ["Warm\tgood", "warm\tgood", "warm \tgood", "cold\tbad"])
    report = looked(clean)
    (note,) = report.sights
    assert (note.what, note.rows, note.problem) == ("equal tokens", 3, False)
    assert report.problems == []


def test_a_long_list_of_absent_classes_is_cut(clean: dict[str, Any]) -> None:
    clean["tasks"]["clean"]["classes"] = ["good", "bad", *(f"class {i}" for i in range(500))]
    absent = [problem for problem in looked(clean).problems if "no row has the label" in problem]
    assert len(absent) == 2
    assert all(problem.endswith("class 19 and 480 more") for problem in absent)


def test_texts_that_another_task_is_trained_on_are_counted(clean: dict[str, Any]) -> None:
    task = clean["tasks"]["clean"]
    lines = [
        f"{text}\tother {number}\t{'ab'[number % 2]}"
        for number, text in enumerate(("good one more", "x", "bad two more"))
    ]
    for split, texts in {"train": lines, "dev": ["p\tq\ta", "r\tgood one\tb"]}.items():
        Path(clean["data"], f"pairs-{split}.tsv").write_text("\n".join(["one\ttwo\tlabel", *texts]) + "\n")
    pairs = {"text": ["one", "two"], "classes": ["a", "b"], "train": "pairs-train.tsv", "dev": "pairs-dev.tsv"}
    clean["tasks"]["pairs"] = task | pairs
    assert looked(clean).problems == [
        "clean dev: 2 rows of 6 with a text that task 'pairs' is trained on",
        "pairs dev: 1 row of 2 with a text that task 'clean' is trained on",
    ]


def test_classes_that_differ_by_case_only_are_said(clean: dict[str, Any]) -> None:
    del clean["tasks"]["clean"]["classes"]
    for split in ("train", "dev"):
        rewrite(clean, split, [f"{split} {word}\t{word}" for word in ("good", "Good", "bad")])
    assert looked(clean).problems == ["clean train: the classes Good and good differ by case only"]


def test_a_task_of_which_no_batch_is_drawn_is_a_problem(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"] = [{"sampler": "sequential", "steps": 1, "batch_size": 8}]
    report = check(build(read_recipe(small_recipe)))
    told = [line.split(":")[0] for line in report.problems if "no stage draws a batch of it" in line]
    assert told == list(small_recipe["tasks"])[1:] == ["same", "near"]
